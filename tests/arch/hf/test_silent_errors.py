"""Twelve errors of exports that raise nothing: each wrong form is built, and is seen, far outside what rounding does.

The twelfth, special tokens, is in tests/experiments/hf/test_special_tokens.py, where tokenizers are written.

A folder is written right, compared with our network, changed into the wrong form, and compared again.
"""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import torch
import transformers

from arch.blocks.depth_scaled import ScaledNorm
from arch.context import Context
from arch.hf import parity
from arch.hf.dry_run import difference
from arch.hf.families.gguf_llama import Interleaved
from arch.hf.folder import write
from arch.hf.layouts import Flat
from arch.hf.reading import read
from arch.hf.serving import verdict
from arch.layers.attention import masks
from arch.layers.embeddings import Tied
from arch.layers.heads.scaled import ScaledTied
from arch.layers.norms.common import LayerNorm, RMSNorm
from arch.layers.norms.depth_scale import DepthScaled
from arch.layers.positions import ALiBi, Learned, NoPosition
from arch.models.base import Inputs
from arch.params import merge
from arch.spec import UserError
from tests.arch import tiny
from tests.arch.hf import cases
from tests.arch.hf.generated_cases import CASES, block, decoder, encoder, planned
from tests.arch.hf.test_generated import opened

pytestmark = pytest.mark.filterwarnings("ignore")
torch.set_num_threads(1)

WINDOW, T = 4, 12
PLACES = jnp.zeros((1, 1), jnp.int32)
MISTRAL = decoder(
    block(ScaledNorm, norm=RMSNorm(1e-5), kv_heads=2, mask=masks.SlidingWindow(WINDOW)),
    head=ScaledTied(scale=0.2),
    norm=RMSNorm(1e-5),
)
CODE = decoder(
    block(norm=DepthScaled(RMSNorm()), position=ALiBi(), softcap=2.0),
    position=Learned(length=80),
    head=Tied(softcap=3.0),
    norm=LayerNorm(),
)
"""All at once: factors, a window, grouped heads, a tied head with a scale; and what no class of Transformers has."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("silent")
    plan = cases.export(*cases.random(MISTRAL), folder / "mistral")
    assert plan.config["model_type"] == "mistral"
    write(planned(CODE, cases.FACTS), folder / "code")
    return folder


def tokens(rows=2, length=T, seed=0):
    return np.random.default_rng(seed).integers(2, tiny.V, (rows, length), dtype=np.int32)


@functools.cache
def program(spec):
    graphdef, params = tiny.draw(spec)
    run = tiny.jit(lambda params, told: merge(graphdef, params, {})(told).logits)
    return lambda told: np.asarray(run(params, told))


def ours(spec, ids, **told):
    known = {name: jnp.asarray(value) for name, value in told.items()}
    return program(spec)(Inputs(tokens=jnp.asarray(ids), **known))


def gap(ours, theirs):
    """Largest difference as a share of the largest logit."""
    assert np.std(ours) > 0.05
    return np.abs(ours - theirs).max() / np.abs(ours).max()


def right(value):
    assert value <= 1e-5, value


def wrong(value):
    """Five hundred times what an export is refused for."""
    assert value > 500 * parity.MOST, value


def changed(folder, name, tensors=None, code=(), **config):
    """A copy of `folder` with other numbers, other code or another configuration."""
    to = folder.parent / name
    shutil.copytree(folder, to)
    told = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(told | config))
    if tensors is not None:
        held = safetensors.numpy.load_file(to / "model.safetensors")
        safetensors.numpy.save_file({**held, **tensors(held)}, to / "model.safetensors", {"format": "pt"})
    for old, new in code:
        text = (to / "modeling_strata.py").read_text()
        assert old in text
        (to / "modeling_strata.py").write_text(text.replace(old, new))
    return to


def theirs(folder):
    return parity.logits(folder, tokens(), own_code=(folder / "modeling_strata.py").exists())


def asked(folder, ids, **told):
    """Logits of a folder that is called in another way than `parity` does."""
    code = (folder / "modeling_strata.py").exists()
    model = opened(folder) if code else transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    told = {name: torch.from_numpy(value).long() for name, value in told.items()}
    with torch.no_grad():
        return model(torch.from_numpy(ids).long(), use_cache=False, **told).logits.numpy()


def test_right(home):
    """What all the wrong forms are made of."""
    right(gap(ours(MISTRAL, tokens()), theirs(home / "mistral")))
    right(gap(ours(CODE, tokens()), theirs(home / "code")))


def test_ours_is_computed_in_whole_float32(monkeypatch):
    """Whatever the machine: a GPU's TF32 and a TPU's bfloat16 would be taken for an error of the export."""
    found, merge = [], parity.merge
    monkeypatch.setattr(parity, "merge", lambda *a: found.append(jax.config.jax_default_matmul_precision) or merge(*a))
    parity._ours(*cases.random(MISTRAL), tokens(), None, {})
    assert found == ["highest"]


def test_scaled_norms(home):
    """The factor 1 / sqrt(l) left out of a gain; and SGLang, which makes plain norms of all that is called RMSNorm."""
    back = lambda held: {name: held[name] * 2**0.5 for name in held if "layers.1." in name and "norm" in name}  # noqa: E731
    wrong(gap(ours(MISTRAL, tokens()), theirs(changed(home / "mistral", "unscaled", back))))
    with pytest.raises(UserError, match="Transformers gives other logits"):  # as an export refuses it
        parity.compare(
            home / "unscaled", cases.random(MISTRAL), (lambda one: (one.model, one.params))(read(home / "unscaled"))
        )

    named = changed(home / "code", "named", code=[("StrataDepthScaled", "StrataDepthRMSNorm")])
    right(gap(ours(CODE, tokens()), as_sglang(home / "code")))
    wrong(gap(ours(CODE, tokens()), as_sglang(named)))


def as_sglang(folder):
    """Logits with every module whose name ends in RMSNorm replaced, as in `srt/models/transformers.py`."""
    model = opened(folder)
    for name, module in list(model.named_modules()):
        if type(module).__name__.endswith("RMSNorm"):
            weight = getattr(module, "weight", torch.ones(tiny.D))
            plain = torch.nn.RMSNorm(len(weight), getattr(module, "eps", 1e-6))
            plain.weight = torch.nn.Parameter(weight)
            model.set_submodule(name, plain)
    with torch.no_grad():
        return model(torch.from_numpy(tokens()).long()).logits.numpy()


def test_additive_masks(home):
    """A server hands no mask, so a bias that is added to it is gone; the export says so, and its dry run sees it."""
    dropped = [
        (
            "mask_of(self, query, masks, places, model_bias):\n        visible",
            "mask_of(self, query, masks, places, model_bias):\n        return None\n        visible",
        )
    ]
    wrong(gap(ours(CODE, tokens()), theirs(changed(home / "code", "dropped", code=dropped))))
    assert "two requests in one row come out" in difference(home / "code")
    assert "ALiBi is an additive mask, which servers drop" in verdict(home / "code").vllm


def test_packed_rows(home, tmp_path):
    """Two documents in one row: their positions begin anew, in ours, in Transformers, and in what servers run."""
    ids = tokens(1, 2 * T)
    places, segments = np.arange(2 * T)[None] % T, np.repeat([[1, 2]], T, axis=1)
    packed = ours(MISTRAL, ids, segments=segments, positions=places)
    right(gap(packed, asked(home / "mistral", ids, position_ids=places)))
    wrong(gap(packed, asked(home / "mistral", ids, position_ids=np.arange(2 * T)[None])))
    write(planned(CASES["mixer linear"], cases.FACTS), tmp_path / "linear")
    assert difference(tmp_path / "linear") == ""
    one = [("(position_ids[:, 1:] != position_ids[:, :-1] + 1).long()", "position_ids[:, 1:] * 0")]
    assert "two requests in one row come out" in difference(changed(tmp_path / "linear", "one_document", code=one))


def test_tied_weights(home):
    """A tied head that the configuration calls untied has numbers drawn anew."""
    out = changed(home / "mistral", "untied", tie_word_embeddings=False)
    wrong(gap(ours(MISTRAL, tokens()), theirs(out)))
    with pytest.raises(UserError, match=r"the tensor lm_head.weight is missing"):
        read(out)


@pytest.mark.parametrize("off", [-1, 1])
def test_sliding_window_off_by_one(home, off):
    wrong(gap(ours(MISTRAL, tokens()), theirs(changed(home / "mistral", f"window{off}", sliding_window=WINDOW + off))))


@pytest.mark.parametrize(
    ("mask", "limit", "length"),
    [
        (masks.Causal(), None, 32),
        (masks.SlidingWindow(40), None, 42),
        (masks.LocalWindow(64), None, 67),
        (masks.SlidingWindow(4096), None, 1024),
        (masks.SlidingWindow(40), 36, 36),
    ],
)
def test_an_export_compares_rows_longer_than_windows(mask, limit, length):
    position = NoPosition() if limit is None else Learned(length=limit)
    assert parity.compared((decoder if mask.causal else encoder)(block(mask=mask), position=position)) == length


def test_rotary_interleaving(home):
    """Queries and keys in the order of pairs next to each other, as GGUF files have them."""

    def apart(held):
        heads = {"q_proj": cases.N, "k_proj": 2}
        return {name: Interleaved(Flat(2), heads[part]).join([value]) for name, value in held.items()
                for part in heads if part in name}  # fmt: skip

    wrong(gap(ours(MISTRAL, tokens()), theirs(changed(home / "mistral", "pairs", apart))))


def test_grouped_heads_by_concatenation(home):
    """Keys and values of all heads written out: those of a group lie side by side, not group after group."""

    def spread(repeat):
        def tensors(held):
            return {name: repeat(value.reshape(2, -1, cases.D)).reshape(-1, cases.D) for name, value in held.items()
                    if "k_proj" in name or "v_proj" in name}  # fmt: skip

        return tensors

    whole = {"num_key_value_heads": cases.N}
    beside = changed(home / "mistral", "beside", spread(lambda one: np.repeat(one, 2, axis=0)), **whole)
    right(gap(ours(MISTRAL, tokens()), theirs(beside)))
    after = changed(home / "mistral", "after", spread(lambda one: np.tile(one, (2, 1, 1))), **whole)
    wrong(gap(ours(MISTRAL, tokens()), theirs(after)))


def test_soft_capping(home):
    """Of scores, which older `sdpa` drops without a word, and of logits."""
    assert opened(home / "code").config._attn_implementation == "eager"
    for name, capped in (
        ("scores", lambda parts: parts["blocks"][0]["sublayers"][0][1]),
        ("logits", lambda parts: parts["head"]),
    ):
        parts = json.loads((home / "code" / "config.json").read_text())["parts"]
        assert capped(parts).pop("softcap")
        capped(parts)["softcap"] = None
        wrong(gap(ours(CODE, tokens()), theirs(changed(home / "code", name, parts=parts))))


def test_logit_scales(home):
    """The scale of the head, left out of the norm before it."""
    out = changed(home / "mistral", "loud", lambda held: {"model.norm.weight": held["model.norm.weight"] / 0.2})
    wrong(gap(ours(MISTRAL, tokens()), theirs(out)))


def test_norms_in_bfloat16(home):
    """Mean and variance are taken in float32: in bfloat16 what is far from 0 loses them."""
    coarse = changed(home / "code", "coarse", code=[("hidden_states.float()", "hidden_states")])
    x = (100 + np.random.default_rng(0).normal(size=(3, tiny.D))).astype(jnp.bfloat16)
    graphdef, params = tiny.draw(CODE)
    low = merge(graphdef, jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params), {})
    found = np.asarray(low.norm(jnp.asarray(x), Context(PLACES, None, PLACES, None)), np.float32)
    for folder, check in ((home / "code", right), (coarse, wrong)):
        norm = opened(folder, dtype=torch.bfloat16).model.norm
        with torch.no_grad():
            check(gap(found, norm(torch.from_numpy(x.astype(np.float32)).bfloat16()).float().numpy()))


def test_padding_positions(home):
    """Padding on the left counts for no position."""
    ids, mask = tokens(), np.ones((2, T + 4), np.int64)
    padded = np.concatenate([np.zeros((2, 4), np.int32), ids], axis=1)
    mask[:, :4] = 0
    right(gap(ours(CODE, ids), asked(home / "code", padded, attention_mask=mask)[:, 4:]))
    counted = changed(
        home / "code",
        "counted",
        code=[("(padding.long().cumsum(-1) - 1)", "torch.arange(padding.shape[1]).expand(padding.shape)")],
    )
    wrong(gap(ours(CODE, ids), asked(counted, padded, attention_mask=mask)[:, 4:]))
