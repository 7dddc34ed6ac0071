"""Exports in the oldest Transformers 5, in an environment of its own, made over the network; or in that of
`STRATA_OLDER_PYTHON`, a Python that has torch and that release.
"""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from arch.hf.folder import write
from experiments.pair_sizes import T5GemmaSize
from tests.arch.hf import cases, generated_cases, test_generated
from tests.arch.hf.generated_cases import PAIRS, drawn, planned

pytestmark = pytest.mark.slow

RELEASE = "5.0.0"
NATIVE = [*{name.split()[0]: name for name in reversed(cases.CASES)}.values(), "t5 gated untied"]
WIDE = {
    "t5gemma whose windows hide nothing": T5GemmaSize(2, 32, 40, 4, 2, head_dim=8, window=64, vocab=cases.V).model()
}
CODE = ("block pre", "window", "windows by layer", "position alibi", "softcap and scale", "qk-norm across heads",
        "mixer linear", "codebooks at attn.z", "encoder bert", "encoder local", "classifier", "pair t5")  # fmt: skip
MOST = {"t5_gated_untied": 5e-5}
"""Its scores are not scaled: float32 is that far from float64 in either release."""
CHANGED = {"t5gemma": (0.01, 1.0)}
"""What that release computes otherwise, as the export says: from where to where the difference is."""

THERE = """
import json, sys
from pathlib import Path
import numpy, torch, transformers

assert transformers.__version__ == sys.argv[2], transformers.__version__
transformers.utils.logging.disable_progress_bar()
found = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    held = numpy.load(folder / "expected.npz")
    config = json.loads((folder / "config.json").read_text())
    own = "auto_map" in config
    name = next(one for one in config["auto_map"] if "For" in one) if own else config["architectures"][0]
    model, report = getattr(transformers, name).from_pretrained(
        folder, output_loading_info=True, **({"trust_remote_code": True} if own else {"attn_implementation": "eager"})
    )
    model.eval()
    ids = torch.from_numpy(held["tokens"]).long()
    asked = {"input_ids": torch.from_numpy(held["source"]).long(), "decoder_input_ids": ids} if "source" in held else {
        "input_ids": ids}
    with torch.no_grad():
        logits = model(**asked).logits.numpy()
    rows = {}
    if model.can_generate() and "source" not in held:
        for cached in (True, False):
            told = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
            row = model.generate(ids, use_cache=cached, **told)
            rows[cached] = row.tolist()
    found[folder.name] = {
        "gap": float(abs(logits - held["logits"]).max() / abs(held["logits"]).max()),
        "loaded": not any(report.values()),
        "cached": len(rows) == 0 or rows[True] == rows[False],
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """The Python of an environment with that release."""
    if "STRATA_OLDER_PYTHON" in os.environ:
        return os.environ["STRATA_OLDER_PYTHON"]
    home = tmp_path_factory.mktemp("older")
    # Not of this interpreter's environment, and without its packages: those of Transformers would be the new ones.
    subprocess.run([sys.executable, "-m", "venv", home], check=True, timeout=200)
    torch = re.search(r"^torch==\S+", Path("requirements-dev.txt").read_text(), re.M)[0]
    command = [home / "bin" / "python", "-m", "pip", "install", "--quiet", torch, f"transformers=={RELEASE}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    if done.returncode:
        pytest.skip(f"transformers=={RELEASE} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return str(home / "bin" / "python")


@pytest.fixture(scope="module")
def found(older, tmp_path_factory):
    """Name of a case -> what came out there."""
    root, home = tmp_path_factory.mktemp("exports"), tmp_path_factory.mktemp("home")
    for name, (spec, params) in [*((name, cases.drawn(name)) for name in NATIVE),
                                 *((name, cases.random(spec)) for name, spec in WIDE.items())]:  # fmt: skip
        text, source = cases.tokens(), cases.tokens(length=14, seed=1) if "t5" in name else None
        cases.export(spec, params, root / plain(name))
        keep(root / plain(name), text, source, cases.logits(spec, params, text, source))
    for name in CODE:
        spec, text = generated_cases.CASES[name], test_generated.tokens()
        source = test_generated.tokens(seed=1) if name in PAIRS else None
        told = test_generated.inputs(text)
        told = told if source is None else dataclasses.replace(told, source=test_generated.inputs(source))
        write(planned(spec, cases.FACTS), root / f"code_{plain(name)}")
        keep(root / f"code_{plain(name)}", text, source, test_generated.ours(spec, drawn(spec)[1], told))
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    environment.pop("HF_MODULES_CACHE", None)
    command = [older, "-W", "ignore", "-c", THERE, str(root), RELEASE]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def plain(name):
    """A name of a folder that a module can have."""
    return re.sub(r"\W+", "_", name)


def keep(folder, tokens, source, logits):
    told = {"tokens": tokens, "logits": logits}
    np.savez(folder / "expected.npz", **(told if source is None else {**told, "source": source}))


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("name", [*map(plain, [*NATIVE, *WIDE]), *(f"code_{plain(name)}" for name in CODE)])
def test_logits_there(name, found):
    one = found[name]
    assert one["loaded"], "it must need every tensor, and miss none"
    assert one["cached"], "greedy generation with a cache must be that without"
    low, high = CHANGED.get(name, (0.0, MOST.get(name, 1e-5)))
    assert low <= one["gap"] <= high
    print(f"{name}: {one['gap']:.1e}")
