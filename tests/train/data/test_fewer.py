"""A share of the training rows: the first ones, and nothing else is changed."""

import numpy as np
import pytest

from arch.spec import SpecError
from train.data.fewer import Fewer
from train.data.reversal import Reversed

DATA = Reversed(length=6, rows=32, held_out=10)


def test_the_first_rows_and_the_same_validation():
    whole, fifth = DATA.build(), Fewer(DATA, 0.2).build()
    assert (len(whole.rows["train"]), len(fifth.rows["train"])) == (32, 6)
    assert fifth.fingerprint != whole.fingerprint
    assert Fewer(DATA, 0.2).describe() == DATA.describe()
    for split, count in (("train", 6), ("validation", 10)):
        mine, theirs = (one.rows[split].gather(np.arange(count)) for one in (fifth, whole))
        for name, array in theirs.items():
            np.testing.assert_array_equal(mine[name], array)
    batches, seen = fifth.train(3, seed=0), set()
    for _ in range(20):
        seen |= {tuple(row) for row in next(batches)["source"]}
    assert seen == {tuple(row) for row in whole.rows["train"].gather(np.arange(6))["source"]}


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_is_a_share(share):
    with pytest.raises(SpecError, match="Fewer"):
        Fewer(DATA, share)
