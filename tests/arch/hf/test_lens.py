"""Exports in TransformerLens: the residuals of `run_with_cache` are our taps. In this environment if it is installed,
else in that of `STRATA_LENS_PYTHON`, a Python that has it.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tokenizers
import transformers

from arch.hf.folder import write
from arch.params import merge
from arch.taps import Tap
from tests.arch import tiny
from tests.arch.hf import cases
from tests.arch.hf.generated_cases import CASES, drawn, planned
from tests.arch.hf.test_generated import inputs, tokens

NAMES = ("block pre", "position alibi", "block deep", "norm group", "qk-norm across heads", "mixer lstm",
         "codebook between layers", "embedding normed")  # fmt: skip

THERE = """
import json, sys
from pathlib import Path
import numpy, torch
from transformer_lens.model_bridge import TransformerBridge

found = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    sys.path.insert(0, str(folder))
    import lens_strata
    bridge = TransformerBridge.boot_transformers(str(folder), trust_remote_code=True)
    held = numpy.load(folder / "expected.npz")
    with torch.no_grad():
        logits, cache = bridge.run_with_cache(torch.from_numpy(held["tokens"]).long())
    gaps = {"logits": (logits, held["logits"])}
    for site in ("resid_pre", "resid_post"):
        gaps |= {f"{site} {layer}": (cache[f"blocks.{layer}.hook_{site}"], one) for layer, one in enumerate(held[site])}
    found[folder.name] = {name: float(abs(a.numpy() - b).max() / abs(b).max()) for name, (a, b) in gaps.items()}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Name of a case -> what was compared -> the difference as a share of the largest number."""
    there = sys.executable if importlib.util.find_spec("transformer_lens") else os.environ.get("STRATA_LENS_PYTHON")
    if there is None:
        pytest.skip("transformer_lens is not installed, and STRATA_LENS_PYTHON names no Python that has it")
    root, home = tmp_path_factory.mktemp("exports"), tmp_path_factory.mktemp("home")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(tiny.V)}, unk_token="w1"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="w0", eos_token="w1")
    for name in NAMES:
        to, (graphdef, params, buffers) = root / re.sub(r"\W+", "_", name), drawn(CASES[name])
        write(planned(CASES[name], cases.FACTS), to)
        tokenizer.save_pretrained(to)

        def run(params, told, graphdef=graphdef, buffers=buffers):
            return merge(graphdef, params, buffers)(told, tap=Tap(save="resid_pre|resid_post"))

        out = tiny.jit(run)(params, inputs(tokens()))
        taps = {site: np.asarray(out.taps[site]) for site in ("resid_pre", "resid_post")}
        np.savez(to / "expected.npz", tokens=tokens(), logits=np.asarray(out.logits), **taps)
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    environment.pop("HF_MODULES_CACHE", None)
    command = [there, "-W", "ignore", "-c", THERE, str(root)]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_residuals_are_our_taps(name, found):
    one = found[re.sub(r"\W+", "_", name)]
    assert len(one) == 5
    assert max(one.values()) <= 1e-5, one
    print(name, f"{max(one.values()):.1e}")
