"""GGUF files of Llama type: the numbers, the network, and what is refused."""

import numpy as np
import pytest

from arch.hf import gguf
from arch.hf.families import gguf_llama
from arch.hf.quants import KINDS
from arch.layers.embeddings import Tied, Untied
from arch.spec import UserError
from tests.arch.hf import cases
from tests.arch.hf.gguf_files import METADATA, TYPES, D, V, content, logits, stored, weights

TOKENS = np.array([[3, 60, 0, 17, 5, 42, 9, 3, 8, 21]], np.int32)


def read(path, arrays, **metadata):
    path.write_bytes(content(METADATA | metadata, stored(arrays)))
    return gguf_llama.read(gguf.opened(path))


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_the_formula(tied, tmp_path):
    arrays = weights()
    if not tied:
        arrays["output.weight"] = weights(1)["token_embd.weight"]
    found = read(tmp_path / "model.gguf", arrays)
    assert type(found.model.head) is (Tied if tied else Untied)
    assert found.config["max_position_embeddings"] == 48
    assert found.config["rms_norm_eps"] == 1e-5
    ours, theirs = cases.logits(found.model, found.params, TOKENS)[0], logits(arrays, TOKENS[0])
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


def by_hand(name, block):
    """One block, weight by weight."""
    halves = lambda raw: [byte & 15 for byte in raw] + [byte >> 4 for byte in raw]  # noqa: E731
    scale = lambda raw: float(np.frombuffer(raw, "<f2")[0])  # noqa: E731
    if name == "Q8_0":
        return [scale(block[:2]) * (byte - 256 * (byte > 127)) for byte in block[2:]]
    if name == "Q4_0":
        return [scale(block[:2]) * (number - 8) for number in halves(block[2:])]
    return [scale(block[:2]) * number + scale(block[2:4]) for number in halves(block[4:])]


def blocks(name, shape):
    """The bytes of a tensor of `shape`, with scales of any sign."""
    kind = KINDS[TYPES[name]]
    random = np.random.default_rng(TYPES[name])
    raw = random.integers(0, 256, (np.prod(shape) // kind.weights, kind.size), np.uint8)
    for place in range(0, {"Q4_1": 4, "F32": 0, "BF16": 0, "F16": 0}.get(name, 2), 2):
        raw[:, place : place + 2] = random.normal(size=(len(raw), 1)).astype("<f2").view(np.uint8)
    if name in ("F32", "F16", "BF16"):
        numbers = random.normal(size=shape).astype({"F32": "<f4", "F16": "<f2", "BF16": "<f4"}[name])
        raw = numbers.view(np.uint8)
        raw = raw.reshape(-1, 4)[:, 2:] if name == "BF16" else raw
    return np.ascontiguousarray(raw).tobytes()


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_1"])
def test_blocks_by_hand(name):
    kind, raw = KINDS[TYPES[name]], blocks(name, (3, 64))
    cut = [raw[at : at + kind.size] for at in range(0, len(raw), kind.size)]
    theirs = np.array([by_hand(name, block) for block in cut])
    ours = kind.decode(np.frombuffer(raw, np.uint8).reshape(-1, kind.size))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    assert ours.dtype == np.float32


def test_brain_floats_are_the_upper_halves(tmp_path):
    raw = np.frombuffer(blocks("BF16", (4, 32)), np.uint16)
    ours = KINDS[30].decode(raw.view(np.uint8).reshape(-1, 2))[:, 0]
    np.testing.assert_array_equal(ours, (raw.astype(np.uint32) << 16).view(np.float32))


@pytest.mark.filterwarnings("ignore")
def test_the_package_reads_the_same(tmp_path):
    package = pytest.importorskip("gguf", reason="the package gguf is not installed")
    path = tmp_path / "model.gguf"
    path.write_bytes(content(METADATA, {f"{name}.weight": ((5, 64), name, blocks(name, (5, 64))) for name in TYPES}))
    ours = gguf.opened(path)
    reader = package.GGUFReader(path)
    assert len(reader.tensors) == len(TYPES)
    for tensor in reader.tensors:
        theirs = package.quants.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(ours.tensors[tensor.name].array(), theirs)


@pytest.mark.filterwarnings("ignore")
def test_what_the_package_writes_is_read(tmp_path):
    package = pytest.importorskip("gguf", reason="the package gguf is not installed")
    path, arrays = tmp_path / "model.gguf", weights()
    writer = package.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_context_length(48)
    writer.add_embedding_length(D)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500.0)
    writer.add_token_list(["a", "naïve"])
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = gguf.opened(path)
    assert file.metadata["tokenizer.ggml.tokens"] == ["a", "naïve"]
    assert gguf_llama.read(file).model == read(tmp_path / "mine.gguf", arrays).model
    np.testing.assert_array_equal(file.tensors["blk.1.attn_k.weight"].array(), arrays["blk.1.attn_k.weight"])


WHOLE = content(METADATA, stored(weights()))
Q_K = {"blk.0.attn_q.weight": ((32, 32), 12, b"\0" * 576)}
BAD = {
    "empty": (b"", "cannot be read"),
    "another format": (b"PK\3\4" + WHOLE, "is no GGUF file; it begins with b'PK"),
    "another version": (content(METADATA, {}, version=1), "is GGUF of version 1; read are 2 and 3"),
    "cut in the head": (WHOLE[:300], "is cut off"),
    "cut in the numbers": (WHOLE[:-400], "is cut off: blk.1.ffn_"),
    "a count beyond the end": (WHOLE[:8] + b"\xff" * 7 + b"\0" + WHOLE[16:], "is cut off"),
    "no text": (WHOLE[:32] + b"\xff\xff" + WHOLE[34:], "is damaged: no UTF-8"),
    "another quantisation": (content(METADATA, stored(weights()) | Q_K), "attn_q.weight has numbers of type 12; read"),
    "part of a block": (
        content(METADATA, {"x": ((3, 33), "Q8_0", b"")}),
        "x of shape [3, 33] is not whole Q8_0 blocks",
    ),
    "a missing tensor": (
        content(METADATA, {name: one for name, one in stored(weights()).items() if name != "blk.1.attn_k.weight"}),
        "the tensor blk.1.attn_k.weight is missing; not used yet: blk.1.attn_norm",
    ),
    "one too many": (
        content(METADATA, stored(weights() | {"rope_freqs.weight": np.ones(4, np.float32)})),
        "the tensor rope_freqs.weight has no place",
    ),
    "another shape": (
        content(METADATA | {"llama.vocab_size": V + 1}, stored(weights())),
        f"token_embd.weight has shape [{V}, {D}]; by its metadata it must be [{V + 1}, {D}]",
    ),
    "another architecture": (
        content(METADATA | {"general.architecture": "gemma3"}, stored(weights())),
        "general.architecture='gemma3' has no counterpart here; 'llama' has",
    ),
    "a missing key": (
        content({key: held for key, held in METADATA.items() if key != "llama.block_count"}, stored(weights())),
        "llama.block_count=None: must be a whole number above 0",
    ),
    "an unknown key": (
        content(METADATA | {"llama.attention.sliding_window": 9}, stored(weights())),
        "llama.attention.sliding_window is not known here",
    ),
    "experts": (content(METADATA | {"llama.expert_count": 8}, stored(weights())), "llama.expert_count=8: must be 0"),
    "part of a head": (content(METADATA | {"llama.rope.dimension_count": 4}, {}), "must be None or 8"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_line(name, tmp_path):
    path = tmp_path / "bad.gguf"
    path.write_bytes(BAD[name][0])
    with pytest.raises(UserError) as error:
        gguf_llama.read(gguf.opened(path))
    assert str(error.value).startswith(f"{path}: ")
    assert BAD[name][1] in str(error.value)
    assert "\n" not in str(error.value)
