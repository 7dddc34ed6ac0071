"""Tests execute configuration files of temporary folders; nothing of them stays."""

import sys

import pytest
from hypothesis import settings

settings.register_profile("same_every_time", derandomize=True, database=None, deadline=None)
settings.load_profile("same_every_time")


@pytest.fixture(autouse=True)
def _forget_configuration_files(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("config_", "beside_")):
            del sys.modules[name]
