"""A small parameter tree with everything that optimisers must tell apart, its logical axes and its roles."""

import jax
import numpy as np
import pytest

AXES = {
    "embedding": {"table": ("vocab", "embed")},
    "stack": {
        "blocks": {
            "mixer_norm": {"gain": ("layers", "embed")},
            "mixer": {
                "q": {"kernel": ("layers", "embed", "heads", "head_dim"), "bias": ("layers", "heads", "head_dim")},
                "o": {"kernel": ("layers", "heads", "head_dim", "embed")},
            },
            "feed_forward": {"up": {"kernel": ("layers", "embed", "mlp")}},
        }
    },
    "head": {"kernel": ("embed", "vocab")},
}
ROLES = {
    "embedding.table": "embedding",
    "stack.blocks.mixer_norm.gain": "constant",
    "stack.blocks.mixer.q.kernel": "linear",
    "stack.blocks.mixer.q.bias": "constant",
    "stack.blocks.mixer.o.kernel": "residual",
    "stack.blocks.feed_forward.up.kernel": "feed_forward",
    "head.kernel": "head",
}
SIZES = {"vocab": 11, "embed": 8, "layers": 2, "heads": 2, "head_dim": 4, "mlp": 12}


def random_tree(seed: int) -> dict:
    rng = np.random.default_rng(seed)
    draw = lambda names: rng.standard_normal([SIZES[name] for name in names]).astype(np.float32)  # noqa: E731
    return jax.tree.map(draw, AXES, is_leaf=lambda node: isinstance(node, tuple))


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def axes() -> dict:
    return AXES


@pytest.fixture
def roles() -> dict:
    return ROLES


@pytest.fixture
def params() -> dict:
    return random_tree(0)


@pytest.fixture
def grads() -> list[dict]:
    return [random_tree(seed) for seed in (1, 2, 3)]
