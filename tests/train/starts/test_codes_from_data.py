"""Codebooks that start from data: centres of the vectors that the trained model has there; the rest is the inner
start's, bit for bit."""

import dataclasses

import jax
import numpy as np
import pytest

from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.finite_scalar import FiniteScalar
from arch.bottlenecks.residual import Residual
from arch.bottlenecks.several import Grouped, PerHead
from arch.bottlenecks.vector_quantized import VectorQuantized
from arch.models.base import Inputs
from arch.params import merge
from arch.spec import UserError
from arch.taps import Tap
from tests.arch.bottlenecks.quantisers import build
from tests.train import toys
from tests.train.starts.test_start import leaves
from train.ensemble import Ensemble
from train.loop import train
from train.starts.codes_from_data import KMeansCodes
from train.starts.start import FromRun

BARE = toys.model(depth=2)
AT = (
    ("attn.z", PerHead(VectorQuantized(codes=4))),
    ("mlp_out", Codebook(codes=5, k=2, metric="l2", prenorm="layer")),
    ("resid_post", Residual(VectorQuantized(codes=3), stages=2)),
)
ROWS, STEPS = 16, 40


def with_codes(at):
    return dataclasses.replace(BARE, block=dataclasses.replace(BARE.block, at=at))


def run(folder, at=AT, **fields):
    start = KMeansCodes(FromRun(folder), rows=ROWS - 1, steps=STEPS)  # 15 rows are two batches of 8
    still = dataclasses.replace(toys.run().optimizer, learning_rate=0.0)
    return toys.run(model=with_codes(at), start=start, optimizer=still, steps=1, **fields)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "run"
    return str(folder), train(toys.run(model=BARE, steps=2), folder)


@pytest.fixture(scope="module")
def started(source):
    one = run(source[0])
    return one.start.within(one, one.data.build()).arrays()


@pytest.fixture(scope="module")
def vectors(source):
    """Site -> vectors [L, M, ..., N] of the bare model at tokens of the first rows."""
    done = source[1]
    batches = done.dataset.train(8, 0)
    batch = jax.tree.map(lambda *parts: np.concatenate(parts), next(batches), next(batches))
    there = batch["segments"][:, :-1] > 0
    inputs = Inputs(
        tokens=batch["tokens"][:, :-1], segments=batch["segments"][:, :-1], positions=batch["positions"][:, :-1]
    )
    taps = jax.jit(lambda: done.model(inputs, tap=Tap(save="|".join(site for site, _ in AT))).taps)()
    return {site: np.asarray(x, np.float64)[:, there] for site, x in taps.items()}


def settled(x, codes):
    """Whether each code is the mean of the vectors nearest to it; what the codes leave of the vectors."""
    to = np.argmin(np.square(x[:, None] - codes).sum(-1), axis=-1)
    for code in range(len(codes)):
        if (to == code).any():
            np.testing.assert_allclose(codes[code], x[to == code].mean(0), atol=2e-4)
    assert len(np.unique(to)) > 1
    return x - codes[to]


def test_codes_are_centres_and_the_rest_is_the_trained_model(started, vectors, source):
    for path, value in leaves(source[1].params).items():
        np.testing.assert_array_equal(started["params"][path], value)
    codes = lambda kind, path: np.asarray(started[kind][f"stack.blocks.at.{path}"])  # noqa: E731
    assert set(started["params"]) - set(leaves(source[1].params)) == {"stack.blocks.at.mlp_out.codes"}
    for layer in range(2):
        heads = codes("buffers", "attn_z.each.codes")[layer]
        for head in range(4):
            settled(vectors["attn.z"][layer, :, head], heads[head])
        x = vectors["mlp_out"][layer]
        normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        settled(normed, 2 * codes("params", "mlp_out.codes")[layer])  # two alike make one
        rest = settled(vectors["resid_post"][layer], codes("buffers", "resid_post.stages.0.codes")[layer])
        settled(rest, codes("buffers", "resid_post.stages.1.codes")[layer])


@pytest.mark.slow
def test_a_run_begins_with_them(started, source, tmp_path, capsys):
    """Alone, and as a replica of an ensemble, each with random numbers of its own."""
    ensemble = Ensemble(({"seed": 3}, {"seed": 0}))
    done = train(run(source[0]), tmp_path / "run", ensemble=ensemble)
    params, fresh = leaves(done.params), "stack.blocks.at.mlp_out.codes"
    for path, value in started["params"].items():
        np.testing.assert_allclose(params[path][1], value, atol=1e-6, err_msg=path)
    assert np.abs(params[fresh][0] - params[fresh][1]).max() > 1e-3
    said = capsys.readouterr().out
    told = said.split("start: ")[1].splitlines()[0]
    assert "counts" in told
    assert "codes" not in told.split("fresh: ")[1]


def test_vectors_that_do_not_count():
    """Padding moves no centre: of vectors that are all alike but for padding, all centres are that one."""
    part = Grouped(VectorQuantized(codes=3), groups=2)
    x = np.tile(np.arange(8, dtype=np.float32), (20, 1))
    weights = (np.arange(20) < 6).astype(np.float32)
    x[6:] = 1e3
    found = jax.jit(lambda: merge(*build(part)).fitted(x, weights, jax.random.key(0), 5))()
    codes = found["buffers"]["each"]["codes"]
    np.testing.assert_allclose(codes, np.broadcast_to(x[0].reshape(2, 1, 4), (2, 3, 4)), atol=1e-5)
    assert found["params"] == {}


def test_what_is_refused(source):
    none = run(source[0], at=(("mlp_out", FiniteScalar(levels=(3, 3))),))
    with pytest.raises(UserError, match="the model has no bottleneck whose codes are made of data"):
        none.start.within(none, none.data.build())
    with pytest.raises(UserError, match="cannot stand where there is none"):
        KMeansCodes(FromRun(source[0])).arrays()
