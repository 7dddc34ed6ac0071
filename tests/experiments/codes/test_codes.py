"""The codes of a run: what they fire on against a count by hand, their effects against the weights, and the page."""

import base64
import gzip
import json
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.blocks import PreNorm
from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.several import Grouped, PerHead
from arch.bottlenecks.top_k import TopK
from arch.decode.sampling import Greedy
from arch.decode.steered import Activate, Steered
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from arch.spec import UserError
from arch.taps import Tap
from experiments.codes.contexts import gather
from experiments.codes.effects import effects, vectors_of
from experiments.codes.reading import Read, Reader, Site
from experiments.codes.steering import activate, activation, number, steered
from experiments.config.load import load
from tests import browser
from tests.train import toys
from train.setup import prepare
from train.trained import TrainedRun


def test_the_sites_of_a_model(reader):
    assert reader.sites == (
        Site("attn.z", layers=2, groups=2, grouped=True, size=6, slots=2),
        Site("mlp_out", layers=2, groups=1, grouped=False, size=9, slots=2),
    )


def test_counts_and_places_are_those_of_a_loop(reader, taps):
    saved, inputs = taps
    read = gather(reader(1), reader.sites, most=3)  # one batch
    assert read.count == (inputs.segments > 0).sum()
    attn, mlp = (np.asarray(saved[f"{name}.codes"]) for name in ("attn.z", "mlp_out"))
    wanted = Counter()
    for layer, b, t, slot in np.ndindex(mlp.shape):
        if inputs.segments[b, t] > 0:
            wanted[layer * 9 + mlp[layer, b, t, slot]] += 1
    assert read.places["mlp_out"].counts.tolist() == [wanted[n] for n in range(18)]
    wanted = Counter()
    for layer, b, t, head, slot in np.ndindex(attn.shape):
        if inputs.segments[b, t] > 0:
            wanted[(layer * 2 + head) * 6 + attn[layer, b, t, head, slot]] += 1
    assert read.places["attn.z"].counts.tolist() == [wanted[n] for n in range(24)]
    first, where = read.places["mlp_out"].of()
    width = inputs.tokens.shape[1] + 1
    for code in range(18):
        mine = where[first[code] : first[code + 1]]
        assert len(mine) == len(set(mine.tolist())) == min(3, read.places["mlp_out"].counts[code])
        for place in mine:
            b, t = divmod(int(place), width)
            assert code % 9 in mlp[code // 9, b, t]
            assert read.tokens[place] == inputs.tokens[b, t]


def test_effects_are_those_of_the_weights(reader):
    """Against numpy on the parameters: vectors, the output projection of a head, the final norm and the head."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), dict(reader.opened.params))
    blocks = params["stack"]["blocks"]
    by_name = {site.name: effects(reader, site, most=3) for site in reader.sites}
    table = params["embedding"]["table"]

    def up(written):
        """The three tokens that a vector behind norm and head makes most likely."""
        normed = written / np.sqrt((written**2).mean(axis=-1, keepdims=True) + 1e-6)
        logits = (normed * params["norm"]["gain"]) @ head
        return np.argsort(-logits, axis=-1)[..., :3], logits

    head = params["head"]["kernel"] if "head" in params else table.T
    codes = blocks["at"]["mlp_out"]["codes"]  # L, C, D; both of the two active codes are the one
    found = by_name["mlp_out"]
    np.testing.assert_allclose(found.vectors, 2 * codes, rtol=1e-5)
    wanted, logits = up(2 * codes)
    assert (found.up == wanted).all()
    np.testing.assert_allclose(found.lift[..., 0], logits.max(-1) - logits.mean(-1), rtol=1e-3, atol=1e-4)
    heads = blocks["at"]["attn_z"]["each"]["codes"]  # L, N, C, K
    found = by_name["attn.z"]
    np.testing.assert_allclose(found.vectors, 2 * heads.reshape(4, 6, -1), rtol=1e-5)
    o = blocks["mixer"]["o"]["kernel"].reshape(2, 2, 8, 16)
    assert (found.up == up(np.einsum("lnck,lnkd->lncd", 2 * heads, o).reshape(4, 6, 16))[0]).all()
    unit = codes / np.linalg.norm(codes, axis=-1, keepdims=True)
    cosine = np.einsum("lcd,lbd->lcb", unit, unit) - 2 * np.eye(9)
    assert (by_name["mlp_out"].near == np.argsort(-cosine, axis=-1)[..., :3]).all()


@pytest.mark.parametrize("slots", ["one", "all"])
def test_a_code_that_is_activated_is_read_everywhere(reader, slots):
    """Two prompts with codes of their own, greedy, against whole forward passes with the code written in."""
    plans = ((Activate("mlp_out", 1, 2, slots=slots),), (Activate("attn.z", 0, 5, group=1, slots=slots),))
    prompts = ["the c", "and"]
    texts = reader.opened.continuations(prompts, 6, Steered(Greedy(), plans), jax.random.key(0))
    slot = np.arange(2) >= (1 if slots == "one" else 0)  # the last is the least similar
    second = (np.arange(2) == 1)[:, None]

    def mlp(codes, layer):
        return jnp.where((layer == 1) & jnp.asarray(slot[None, None]), jnp.int32(2), codes)

    def attn(codes, layer):
        return jnp.where((layer == 0) & jnp.asarray((slot & second)[None, None]), jnp.int32(5), codes)

    for text, prompt, edit in zip(texts, prompts, ({"mlp_out.codes": mlp}, {"attn.z.codes": attn}), strict=True):
        forward = jax.jit(lambda tokens, edit=edit: reader.opened.model(Inputs(tokens), tap=Tap(edit=edit)).logits[0])
        tokenizer = reader.opened.dataset.tokenizer
        tokens = [tokenizer.bos, *tokenizer.encode(prompt)]
        begun = len(tokens)
        for _ in range(6):
            padded = np.array([tokens + [0] * (16 - len(tokens))], np.int32)
            tokens.append(int(forward(padded)[len(tokens) - 1].argmax()))
        assert text == prompt + tokenizer.decode(tokens[begun:])
    active = {"mlp_out": np.full((1, 1, 2), 2), "attn.z": np.zeros((1, 1, 2, 2), int)}
    kept = Steered(Greedy(), plans[:1]).edits(1)["mlp_out.codes"](jnp.asarray(active["mlp_out"]), 1)
    assert (np.asarray(kept) == active["mlp_out"]).all()  # what is active already is not changed


def test_activating_what_is_not_there_is_refused(reader):
    """It would change nothing, and nobody would see that."""
    wrong = (
        (Activate("mlp_out", 9, 0), "mlp_out has 2 layers, 0 to 1"),
        (Activate("mlp_out", 0, 0, group=3), "1 groups"),
    )
    for one, line in wrong:
        with pytest.raises(UserError, match=line):
            reader.opened.continuations(["the"], 2, Steered(Greedy(), ((one,),)), jax.random.key(0))


def test_codes_by_name(reader):
    for site in reader.sites:
        for n in (0, 7, site.layers * site.sets * site.size - 1):
            plan = activation(site, n)
            assert number(site, plan) == n
            group = f":{plan.group}" if site.groups > 1 else ""
            assert activate(reader.sites, f"{site.name}:{plan.layer}{group}:{plan.code}") == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mlp:0:1", "no codebook at mlp; there are some at attn.z, mlp_out"),
        ("mlp_out:0", "expected SITE:LAYER:CODE"),
        ("mlp_out:0:x", "expected SITE:LAYER:CODE"),
        ("mlp_out:2:1", "mlp_out has 2 layers, 0 to 1; not layer 2"),
        ("mlp_out:0:9", "mlp_out has 9 codes, 0 to 8; not code 9"),
        ("attn.z:0:1", "attn.z has 2 groups of codes; name one, as attn.z:0:0:1"),
        ("attn.z:0:2:1", "attn.z has 2 groups, 0 to 1; not group 2"),
    ],
)
def test_codes_that_are_not_there(reader, text, message):
    with pytest.raises(UserError, match=message):
        activate(reader.sites, text)


def test_a_code_that_never_fired(reader, monkeypatch):
    silent = Read(np.zeros((1, 2), np.int32), np.ones((1, 2), bool), {
        site.name: np.zeros((site.layers, 1, 2, *([site.groups] if site.grouped else []), site.slots), int)
        for site in reader.sites
    }, {})  # fmt: skip
    monkeypatch.setattr(Reader, "__call__", lambda self, tokens: iter([silent]))
    assert steered(reader.opened, Greedy(), ["mlp_out:0:0"]).activate == ((Activate("mlp_out", 0, 0),),)
    with pytest.raises(UserError, match=r"mlp_out:0:3: this code fires on none of 2 tokens of test"):
        steered(reader.opened, Greedy(), ["mlp_out:0:3"])


def test_the_page_from_the_command_line(launch, home, reader, tmp_path):
    status, out, err = launch("codes", str(home / "run"), "--read=400", f"--out={tmp_path}")
    assert (status, err) == (0, "")
    assert "mlp_out, layer 1" in out
    page = (tmp_path / "codes.html").read_text()
    assert not re.search(r"(src|href)=.?http", page)
    data = json.loads(gzip.decompress(base64.b64decode(re.search(r'octet-stream">([^<]*)<', page)[1])))
    read = gather(reader(400), reader.sites)
    assert data["read"] == read.count
    names = [one["name"] for one in data["sets"]]
    assert names[:2] == ["attn.z, layer 0, head 0", "attn.z, layer 0, head 1"]
    assert names[4:] == ["mlp_out, layer 0", "mlp_out, layer 1"]
    counts = read.places["mlp_out"].counts[9:]
    assert {code: n for code, n, *_ in data["sets"][5]["codes"]} == {c: n for c, n in enumerate(counts) if n}
    assert any(row[6] for row in data["sets"][5]["codes"])  # a sample


@browser.needed
def test_the_page_in_a_browser(launch, home, tmp_path):
    """At a phone's width and a desktop's: no wider than its window, codes listed, the first one shown."""
    launch("codes", str(home / "run"), "--read=400", f"--out={tmp_path}")
    page = (tmp_path / "codes.html").read_text()
    texts = f"[...{browser.FITS}, document.querySelector('h2').textContent, document.body.innerText]"
    for width in (390, 1280):
        inner, wide, head, shown = browser.seen(page, tmp_path, width, texts)
        assert int(wide) <= int(inner) == width
        assert re.fullmatch(r"Code \d+ of attn\.z, layer 0, head 0", head)
        assert "codes that fired" in shown


def test_what_codes_refuses(launch, home, reader, tmp_path):
    bare = load(str(home / "mine.py:bare")).spec
    program = prepare(bare, reader.opened.dataset.description)
    with pytest.raises(UserError, match="this Decoder has no codebooks; put some in"):
        Reader(TrainedRun(program, program.start(), reader.opened.dataset, 0))
    status, _, err = launch("codes", "one", "two", "three")
    assert "codes takes one run folder, or two to compare" in err
    blocked = tmp_path / "file"
    blocked.write_text("")
    status, _, err = launch("codes", str(home / "run"), "--read=10", f"--out={blocked}")
    assert status == 2
    assert err.startswith(f"codes: {blocked}/codes.html cannot be written")


def test_groups_of_heads_are_refused():
    """Their codes have an axis that no name of a code has."""
    at = (("attn.z", PerHead(Grouped(Codebook(codes=4), 2))),)
    run = toys.run(model=Decoder(toys.VOCAB, 8, 2, PreNorm(mixer=Attention(heads=2), at=at)))
    dataset = run.data.build()
    program = prepare(run, dataset.description)
    with pytest.raises(UserError, match=r"at attn\.z quantisers stand side by side within others"):
        Reader(TrainedRun(program, program.start(), dataset, 0))


def test_vectors_of_sparse_codes_are_their_directions():
    """Without the bias, which is there whatever code is active."""
    block = PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=8), at=(("mlp_out", TopK(codes=12, k=3)),))
    run = toys.run(model=Decoder(toys.VOCAB, 8, 2, block))
    dataset = run.data.build()
    program = prepare(run, dataset.description)
    state = program.start()
    part = state["params"]["stack"]["blocks"]["at"]["mlp_out"]
    part["bias"] = part["bias"] + 3 * np.random.default_rng(0).standard_normal(part["bias"].shape).astype(np.float32)
    reader = Reader(TrainedRun(program, state, dataset, 0))
    (site,) = reader.sites
    assert site.sparse
    np.testing.assert_allclose(vectors_of(reader, site), part["decoder"], atol=1e-5)
