"""The profile of a step: its products are there, as often as the program has them."""

import jax
import jax.numpy as jnp

from bench import kernels


def test_products_are_counted_a_step():
    x = jnp.ones((256, 256))
    run = jax.jit(lambda x: jnp.tanh(x @ x) @ x)
    found = kernels.recorded(lambda: run(x).block_until_ready(), steps=3)
    products = {name: calls for name, (_, calls) in found.items() if "dot" in name or "ynn" in name}
    assert sum(products.values()) == 2
    assert all(time > 0 for time, _ in found.values())
    told = kernels.report({"dot": (3.0, 2.0), "copy": (1.0, 1.0)}, top=1).splitlines()
    assert told[1].split() == ["3.000", "75.0%", "2", "dot"]
    assert told[2].split() == ["4.000", "100.0%", "3", "all"]
