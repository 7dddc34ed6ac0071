"""Rules over parameter paths: order, completeness, and the default for weight decay."""

import numpy as np
import pytest

from arch.spec import SpecError
from train.optim import AdamW, Rules

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
def test_matrices_decay_by_default(params, axes, with_axes):
    treatments = AdamW().treatments(params, axes if with_axes else None)
    assert {path for path, treatment in treatments.items() if treatment.decay} == DECAYING
    assert all(treatment.multiplier == 1.0 and not treatment.frozen for treatment in treatments.values())


def test_a_stacked_vector_is_no_matrix():
    """Whatever its name: with the axes known, a vector for each layer does not decay."""
    treatments = AdamW().treatments({"gate": _array(3, 8)}, {"gate": ("layers", "embed")})
    assert treatments["gate"].decay == 0.0
    treatments = AdamW().treatments({"gate": _array(3, 8)}, {"gate": ("embed", "mlp")})
    assert treatments["gate"].decay == 1.0


def _array(*shape):
    return np.zeros(shape, np.float32)
