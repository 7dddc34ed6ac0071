"""Sharded = unsharded on 8 simulated devices, with dropout and micro-batches on."""

import json

import pytest

from tests.train import children
from tests.train.sharded import MESHES


@pytest.fixture(scope="module")
def report() -> dict:
    return json.loads(children.run("tests.train.sharded", devices=8).stdout)


@pytest.mark.parametrize("name", [name for name in MESHES if name != "one device"])
def test_sharded_equals_unsharded(report, name):
    """Start: bit for bit. Losses, gradient norms: 1e-6 relative. Parameters after two steps of 1e-2: 2e-5 absolute.

    Adam divides by the root of the second moment, so a gradient near zero turns rounding into visible differences.
    """
    found = report[name]
    assert found["before"] == 0.0
    assert max(found["told"]) < 1e-6
    assert found["moved"] > 1e-2
    assert found["after"] < 2e-5


@pytest.mark.parametrize("accumulate", [1, 2])
def test_rows_alone_are_added_in_one_exchange(report, accumulate):
    """And where dropout is drawn they are not: every device would draw for its rows what the first draws for its."""
    found = report[f"rows alone, accumulate={accumulate}"]
    assert max(found["told"]) < 1e-6
    assert found["after"] < 2e-5
    assert found["exchanges"] == [1, 1]
    assert report["drawing, exchanges"][0] > 1


def test_parameters_and_moments_are_split(report):
    split = lambda name, what: sum(count > 1 for count in report[name]["parts"][what])  # noqa: E731
    assert split("data=8", "params") == 0
    matrices = 9  # embedding, head, seven a block
    assert split("fsdp=8", "params") == matrices + 3, "and the three gains"
    assert split("fsdp=8", "opt_state") == 2 * (matrices + 3)
    assert max(report["fsdp=8"]["parts"]["params"]) == 8
    assert max(report["data=2 fsdp=2 tensor=2"]["parts"]["params"]) == 4


def test_factored_moments_are_split_along(report):
    assert report["adafactor"]["after"] < 2e-5
