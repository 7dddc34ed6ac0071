"""A part is edited between two commands: evaluating says so, going on is refused unless it is accepted."""

import pytest

from tests.launching import launched

CONFIG = '''
import dataclasses

import jax.numpy as jnp
from flax import nnx

from arch.blocks import PreNorm
from arch.layers.attention.softmax import Attention
from arch.layers.norms.common import Norm
from arch.models.decoder import Decoder
from train.data import LocalText, Text
from train.run import Logging, Run


@dataclasses.dataclass(frozen=True)
class Plain(Norm):
    """No norm at all."""

    def build(self, width, make, axis="embed"):
        return Layer()


class Layer(nnx.Module):
    def __call__(self, x, ctx):
        return x


def get_config(form=""):
    return Run(
        model=Decoder(vocab=256, width=16, depth=1, norm=Plain(),
                      block=PreNorm(mixer=Attention(heads=2), norm=Plain())),
        data=Text(source=LocalText({files!r}, validation=0.3, per="line"), length=16),
        batch=4, steps=2, logging=Logging(log=1, evaluate=0, checkpoint=0),
    )
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    (folder / "text.txt").write_text("".join(f"the {n} little words of line {n * n}\n" for n in range(60)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture
def launch(home, capsys):
    """`launch("train", ...)` -> (exit status, lines of standard output, standard error), in the folder of one run."""

    def run(verb, *words):
        status = launched(verb, f"--config={home / 'mine.py'}", f"--run_folder={home / 'run'}", *words)
        shown = capsys.readouterr()
        return status, shown.out.splitlines(), shown.err

    return run


def write(home, old: str = "", new: str = "") -> None:
    assert old in CONFIG
    (home / "mine.py").write_text(CONFIG.format(files=str(home / "text.txt")).replace(old, new))


def test_a_run_whose_code_was_edited(home, launch):
    write(home)
    (before,) = [line for line in launch("train")[1] if line.startswith("validation")]

    write(home, '"""No norm at all."""', '"""The identity."""  # which is not to be confused')
    status, out, err = launch("evaluate")
    assert (status, err) == (0, "")
    assert before in out
    assert not any("other code" in line for line in out)

    write(home, "        return x\n", "        return 0 * jnp.abs(x)\n")
    status, out, err = launch("evaluate")
    assert (status, err) == (0, "")
    told = [line for line in out if "other code" in line]
    assert told == [f"{home / 'run'}: holds a run of other code ({module(home)} differs)"]
    assert before not in out

    files = {path: path.read_bytes() for path in (home / "run").rglob("*") if path.is_file()}
    status, _, err = launch("train")
    assert (status, err.count("\n")) == (2, 1)
    assert "holds a run of other code" in err
    assert "--trust_cells to go on" in err
    assert {path: path.read_bytes() for path in (home / "run").rglob("*") if path.is_file()} == files
    status, out, err = launch("train", "--trust_cells")
    assert (status, err) == (0, "")
    assert sum("holds a run of other code" in line for line in out) == 1
    assert any("going on from step 2" in line for line in out)


def module(home) -> str:
    from experiments.config.load import module_name

    return module_name((home / "mine.py").resolve())
