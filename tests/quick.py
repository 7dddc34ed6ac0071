"""How tests compile: with few optimisations, several times faster for the tiny models here. Programs run once."""

import importlib.metadata

# With its emitters of fusions off, XLA compiles faster still; jaxlib 0.11 has no other way, and no such option.
_OLD = tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11)
EMITTERS = {"xla_cpu_use_fusion_emitters": False} if _OLD else {}

OPTIONS = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True, **EMITTERS}
"""Options of one program, for `jax.jit(..., compiler_options=OPTIONS)`."""

FLAGS = " ".join(
    f"--{name}={str(value).lower()}" for name, value in {"xla_backend_optimization_level": 0, **EMITTERS}.items()
)
"""XLA_FLAGS of all programs of a process."""
