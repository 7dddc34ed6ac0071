"""Studies: one file each, and in one import all that it is written with.

    from experiments import AdamW, Better, Decoder, PreNorm, Run, Study, match

`__init__.pyi` lists the public names and where each is defined (`make golden` writes it); a module is imported when
a name of it is used.
"""

import ast as _ast
import functools as _functools
import importlib as _importlib
import pathlib as _pathlib


@_functools.cache
def public() -> dict[str, str]:
    """Public name -> the module that defines it."""
    stub = _ast.parse(_pathlib.Path(__file__).with_suffix(".pyi").read_text())
    lines = (node for node in stub.body if isinstance(node, _ast.ImportFrom) and node.module)
    return {alias.name: str(node.module) for node in lines for alias in node.names}


def __getattr__(name: str):
    if name.startswith("_") or name not in public():
        raise AttributeError(f"module 'experiments' has no name {name!r}")
    value = getattr(_importlib.import_module(public()[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *public()})
