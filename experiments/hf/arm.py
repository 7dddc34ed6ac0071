"""An arm of a trained study, opened to be exported: one seed of it, and what the study decided."""

from __future__ import annotations

from pathlib import Path

from arch.spec import UserError
from experiments.config import render
from experiments.study.engine import seed_group
from experiments.study.from_arm import parents
from experiments.study.report import stored
from experiments.study.results import Results
from experiments.study.study import Study
from experiments.study.work import folder as study_folder
from experiments.study.work.cells import Cells
from train.ensemble import Ensemble
from train.trained import TrainedRun, open_run


def is_study(folder: Path) -> bool:
    """Whether `folder` is that of a study."""
    return (folder / study_folder.FILE).exists()


def open_arm(
    folder: Path, name: str | None, replica: int = 0, *, trust: bool = False
) -> tuple[TrainedRun, Path, Results]:
    """(the run of seed `replica` of arm `name`, its folder, the results of the study).

    Raises:
      UserError: there is no such arm or seed, it starts from another arm, or its checkpoint is not here.
    """
    study, results = render.read(folder, trust=trust), stored.read(folder)
    if not isinstance(study, Study):
        raise UserError(
            f"{folder}: holds a {type(study).__name__} that a sweep was made of; export the folder of a run"
        )
    found = [arm for arm in results.arms if arm.name == name]
    if name is None or not found or name not in study.arms:
        raise UserError(f"--arm={name}: is no arm of {folder}; it has {', '.join(study.arms)}")
    if parents(study.arms[name]):
        raise UserError(f"--arm={name}: starts or learns from another arm; only arms that need none are exported")
    group = seed_group(study, found[0], range(study.looks[0]))
    at = Cells(folder).group_folder(group)
    if not at.exists():
        raise UserError(f"--arm={name}: its checkpoints are not in {folder}; it was trained elsewhere")
    if replica >= len(group.rows):
        raise UserError(f"--replica={replica}: {name} has {len(group.rows)} seeds, counted from 0")
    return open_run(study.arms[name], at, ensemble=Ensemble(group.rows), replica=replica), at, results
