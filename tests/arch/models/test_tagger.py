"""Taggers: the trunk of an encoder and of a decoder under the same paths, and what each token's logits depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.attention.masks import Bidirectional
from arch.layers.heads.class_heads import LinearHead, MLPHead
from arch.models.base import Tagging
from arch.models.tagger import Tagger, tagger_of
from arch.spec import SpecError
from tests.arch import tiny

T, C = 7, 3
TOKENS = tiny.tokens(2, T)
FAMILIES = {"decoder": tiny.decoder(), "encoder": tiny.decoder(mask=Bidirectional())}


def leaves(params):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_trunk_of_each_family_and_a_head_at_each_place(family):
    """The same parameters at the same paths give the same hidden states, and W h + b of each is its token's logits."""
    model = FAMILIES[family]
    spec = tagger_of(model, classes=C)
    assert isinstance(spec, Tagging)
    (whole, params), (tagger, own) = tiny.forward(model), tiny.forward(spec)
    trunk = {path: leaf for path, leaf in leaves(params).items() if not path.startswith("['head']")}
    assert trunk.keys() == {path for path in leaves(own) if not path.startswith("['head']")}
    own = {**params, "head": own["head"]}
    out, found = (tiny.jit(lambda p, f=f: f(p, TOKENS))(p) for f, p in ((whole, params), (tagger, own)))
    np.testing.assert_array_equal(found.hidden, out.hidden)
    assert found.logits.dtype == jnp.float32
    tiny.close(np.asarray(found.logits), np.asarray(out.hidden) @ own["head"]["kernel"] + own["head"]["bias"])


@pytest.mark.parametrize(("family", "sees_later"), [("decoder", False), ("encoder", True)])
def test_a_token_sees_what_its_family_sees(family, sees_later):
    forward, params = tiny.forward(tagger_of(FAMILIES[family], classes=C, head=MLPHead(hidden=5)))
    run = tiny.jit(lambda params, tokens: forward(params, tokens).logits)
    before, after = (np.asarray(run(params, tokens)) for tokens in (TOKENS, np.where(np.arange(T) < 4, TOKENS, 3)))
    changed = np.abs(before - after).max(axis=(0, 2)) > 0
    assert changed[:4].any() == sees_later
    assert changed[4:].any()


def test_classes_of_less_than_two_are_refused():
    with pytest.raises(SpecError, match="classes=1: must be at least 2"):
        Tagger(vocab=9, width=8, depth=1, classes=1, head=LinearHead())
