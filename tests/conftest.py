"""What all tests share: strict promotion, and compiled programs kept from run to run.

Set in the environment as well, for the processes that tests start. Programs are compiled with few optimisations, which
is several times faster for the tiny models here; STRATA_TESTS_OPTIMIZED=1 compiles them as users do.
"""

import os
import tempfile

OPTIONS = {
    "jax_compilation_cache_dir": os.path.join(tempfile.gettempdir(), "strata-tests", "xla"),
    "jax_persistent_cache_min_compile_time_secs": 0.1,
    "jax_persistent_cache_min_entry_size_bytes": 0,
    "jax_numpy_rank_promotion": "raise",
    "jax_numpy_dtype_promotion": "strict",
}
os.environ.update({name.upper(): str(value) for name, value in OPTIONS.items()})
if not os.environ.get("STRATA_TESTS_OPTIMIZED"):
    fast = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {fast}"

import jax  # noqa: E402

for name, value in OPTIONS.items():
    jax.config.update(name, value)
