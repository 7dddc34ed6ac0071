"""The adapter of lm-evaluation-harness against the same weights in Transformers, text by text."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from arch.blocks import PreNorm
from arch.decode.sampling import Greedy, Sample
from arch.layers.attention.masks import Bidirectional
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Untied
from arch.layers.feed_forward import GatedMLP
from arch.layers.norms.common import RMSNorm
from arch.layers.positions import Learned, NoPosition
from arch.models.decoder import Decoder
from arch.models.encoder import Encoder
from arch.spec import UserError
from experiments.suites.harness import Harness
from tests.arch.models.states import GROUPED, D, F, H, L, N, llama_like, reference, untied
from tests.experiments.suites.letters import Letters, opened, read
from tests.train import toys
from train.objectives.masked_lm import MaskedLM

LENGTH = 7


@dataclasses.dataclass
class Request:
    args: tuple[Any, ...]


@pytest.fixture(scope="module")
def llama():
    """(the adapter of a Llama that reads 7 tokens, the Llama)."""
    config = transformers.LlamaConfig(**{**GROUPED, "vocab_size": toys.VOCAB}, rms_norm_eps=1e-3)
    theirs, state = reference(transformers.LlamaForCausalLM, config)
    norm = RMSNorm(eps=1e-3)
    block = PreNorm(mixer=Attention(heads=N, kv_heads=H), feed_forward=GatedMLP(hidden=F), norm=norm)
    ours = Decoder(toys.VOCAB, D, L, block, norm=norm, head=Untied())
    return Harness(opened(ours, untied(llama_like(state), state)), batch=3, length=LENGTH), theirs


def told(theirs, tokens):
    """float64 [T, V], the log-probabilities behind each of `tokens`."""
    with torch.no_grad():
        return torch.log_softmax(theirs(torch.tensor([tokens])).logits[0].double(), dim=-1).numpy()


def expected(theirs, context, continuation):
    """One continuation alone, behind as much of its context as fits."""
    read = [*context, *continuation][-(LENGTH + 1) :]
    log_p = told(theirs, read[:-1])[-len(continuation) :]
    each = log_p[np.arange(len(continuation)), continuation]
    return each.sum(), (log_p.argmax(axis=1) == continuation).all()


PAIRS = {
    ("ab", "cd"): ([0, 2, 3], [4, 5]),
    ("", "abc"): ([0], [2, 3, 4]),  # bos alone
    ("ab ", "cd"): ([0, 2, 3], [28, 4, 5]),  # the space belongs to what follows
    ("  ", "a"): ([0], [28, 28, 2]),
    ("abcdefghij", "kl"): ([0, *range(2, 12)], [12, 13]),  # longer than the model reads
    ("abc", "defghij"): ([0, 2, 3, 4], [5, 6, 7, 8, 9, 10, 11]),  # as long as it reads
    ("at", "ha"): ([0, 2, 21], [2]),  # the border falls into a token
    ("at", "h"): ([0, 2, 21], []),
}


def test_log_likelihoods(llama):
    ours, theirs = llama
    found = ours.loglikelihood([Request(texts) for texts in PAIRS])
    assert [type(value) for value in found[0]] == [float, bool]
    for (texts, (context, continuation)), (value, greedy) in zip(PAIRS.items(), found, strict=True):
        assert ours.pair(*texts) == (context, continuation)
        if continuation:
            wanted, best = expected(theirs, context, continuation)
            assert value == pytest.approx(wanted, abs=2e-4)
            assert greedy == best
    assert found[-1] == (0.0, True)


def test_greedy_is_what_the_model_would_write(llama):
    ours, theirs = llama
    tokens = [0, 2, 3]
    for _ in range(3):
        tokens.append(int(told(theirs, tokens)[-1].argmax()))
    (_, greedy), (_, other) = ours.scored([([0, 2, 3], tokens[3:]), ([0, 2, 3], [*tokens[3:5], tokens[5] ^ 1])])
    assert greedy
    assert not other


@pytest.mark.parametrize("text", ["abc", "abcdefg", "abcdefghijklmnopq", ""])
def test_every_token_of_a_text_once(llama, text):
    """Windows of 7 tokens, the last of which reaches back as far as it can."""
    ours, theirs = llama
    whole = [0, *Letters().encode(text)]
    total, done = 0.0, 0
    while done < len(text):
        end = min(done + LENGTH, len(text))
        begin = max(0, end - LENGTH)
        log_p = told(theirs, whole[begin:end])
        total += sum(log_p[place - 1 - begin, whole[place]] for place in range(done + 1, end + 1))
        done = end
    assert ours.loglikelihood_rolling([Request((text,))]) == [pytest.approx(total, abs=5e-4)]


def test_writing_until(llama):
    """Greedy, behind the end of a context that is too long, up to a stop."""
    ours, theirs = llama
    contexts, written = ["abcdefghijkl", "ab"], []
    for context in contexts:
        tokens = [0, *Letters().encode(context)][-(LENGTH + 1 - 4) :]
        for _ in range(4):
            tokens.append(int(told(theirs, tokens)[-1].argmax()))
        assert 1 not in tokens
        written.append(Letters().decode(tokens[-4:]))
    options = {"until": ["?"], "max_gen_toks": 4, "do_sample": False, "temperature": 0.0}
    assert ours.generate_until([Request((context, options)) for context in contexts]) == written
    cut = {**options, "until": [written[0][2:], written[0][1]]}
    assert ours.generate_until([Request((contexts[0], cut))]) == [written[0].partition(written[0][1])[0]]


def test_manners(llama):
    ours, _ = llama
    assert ours.manner({}) == (256, Greedy())
    assert ours.manner({"max_gen_toks": 3, "do_sample": False, "temperature": 0.7}) == (3, Greedy())
    assert ours.manner({"temperature": 0.7, "top_p": 0.9}) == (256, Sample(0.7, None, 0.9))
    with pytest.raises(UserError, match="beams is not known"):
        ours.manner({"beams": 2})


def test_a_context_keeps_half_of_what_is_read(llama, caplog):
    """A request that does not say how much to write, on a model that reads less than is written by default."""
    ours, theirs = llama
    tokens = [0, 2, 3, 4]
    for _ in range(4):
        tokens.append(int(told(theirs, tokens)[-1].argmax()))
    with caplog.at_level("WARNING"):
        (written,) = ours.generate_until([Request(("abc", {}))])
    assert written == Letters().decode(tokens[4 : tokens.index(1) if 1 in tokens else None])
    assert "1 of 1 requests want more tokens than the 7" in caplog.text
    assert ours.fitted([0, 2, 3], 5) == ([0, 2, 3], 5), "eight fit: the last is not read"
    assert ours.fitted([0, 2, 3, 4], 5) == ([0, 2, 3, 4], 4)
    assert ours.fitted([0, 2, 3, 4, 5, 6, 7], 2) == ([2, 3, 4, 5, 6, 7], 2)


def test_equal_requests_are_drawn_each_by_itself(llama):
    """As those of a task with `repeats` are, more of them than a batch has rows."""
    ours, _ = llama
    options = {"do_sample": True, "temperature": 3.0, "max_gen_toks": 4}
    written = ours.generate_until([Request(("a", options)) for _ in range(12)])
    assert len(set(written)) > 8
    assert ours.generate_until([Request(("a", options)) for _ in range(12)]) == written


def test_a_context_of_more_tokens_than_positions():
    """Learned positions: the last tokens that fit, read from position 0 on."""
    block = PreNorm(mixer=Attention(heads=2, position=NoPosition()))
    model = opened(Decoder(toys.VOCAB, 16, 1, block, position=Learned(16)))
    ours = Harness(model)
    assert ours.length == 16
    tokens = [0, *Letters().encode("abcdefghijklmnopqrsuvwx")]
    ((value, _),) = ours.loglikelihood([Request(("abcdefghijklmnopqrsu", "vwx"))])
    logits = np.asarray(read(model.model, tokens[-17:-1]).logits[0, -3:], np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    assert value == pytest.approx(log_p[np.arange(3), tokens[-3:]].sum(), abs=1e-4)


def test_what_the_harness_cannot_ask(llama):
    ours, _ = llama
    with pytest.raises(UserError, match="of 8 tokens is longer than the 7"):
        ours.loglikelihood([Request(("a", "bcdefgij"))])
    seeing = PreNorm(mixer=Attention(heads=2, mask=Bidirectional()))
    with pytest.raises(UserError, match="Encoder continues no text"):
        Harness(opened(Encoder(toys.VOCAB + 1, 16, 1, seeing), objective=MaskedLM()))
    small = opened(Decoder(toys.VOCAB, 16, 1, PreNorm(mixer=Attention(heads=2))))
    assert Harness(small).length == toys.LENGTH
    small.dataset.tokenizer = None
    with pytest.raises(UserError, match="no tokenizer"):
        Harness(small)
