"""An arm that starts from another: the trained members of one family, trained on as the other.

    arms={"encoder": ..., "decoder from encoder": replace(decoder, start=FromArm("encoder"))}

The other arm may stand within another start: KMeansCodes(FromArm("encoder")). Seed s starts from seed s of the other
arm, at its best learning rate. The arm's own rate is swept on seeds of its own order of the data, which start from the
first seeds of the other arm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from arch.spec import Problem, UserError, walk
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


def generations(arms: Mapping[str, Run]) -> list[list[str]]:
    """The arms that start from none, those that start from these, and so on. Raises UserError for a circle."""
    done: list[list[str]] = []
    left = list(arms)
    while left:
        before = {name for names in done for name in names}
        now = [name for name in left if parent(arms[name]) is None or parent(arms[name]) in before]
        if not now:
            raise UserError(f"arms {', '.join(left)}: start from each other in a circle")
        done.append(now)
        left = [name for name in left if name not in now]
    return done


def from_arm_problems(arms: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the arms that arms start from."""
    known = [name for name, run in arms.items() if isinstance(run, Run)]
    wrong = [name for name in known if (other := parent(arms[name])) is not None and other not in arms]
    for name in wrong:
        yield Problem(f"arms[{name}].start.arm", parent(arms[name]), f"is no arm; there are {', '.join(arms)}")
    if not wrong:
        try:
            generations({name: arms[name] for name in known})
        except UserError as error:
            yield Problem("arms", ", ".join(known), str(error).partition(": ")[2])
