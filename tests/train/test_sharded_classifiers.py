"""Classifiers and pairs of every kind of parameter that mixers have: sharded = unsharded on 8 simulated devices."""

import json

import numpy as np

from tests.train import children


def test_sharded_equals_unsharded():
    report = json.loads(children.run("tests.train.sharded_classifiers", devices=8).stdout)
    assert len(report) == 3
    for kind, (alone, split) in report.items():
        assert alone[3] == 7, kind
        assert alone[2] > 1e-2, kind
        np.testing.assert_allclose(split, alone, rtol=2e-6, err_msg=kind)
