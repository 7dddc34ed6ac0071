"""What is particular to single mechanisms: buffers and losses in micro-batches, masks, freezing, generation, order."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arch import cost
from arch.decode.generate import generate
from arch.models.base import Inputs
from arch.spec import UserError
from tests.extension.cases import CASES, COUPLED, B, D, T, mlp, product
from tests.extension.harness import command_line, difference, evaluation, steps, untapped
from tests.extension.parts.stream import Frequencies, Rehearsed
from tests.train.test_loop import signal_at
from train.data.order import ByClass, Label, values
from train.data.reversal import Reversed
from train.data.wrappers import Ordered
from train.ensemble import Ensemble
from train.loop import train
from train.record.metrics import read
from train.runtime.signals import Stopped
from train.setup import prepare


def run_of(name, *more):
    return command_line(*{**CASES, **COUPLED}[name].words, *more)


@pytest.mark.parametrize(
    "name", ["codes by running sums", "codes by gradient", "codes at sites", "masked language model"]
)
def test_two_micro_batches_are_one_batch(name):
    """Losses and metrics of the parts, the gradient's norm, parameters, buffers; and the masks that are drawn."""
    whole, parts = steps(run_of(name)), steps(run_of(name, "accumulate=2"))
    for one, two in zip(whole.told, parts.told, strict=True):
        for what, value in one.items():
            np.testing.assert_allclose(two[what], value, rtol=1e-5, atol=1e-7, err_msg=what)
    assert difference(whole.state["params"], parts.state["params"]) < 1e-5
    assert difference(whole.state["buffers"], parts.state["buffers"]) < 1e-6


def test_a_coupled_loss_of_micro_batches_is_the_mean_of_each_ones_own():
    """Rows are dealt out in turn; the loss of the whole batch is another number."""
    run = run_of("balanced codes", "accumulate=2")
    parts = steps(run)
    batch = next(parts.dataset.train(run.batch, run.seed))
    forward, key = parts.program.learner.forward, jax.random.key(0)
    params, buffers = jax.tree.map(jnp.asarray, (parts.first["params"], parts.first["buffers"]))

    @jax.jit
    def entropy(rows):
        return forward(params, buffers, rows, None, key, training=True)[0].losses

    own = [entropy({name: array[half::2] for name, array in batch.items()})["between.batch_entropy"] for half in (0, 1)]
    mean = np.mean([float(one.value) for one in own])
    np.testing.assert_allclose(parts.told[0]["loss/between.batch_entropy"], mean, rtol=1e-5)


def test_buffers_move_by_the_statistics_of_a_step_and_in_no_evaluation():
    """d * old + (1 - d) * what chose each code, counted by hand: every token of the batch chooses one."""
    done = steps(run_of("codes by running sums", "steps=1"))
    segments = next(done.dataset.train(8, 0))["segments"][:, :-1]
    old, new = (state["buffers"]["stack"]["between"]["1"]["counts"] for state in (done.first, done.state))
    chosen = (new - 0.9 * old) / 0.1
    np.testing.assert_allclose(chosen.sum(), (segments > 0).sum(), rtol=1e-4)
    np.testing.assert_allclose(chosen, chosen.round(), atol=1e-3)
    assert (chosen > 0.5).sum() > 1
    assert untapped(done) == untapped(done)


def test_a_run_tells_losses_and_metrics_of_parts_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    """Through the whole loop."""
    run = run_of("codes by running sums")
    signal_at(monkeypatch, batch=2)
    with pytest.raises(Stopped):
        train(run, tmp_path)
    done, whole = train(run, tmp_path), steps(run)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(done.state), whole.state)
    lines = [line for line in read(tmp_path) if "train/loss" in line]
    for name in ("loss", "loss/between.commitment", "between.perplexity", "grad_norm"):
        assert [line[f"train/{name}"] for line in lines] == [float(one[name]) for one in whole.told]
    assert done.metrics["val/between.perplexity"] == pytest.approx(float(whole.evaluated["between.perplexity"]))


def test_an_evaluation_hides_the_same_tokens_whenever_and_in_whatever_batches():
    done = steps(run_of("masked language model"))
    again = evaluation(done.program, done.dataset, done.state)
    smaller = evaluation(done.program, done.dataset, done.state, rows=3)
    for name, value in done.evaluated.items():
        assert again[name] == value
        np.testing.assert_allclose(smaller[name], value, rtol=1e-6)


def test_every_step_hides_other_tokens():
    done = steps(run_of("masked language model"))
    learner, batch = done.program.learner, next(done.dataset.train(8, 0))
    arrays = {name: array for name, array in batch.items() if name != "row"}
    seen = []
    for step in (0, 1):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(learner.key(np.int32(step)), batch["row"])
        inputs, targets = learner.forward.task.prepare(arrays, keys)
        chosen, text = np.asarray(targets.weights) > 0, arrays["segments"][:, :T] > 0
        np.testing.assert_array_equal(np.asarray(inputs.tokens)[~chosen], arrays["tokens"][:, :T][~chosen])
        assert 0.15 < chosen[text].mean() < 0.45
        assert not chosen[~text].any()
        assert (np.asarray(inputs.tokens)[chosen] == 32).mean() > 0.6
        seen.append(chosen)
    assert (seen[0] != seen[1]).any()


def test_an_encoder_decoder_generates_as_without_a_cache():
    """The most probable token again and again, the source read once; rows of unequal lengths; its speed in targets."""
    done = steps(run_of("encoder-decoder"))
    assert done.program.counted == ("tokens", 8 * 8)
    rows = Reversed(length=8, vocab=16).build().rows["validation"].gather(np.arange(3))
    source = Inputs(tokens=rows["source"], segments=rows["source_segments"])
    prompts = [[0], [0, 3], [0, 1, 2]]
    found = generate(done.model, prompts, 4, source=source)
    call = jax.jit(lambda inputs: done.model(inputs).logits)
    for row, prompt in enumerate(prompts):
        text = list(prompt)
        own = jax.tree.map(lambda array: array[row : row + 1], source)  # noqa: B023
        for _ in range(4):
            tokens = np.zeros((1, 8), np.int32)
            tokens[0, : len(text)] = text
            text.append(int(np.argmax(call(Inputs(tokens=tokens, source=own))[0, len(text) - 1])))
        assert found.tokens[row].tolist() == text[len(prompt) :]


def test_frozen_parameters_cost_nothing_and_stay():
    done = steps(run_of("frozen with adapters"))
    first, last = (paths(state["params"]) for state in (done.first, done.state))
    assert {path for path in first if (first[path] != last[path]).any()} == set(filter(ADAPTER, first))
    moments = [leaf for leaf in jax.tree.leaves(done.state["opt_state"]) if leaf.ndim]
    assert len(moments) == 2 * len(list(filter(ADAPTER, first)))

    free = steps_of_all(done)
    batch = next(done.dataset.train(8, 0))
    args = done.first["params"], done.first["buffers"], batch, np.int32(0)
    _, grads = jax.jit(free.gradients)(*args)
    kept = {path: leaf for path, leaf in paths(grads).items() if ADAPTER(path)}
    np.testing.assert_allclose(done.told[0]["grad_norm"], optax.tree.norm(kept), rtol=1e-5)
    # Back through every product to its activations, of which scores and values have two, but only to the adapters'
    # matrices.
    forward = cost.flops(done.program.learner.eval_step, *args[:3])
    products, adapters = B * 2 * 2 * product(T, D, T), B * 2 * mlp(T, hidden=4)
    assert cost.flops(free.gradients, *args) == 3 * forward
    assert cost.flops(done.program.learner.gradients, *args) == 2 * forward + products + adapters


def test_a_frozen_network_starts_from_another_run(tmp_path):
    """That of the base run, which has no adapters: they are fresh, everything else stays as it was trained."""
    base = train(command_line("steps=1"), tmp_path / "base")
    done = train(run_of("frozen with adapters", f"start=FromRun(folder='{tmp_path / 'base'}')"), tmp_path / "run")
    taken, last = (paths(jax.device_get(one.params)) for one in (base, done))
    assert {path for path in last if path not in taken} == set(filter(ADAPTER, last))
    for path in taken:
        np.testing.assert_array_equal(last[path], taken[path])


def test_replicas_of_a_model_of_ones_own_vary_its_initialisers():
    run = run_of("encoder-decoder")
    both = Ensemble(({"model.encoder.init.std": 0.02}, {"model.encoder.init.std": 0.2}))
    start = prepare(run, run.data.build().description, ensemble=both).start()
    spread = [np.std(start["params"]["encoder"]["embedding"]["table"][replica]) for replica in (0, 1)]
    np.testing.assert_allclose(spread[1] / spread[0], 10, rtol=1e-4)
    with pytest.raises(UserError, match=r"model\.encoder\.depth: cannot differ"):
        Ensemble(({"model.encoder.depth": 1},))


ADAPTER = re.compile(r"\.adapter").search


def paths(tree):
    """Dotted path -> array."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def steps_of_all(done):
    """The learner of the same run with nothing frozen."""
    run = done.program.run
    run = dataclasses.replace(run, optimizer=dataclasses.replace(run.optimizer, freeze=()))
    return prepare(run, done.dataset.description).learner


def test_a_mixed_stack_unrolled_is_the_scanned_one():
    done = steps(run_of("mixed stack"))
    loop = prepare(run_of("mixed stack", "model.stack.loop=unroll"), done.dataset.description)
    unrolled = evaluation(loop, done.dataset, done.state)
    np.testing.assert_allclose(unrolled["loss"], done.evaluated["loss"], rtol=1e-6)
    cache = done.model.init_cache(2, 12).layers["0"]
    assert {type(cache[place]["mixer"]).__name__ for place in cache} == {"Window", "Growing"}


def test_a_stream_goes_from_class_to_class():
    """Without rehearsal it is `ByClass`; with it some rows of all classes come all along, and each once an epoch."""
    data = Frequencies()
    rows = data.build().rows["train"]
    np.testing.assert_array_equal(Rehearsed(share=0.0).indices(rows, 1, 5), ByClass().indices(rows, 1, 5))
    order = Rehearsed(share=0.25).indices(rows, 0, 0)
    assert sorted(order) == list(range(data.rows))
    labels = values(rows, Label())[order]
    assert len(set(labels[: data.rows // 4])) > 1
    assert np.corrcoef(labels, np.arange(data.rows))[0, 1] > 0.5
    batches = Ordered(data, ByClass()).build().train(8, 0)
    seen = np.concatenate([next(batches)["label"] for _ in range(6)])
    np.testing.assert_array_equal(seen, np.sort(values(rows, Label())))
