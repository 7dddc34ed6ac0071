"""Compiled programs are kept in the cache, and found again."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from train.runtime.compilation import enable_compilation_cache, options, start_options

NAMES = ("compilation_cache_dir", "persistent_cache_min_compile_time_secs", "persistent_cache_min_entry_size_bytes")


@pytest.fixture
def _own_cache(tmp_path, monkeypatch):
    """The cache of a user, for one test."""
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path))
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in NAMES}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.mark.usefixtures("_own_cache")
def test_a_program_is_written_once_and_found_again(tmp_path):
    enable_compilation_cache()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()
    heard: list[str] = []
    listen = lambda event, **_: heard.append(event)  # noqa: E731
    jax.monitoring.register_event_listener(listen)
    try:
        for _ in range(2):
            jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x).T)(jnp.ones((8, 8))).block_until_ready()
            jax.clear_caches()
    finally:
        jax.monitoring.unregister_event_listener(listen)
    assert list((tmp_path / "xla").glob("*-cache"))
    assert "/jax/compilation_cache/cache_hits" in heard


@pytest.mark.parametrize("of", [options, start_options])
def test_the_options_are_known_to_this_compiler(of):
    assert int(jax.jit(lambda x: x + 1, compiler_options=of("cpu"))(jnp.int32(1))) == 2
    assert of("an unknown platform") is None
