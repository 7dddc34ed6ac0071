"""Rules over parameter paths: order, completeness, and the default for weight decay."""

import numpy as np
import pytest

from arch.spec import SpecError
from train.optim import AdamW, Muon, Others, Rules

PATHS = ["embedding.table", "stack.blocks.norm.gain", "stack.blocks.q.kernel", "head.kernel"]


def test_the_first_match_wins():
    rules = Rules((("norm|table", 0.0), (r"^head\.", 0.5), ("kernel", 1.0)))
    assert rules.resolve(PATHS) == dict(zip(PATHS, [0.0, 0.0, 1.0, 0.5], strict=True))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((("kernel", 1.0), ("norm", 0.0)), "rules='embedding.table': no rule matches this parameter"),
        ((("kernal", 1.0), (".*", 0.0)), "rules.0='kernal': matches no parameter; they are embedding.table, stack"),
        (((".*", 1.0), ("norm", 0.0)), "rules.1='norm': decides nothing, for rule '.*' before it already takes stack"),
    ],
)
def test_nothing_is_left_over(rules, message):
    with pytest.raises(SpecError) as error:
        Rules(rules).resolve(PATHS)
    assert message in str(error.value)


def test_a_last_catch_all_may_find_nothing_left():
    assert set(Rules(((r"kernel|table|gain", 2.0), (".*", 1.0))).resolve(PATHS).values()) == {2.0}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((), "must hold at least one"),
        ((("(", 1.0),), "rules.0.0='(': must be a regular expression"),
        (((".*", -1.0),), "rules.0.1=-1.0: must be a finite number of at least 0"),
    ],
)
def test_refusals(rules, message):
    with pytest.raises(SpecError) as error:
        Rules(rules)
    assert message in str(error.value)


DECAYING = {
    "head.kernel",
    "stack.blocks.feed_forward.up.kernel",
    "stack.blocks.mixer.o.kernel",
    "stack.blocks.mixer.q.kernel",
}


@pytest.mark.parametrize("with_axes", [True, False])
def test_matrices_decay_by_default(params, axes, roles, with_axes):
    param_groups = AdamW().param_groups(params, axes if with_axes else None, roles=roles)
    assert {path for path, param_group in param_groups.items() if param_group.decay} == DECAYING
    assert all(param_group.multiplier == 1.0 and not param_group.frozen for param_group in param_groups.values())


def test_a_stacked_vector_is_no_matrix():
    """Whatever its name: with the axes known, a vector for each layer does not decay."""
    roles = {"gate": "linear"}
    param_groups = AdamW().param_groups({"gate": _array(3, 8)}, {"gate": ("layers", "embed")}, roles=roles)
    assert param_groups["gate"].decay == 0.0
    param_groups = AdamW().param_groups({"gate": _array(3, 8)}, {"gate": ("embed", "mlp")}, roles=roles)
    assert param_groups["gate"].decay == 1.0


MADE = {
    # path: (role, decays, is Muon's)
    "upscale.kernel": ("linear", True, True),
    "debiased.kernel": ("feed_forward", True, True),
    "normaliser.kernel": ("residual", True, True),
    "gain_embedding.kernel": ("value", True, True),
    "table": ("linear", True, True),
    "codes": ("codebook", False, False),
    "memory.keys": ("embedding", False, False),
    "places": ("position", False, False),
    "heads.slope": ("constant", False, False),
    "readout.table": ("head", True, False),
    "unheard_of": ("adapter", True, True),
}


@pytest.mark.parametrize("path", MADE)
def test_the_role_decides_and_not_the_name(path):
    role, decays, muons = MADE[path]
    params, axes = _array(8, 6), ("embed", "mlp")
    for key in reversed(path.split(".")):
        params, axes = {key: params}, {key: axes}
    (found,) = AdamW().param_groups(params, axes, roles={path: role}).values()
    assert found.decay == float(decays)
    (found,) = Muon(others=Others(multiplier=0.5)).param_groups(params, axes, roles={path: role}).values()
    assert (found.decay, found.multiplier) == (float(decays), 1.0 if muons else 0.5)


def _array(*shape):
    return np.zeros(shape, np.float32)
