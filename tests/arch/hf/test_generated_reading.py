"""Folders with code of their own, read back without torch: every number, each tensor once, and what is refused."""

import dataclasses

import jax
import numpy as np
import pytest

from arch.bottlenecks.codebook import Codebook
from arch.hf.family import Facts, Planned
from arch.hf.folder import write
from arch.hf.generated.layers import STATISTICS
from arch.hf.generated.names import returned, turned
from arch.hf.generated.reading import read
from arch.spec import UserError
from arch.stacks.sequential import Sequential
from tests.arch import tiny
from tests.arch.hf.generated_cases import CASES, drawn, planned

POST = dataclasses.replace(tiny.decoder(position="alibi"), block=tiny.decoder(block="post", position="alibi").block)
OURS = {
    "post-norm, ALiBi": POST,
    "codebook": dataclasses.replace(POST, stack=Sequential(between=((1, Codebook(codes=8)),))),
}
QUICK = {**OURS, **{name: CASES[name] for name in ("running codes", "pair of widths")}}
SLOW = {name: spec for name, spec in CASES.items() if name not in QUICK}
FACTS = Facts(context=128, bos=0, eos=1)


def leaves(*trees):
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for tree in trees
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_every_number_comes_back(name, tmp_path):
    spec = {**QUICK, **SLOW}[name]
    write(planned(spec, FACTS), tmp_path / "out")
    found = read(tmp_path / "out", spec)
    _, params, buffers = drawn(spec)
    wanted, held = leaves(params, buffers), leaves(found.params, found.buffers)
    assert len(wanted) == len(held) + len(found.fresh)
    assert all(path.rpartition(".")[2] in STATISTICS for path in found.fresh)
    for path, array in held.items():
        assert array.dtype == wanted[path].dtype, path
        np.testing.assert_array_equal(array, wanted[path], err_msg=path)


@pytest.mark.parametrize(
    ("path", "shape"),
    [("a.q.kernel", (6, 2, 3)), ("a.o.kernel", (2, 3, 6)), ("a.q.bias", (2, 3)), ("a.gain", (4,)), ("a.scale", ())],
)
def test_a_layout_of_torch_is_turned_back(path, shape):
    array = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    np.testing.assert_array_equal(returned(path, turned(path, array), shape), array)


def edited(name, change):
    """The plan of "codebook" with its tensor `name` changed."""
    plan = planned(OURS["codebook"], FACTS)
    held = {one.name: one for one in plan.tensors}
    assert name in held or name == "another"
    change(held, name)
    return dataclasses.replace(plan, tensors=list(held.values()))


def add(held, name):
    held[name] = Planned(name, (2,), lambda: np.zeros(2, np.float32))


def lose(held, name):
    del held[name]


def cut(held, name):
    one = held[name]
    held[name] = Planned(name, (one.shape[0] - 1, *one.shape[1:]), lambda: one.value()[1:])


@pytest.mark.parametrize(
    ("change", "name", "told"),
    [
        (
            lose,
            "model.layers.1.self_attn.o_proj.weight",
            "the tensor model.layers.1.self_attn.o_proj.weight is missing",
        ),
        (add, "another", "the tensor another has no place in Decoder; 1 in all"),
        (cut, "model.embed_tokens.weight", "model.embed_tokens.weight has shape"),
    ],
)
def test_a_folder_of_other_tensors_is_one_line(change, name, told, tmp_path):
    write(edited(name, change), tmp_path / "out")
    with pytest.raises(UserError) as caught:
        read(tmp_path / "out", OURS["codebook"])
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_numbers_that_are_rounded_come_back_as_they_were_rounded(tmp_path):
    spec = CASES["encoder performer"]  # of which the folder has a constant too
    write(planned(spec, FACTS), tmp_path / "out", dtype="bfloat16")
    found, (_, params, _) = leaves(read(tmp_path / "out", spec).params), drawn(spec)
    for path, array in leaves(params).items():
        np.testing.assert_array_equal(found[path], array.astype("bfloat16").astype(np.float32), err_msg=path)


def test_another_constant_is_refused(tmp_path):
    one = CASES["encoder performer"]
    other = dataclasses.replace(one.block.mixer, features=dataclasses.replace(one.block.mixer.features, seed=4))
    write(planned(one, FACTS), tmp_path / "out")
    with pytest.raises(UserError, match="is not the constant that Encoder makes here"):
        read(tmp_path / "out", dataclasses.replace(one, block=dataclasses.replace(one.block, mixer=other)))
