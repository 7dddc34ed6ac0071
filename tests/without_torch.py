"""Where PyTorch is not installed, what needs it is skipped, and the summary says why.

Its CPU build comes for Python 3.11 (requirements-dev.txt); elsewhere `pip install torch` is a matter of gigabytes.
"""

import importlib.util

import pytest

MISSING = importlib.util.find_spec("torch") is None
REASON = "needs PyTorch: pip install torch"


def pytest_pycollect_makemodule(module_path, parent):
    return _Module.from_parent(parent, path=module_path) if MISSING else None


class _Module(pytest.Module):
    def _getobj(self):
        try:
            return super()._getobj()
        except self.CollectError as error:
            if "No module named 'torch'" in str(error):
                pytest.skip(REASON, allow_module_level=True)
            raise


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    try:
        return (yield)
    except ImportError as error:
        _skip(error)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    try:
        return (yield)
    except ImportError as error:
        _skip(error)
        raise


def _skip(error: ImportError) -> None:
    """Transformers, too, tells in an ImportError that its class is of no use without PyTorch."""
    if MISSING and (error.name == "torch" or "requires the PyTorch library" in str(error)):
        pytest.skip(REASON)
