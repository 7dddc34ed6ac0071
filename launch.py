"""Strata's one program: trains, generates, evaluates, inspects, compares and reports what configuration files describe,
and exchanges models with Hugging Face.

python launch.py train --config=experiments/FILE.py[:FORM] [--config.model.depth=12 ...] [--run_folder=...]
python launch.py train --config=experiments/FILE.py --export_every=1000 [--to=FOLDER]
python launch.py compare RUN_FOLDER RUN_FOLDER ... [--out=FOLDER]
python launch.py report STUDY_FOLDER ... [--out=FOLDER]
python launch.py codes RUN_FOLDER [--read=200000] [--out=FOLDER]
python launch.py codes RUN_FOLDER RUN_FOLDER [--read=20000]
python launch.py export RUN_FOLDER --to=FOLDER [--dtype=bfloat16] [--arm=NAME, of a STUDY_FOLDER]
python launch.py import FOLDER --workdir=RUN_FOLDER
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from arch.spec import SpecError, UserError
from experiments.config.errors import spec_error_lines
from experiments.config.flags import Command, define_path, parser
from experiments.config.load import split

RUN_FOLDER = define_path("run_folder", None, "Where the run is kept, also gs://. Default: runs/FILE.FORM.")
DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")
PROFILE_START = flags.DEFINE_integer("profile_start", None, "First step to record with the profiler.", lower_bound=1)
PROFILE_STEPS = flags.DEFINE_integer("profile_steps", 5, "How many steps to record.", lower_bound=1)
PROMPT = flags.DEFINE_multi_string("prompt", [], "generate: text to continue, of an encoder-decoder the source; may be "
                                   "given several times.")  # fmt: skip
TOKENS = flags.DEFINE_integer("tokens", 200, "generate: how many tokens.", lower_bound=1)
TEMPERATURE = flags.DEFINE_float("temperature", 0.8, "generate: 0 is greedy.", lower_bound=0.0)
TOP_K = flags.DEFINE_integer("top_k", None, "generate: only the K most probable tokens.", lower_bound=1)
TOP_P = flags.DEFINE_float("top_p", None, "generate: only the nucleus of this probability.", lower_bound=0.0)
BEAM = flags.DEFINE_integer("beam", None, "generate: beam search with so many hypotheses.", lower_bound=1)
LENGTH_PENALTY = flags.DEFINE_float("length_penalty", 0.0, "generate --beam: alpha of GNMT.", lower_bound=0.0)
COVERAGE = flags.DEFINE_float("coverage", 0.0, "generate --beam: beta of GNMT, of a source.", lower_bound=0.0)
PRUNE = flags.DEFINE_float("prune", None, "generate --beam: nats below the best that are not tried.", lower_bound=0.0)
ATTENTION = define_path("attention", None, "generate: SVG file for a picture of what was attended to.")
SAMPLE_SEED = flags.DEFINE_integer("sample_seed", 0, "generate: seed of the draws.", lower_bound=0,
                                   upper_bound=2**32 - 1)  # fmt: skip
OUT = define_path(
    "out", None, "Folder for the report. Default: none of compare, STUDY_FOLDER of report, RUN_FOLDER of codes."
)
METRIC = flags.DEFINE_string("metric", None, "compare: as val/loss. Default: val/bits_per_byte where all runs have it.")
SWEEP = flags.DEFINE_string("sweep", None, "train: fields and values to vary, as model.depth=1,2;model.width=32,64.")
SEEDS = flags.DEFINE_integer("seeds", None, "train --sweep: how often each point is trained; default 1.", lower_bound=1)
SUITE = flags.DEFINE_string("suite", None, "evaluate: a suite of scores, as language (docs/runs.md), or MODULE:NAME.")
CELLS = define_path("cells", None, "train a study: folder of trained cells to share with other studies.")
TRUST_CELLS = flags.DEFINE_bool("trust_cells", False, "train: take cells that other code has trained, and go on with "
                                "a run that it has begun.")  # fmt: skip
TRUST_CODE = flags.DEFINE_bool("trust_code", False, "Import and execute what the configuration of a run folder names, "
                               "also if another user or machine has written it.")  # fmt: skip
EXECUTOR = flags.DEFINE_enum("executor", "in_process", ["in_process", "ray"], "train a study: who does the work.")
RAY_ADDRESS = flags.DEFINE_string("ray_address", None, "Ray cluster, as auto or ray://HOST:10001. Default: here.")
RAY_RESOURCES = flags.DEFINE_list("ray_resources", [], "What one task takes on Ray, as cpus=4,gpus=1,TPU=4.")
RESULTS = define_path("results", None, "train a study: folder that gets numbers, tables and plots too.")
READ = flags.DEFINE_integer("read", 200_000, "codes: how many tokens are read; of two runs 20,000 by default.",
                            lower_bound=1)  # fmt: skip
ACTIVATE = flags.DEFINE_multi_string(
    "activate",
    [],
    "generate: a code that is active throughout, SITE:LAYER:CODE or SITE:LAYER:GROUP:CODE, as mlp_out:2:417; may be "
    "given several times.",
)
TO = define_path("to", None, "export: the new folder. train: that of the exports; default RUN_FOLDER/export.")
EXPORT_EVERY = flags.DEFINE_integer("export_every", None, "train: export every so many steps, into --to/STEP.",
                                    lower_bound=1)  # fmt: skip
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16", "float16"], "export: type of the numbers.")
CHECK = flags.DEFINE_enum("check", "auto", ["auto", "off"], "export: compare logits with Transformers, if installed.")
SHARD_BYTES = flags.DEFINE_integer("shard_bytes", 5 * 10**9, "export: bytes of a file of weights.", lower_bound=1)
ARM = flags.DEFINE_string("arm", None, "export of a study: which arm.")
REPLICA = flags.DEFINE_integer("replica", 0, "export of a study: which seed, counted from 0.", lower_bound=0)
WORKDIR = define_path("workdir", None, "import: the new run folder.")
LIKE = define_path("like", None, "import: FILE.py[:FORM] of a run, for data, objective and optimiser.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, or auto. TPU pods need none.")
CPU_DEVICES = flags.DEFINE_integer("cpu_devices", None, "On a CPU: as how many devices its cores are used; each gets "
                                   "rows of its own, which is a little faster.", lower_bound=1)  # fmt: skip
PROCESS_COUNT = flags.DEFINE_integer("process_count", None, "Processes in all, with --coordinator.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which process this is, with --coordinator.")


def train(command: Command) -> None:
    from train.run import Run

    if SWEEP.value is not None or not isinstance(command.spec, Run):
        if EXPORT_EVERY.value is not None:
            raise UserError("--export_every: of a run; of a study, export STUDY_FOLDER --arm=NAME when it is trained")
        train_study(command)
        return
    if SEEDS.value is not None:
        raise UserError(f"--seeds: belongs to --sweep; a run alone has one, --config.seed={SEEDS.value}")
    from experiments import commands
    from experiments.config import render
    from train import loop
    from train.runtime.profiling import Window

    folder, start = run_folder(command), time.perf_counter()
    trained = loop.train(
        command.spec,
        folder,
        describe=lambda at: render.write(at, command.spec, command.original, command.reference),
        profile=None if PROFILE_START.value is None else Window(PROFILE_START.value, PROFILE_STEPS.value),
        trust=TRUST_CELLS.value,
        hooks=[] if EXPORT_EVERY.value is None else [export_every(EXPORT_EVERY.value, folder)],
    )
    commands.show_trained(trained, folder, time.perf_counter() - start)


def export_every(steps: int, folder: str) -> Any:
    """The hook of --export_every."""
    from experiments.hf.every import ExportEvery

    return ExportEvery.into(steps, folder, TO.value, export_options())


def train_study(command: Command) -> None:
    from experiments.study.command import Options, train_study  # plots and statistics take a while to import

    options = Options(
        sweep=SWEEP.value,
        seeds=SEEDS.value,
        cells=CELLS.value,
        executor=EXECUTOR.value,
        ray_address=RAY_ADDRESS.value,
        resources=RAY_RESOURCES.value,
        results=RESULTS.value,
        trust_cells=TRUST_CELLS.value,
    )
    train_study(command, run_folder(command), options)


def generate(command: Command) -> None:
    from experiments import commands

    given = [name for name in ("length_penalty", "coverage", "prune") if flags.FLAGS[name].present]
    if given and BEAM.value is None:
        raise UserError(f"--{given[0]} belongs to beam search: give --beam as well")
    if BEAM.value is not None:
        strategy = commands.beam(BEAM.value, LENGTH_PENALTY.value, COVERAGE.value, PRUNE.value)
    else:
        strategy = commands.sampling(TEMPERATURE.value, TOP_K.value, TOP_P.value)
    commands.generate(
        command,
        run_folder(command),
        PROMPT.value,
        strategy,
        tokens=TOKENS.value,
        seed=SAMPLE_SEED.value,
        attention=ATTENTION.value,
        activate=ACTIVATE.value,
    )


def evaluate(command: Command) -> None:
    from experiments import commands

    commands.evaluate(command, run_folder(command), SUITE.value)


def inspect(command: Command) -> None:
    from experiments import commands

    commands.inspect(command)


def compare(command: Command) -> None:
    from experiments import commands

    commands.compare(command, OUT.value, METRIC.value, trust=TRUST_CODE.value)


def report(command: Command) -> None:
    from experiments import commands

    commands.report(command, OUT.value)


def codes(command: Command) -> None:
    from experiments.codes import seeds
    from experiments.codes.command import codes

    if len(command.words) == 2:
        if OUT.value is not None:
            raise UserError("codes of two runs are a table alone: leave out --out")
        seeds.show(*command.words, *([READ.value] if flags.FLAGS["read"].present else []), trust=TRUST_CODE.value)
        return
    if len(command.words) != 1:
        raise UserError("codes takes one run folder, or two to compare: codes RUN_FOLDER [RUN_FOLDER]")
    codes(command.words[0], OUT.value, tokens=READ.value, trust=TRUST_CODE.value)


def export_options() -> Any:
    """How a run is exported, by the flags."""
    from experiments.hf.export import Options

    return Options(
        dtype=DTYPE.value,
        check=CHECK.value == "auto",
        shard=SHARD_BYTES.value,
        arm=ARM.value,
        replica=REPLICA.value,
        trust=TRUST_CODE.value,
    )


def export(command: Command) -> None:
    from experiments.hf.export import export

    if TO.value is None or len(command.words) != 1:
        raise UserError("export takes one run folder and a new folder: export RUN_FOLDER --to=FOLDER")
    export(command.words[0], TO.value, export_options())


def import_(command: Command) -> None:
    from experiments.hf.imports import import_

    if WORKDIR.value is None or len(command.words) != 1:
        raise UserError(
            "import takes one folder, GGUF file or name, and a new run folder: import NAME --workdir=RUN_FOLDER"
        )
    import_(command.words[0], WORKDIR.value, LIKE.value)


COMMANDS: dict[str, tuple[Callable[[Command], Any], str]] = {
    "train": (train, "train a model or a study, or go on with the one in --run_folder"),
    "generate": (generate, "continue a --prompt with a trained model"),
    "evaluate": (evaluate, "the metrics of a trained model, or its scores in a --suite"),
    "inspect": (inspect, "show configuration, parameters, FLOPs and memory, without training"),
    "compare": (compare, "trained runs side by side: what differs, costs, metrics, verdicts"),
    "report": (report, "the page, tables and plots of trained studies, from their results.json"),
    "codes": (
        codes,
        "what the codebooks of a trained run fire on, as a table and a page; of two, how much is the same",
    ),
    "export": (export, "a trained run as a folder --to that Transformers opens"),
    "import": (
        import_,
        "a folder of Transformers, its hub's OWNER/NAME, a GGUF file or smollm2, as the run folder --workdir",
    ),
}
WORDS = {
    "compare": "RUN_FOLDER RUN_FOLDER ...",
    "report": "STUDY_FOLDER ...",
    "codes": "RUN_FOLDER [RUN_FOLDER]",
    "export": "RUN_FOLDER --to=FOLDER",
    "import": "FOLDER|FILE.gguf|NAME --workdir=RUN_FOLDER",
}


def run_folder(command: Command) -> str:
    """The folder of the run: as given, else named after the file and form."""
    file, form = split(command.reference)
    return RUN_FOLDER.value or str(Path("runs") / ".".join(filter(None, (Path(file).stem, form))))


def start() -> None:
    """Joins the other processes, if any, and keeps compiled programs for the next time."""
    from train.runtime.compilation import enable_compilation_cache
    from train.runtime.distributed import initialize
    from train.runtime.host import divide_cores, keep_freed_memory

    keep_freed_memory()
    if CPU_DEVICES.value is not None:
        divide_cores(CPU_DEVICES.value)
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbax tells dozens of lines about each checkpoint
    initialize(COORDINATOR.value, PROCESS_COUNT.value, PROCESS_ID.value)
    enable_compilation_cache()


def main(command: Command) -> int:
    try:
        COMMANDS[command.verb][0](command)
    except (UserError, SpecError) as error:
        if DEBUG.value:
            raise
        lines = str(error).splitlines()
        if isinstance(error, SpecError):
            lines = spec_error_lines(error, command.spec, command.given)
        print("\n".join(lines), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from train.runtime import memory as room

        if DEBUG.value or not room.is_out_of_memory(error):
            raise
        print(room.line(error), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=parser({verb: what for verb, (_, what) in COMMANDS.items()}, start=start, words=WORDS))
