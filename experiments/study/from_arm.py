"""An arm that starts or learns from another: the trained members of one family, trained on as the other, or a teacher.

    arms={"encoder": ..., "decoder from encoder": replace(decoder, start=FromArm("encoder"))}

The other arm may stand within another start: KMeansCodes(FromArm("encoder")). Seed s starts from seed s of the other
arm, at its best learning rate. The arm's own rate is swept on seeds of its own order of the data, which start from the
first seeds of the other arm.

Within an objective, Distill(Pretrained(model, FromArm("teacher"))), all seeds learn from the first seed of that arm: a
frozen model is one for all replicas of a program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from arch.spec import Problem, Spec, UserError, walk
from train.run import Run
from train.starts.start import FromRun, Start


@dataclasses.dataclass(frozen=True)
class FromArm(Start):
    """The parameters and buffers of an arm of the same study; `take` and `rename` as in `FromRun`."""

    arm: str
    take: tuple[str, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()

    def problems(self) -> Iterator[Problem]:
        yield from FromRun(self.arm, self.take, self.rename).problems()

    def digest(self):
        return None

    def origins(self):
        return {}  # before the other arm is trained, a table can tell of no array

    def arrays(self):
        raise UserError(f"start: FromArm({self.arm!r}) is known in a study alone; give a run FromRun(folder)")

    def of(self, folder: str) -> FromRun:
        """The start that it is where the other arm was trained in `folder`; each replica has its own number."""
        return FromRun(folder, self.take, self.rename, replica=0)


def parent(run: Run) -> str | None:
    """The arm that a run starts from; None: none."""
    found = within(run.start)
    return None if found is None else found[1].arm


def teachers(run: Run) -> list[str]:
    """The arms that its objective reads."""
    return [node.arm for _, node in walk(run.objective, "objective") if isinstance(node, FromArm)]


def shared_teachers(arms: Mapping[str, Run]) -> list[str]:
    """A note for each arm that learns from another: its seeds share one teacher, and so have no other's spread."""
    return [
        f"All seeds of {name} learn from seed 0 of {', '.join(learns)}: its interval has no room for others."
        for name, run in arms.items()
        if (learns := teachers(run))
    ]


def parents(run: Run) -> list[str]:
    """All arms that have to be trained before `run`."""
    first = parent(run)
    return [*([] if first is None else [first]), *teachers(run)]


def within(start: Start | None) -> tuple[str, FromArm] | None:
    """The path in a run at which its start is one from an arm, and that; None: nowhere."""
    return next(((path, node) for path, node in walk(start, "start") if isinstance(node, FromArm)), None)


def settled(start: Start, folder: str) -> Start:
    """`start` where the arm that it is from was trained in `folder`."""
    if isinstance(start, FromArm):
        return start.of(folder)
    nested = {field.name: getattr(start, field.name) for field in dataclasses.fields(start)}
    inner = {name: settled(value, folder) for name, value in nested.items() if isinstance(value, Start)}
    return dataclasses.replace(start, **inner)


def taught(spec: Any, places: Mapping[str, tuple[str, int | None]]) -> Any:
    """A part of a run with every `FromArm` in it settled: arm -> the folder that it was trained in, and the replica."""
    if isinstance(spec, FromArm):
        folder, replica = places[spec.arm]
        return dataclasses.replace(spec.of(folder), replica=replica)
    nested = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    return dataclasses.replace(spec, **{n: taught(one, places) for n, one in nested.items() if isinstance(one, Spec)})


def generations(arms: Mapping[str, Run]) -> list[list[str]]:
    """The arms that need no other, those that start or learn from these, and so on. Raises UserError for a circle."""
    done: list[list[str]] = []
    left = list(arms)
    while left:
        before = {name for names in done for name in names}
        now = [name for name in left if before.issuperset(parents(arms[name]))]
        if not now:
            raise UserError(f"arms {', '.join(left)}: start from each other in a circle")
        done.append(now)
        left = [name for name in left if name not in now]
    return done


def from_arm_problems(arms: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the arms that arms start from."""
    known = [name for name, run in arms.items() if isinstance(run, Run)]
    wrong = [(name, other) for name in known for other in parents(arms[name]) if other not in arms]
    for name, other in wrong:
        field = "objective" if other in teachers(arms[name]) else "start"
        yield Problem(f"arms[{name}].{field}", other, f"is no arm; there are {', '.join(arms)}")
    if not wrong:
        try:
            generations({name: arms[name] for name in known})
        except UserError as error:
            yield Problem("arms", ", ".join(known), str(error).partition(": ")[2])
