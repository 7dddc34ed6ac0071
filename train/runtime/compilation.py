"""How programs are compiled: XLA's options by platform, and a cache of compiled programs that outlives the process."""

from __future__ import annotations

import jax

from train.data.cache import root

Options = dict[str, str | int | bool] | None


def enable_compilation_cache() -> None:
    """Keeps compiled programs in the `xla` folder of the cache, so that the same run starts faster the next time."""
    jax.config.update("jax_compilation_cache_dir", str(root() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def options(platform: str) -> Options:
    """XLA's options for the steps on `platform`; None: its defaults."""
    return STEP_OPTIONS.get(platform)


def start_options(platform: str) -> Options:
    """XLA's options for drawing the parameters, which is done once."""
    return START_OPTIONS.get(platform)


STEP_OPTIONS: dict[str, Options] = {}
# Random numbers for tens of parameters compile 3 to 4 times faster so, and run no slower.
START_OPTIONS: dict[str, Options] = {"cpu": {"xla_backend_optimization_level": 1}}
