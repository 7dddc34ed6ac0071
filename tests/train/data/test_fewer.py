"""A share of the training rows, from everywhere among them, and nothing else is changed."""

import numpy as np
import pytest

from arch.spec import SpecError
from train.data.fewer import Fewer
from train.data.reversal import Reversed

DATA = Reversed(length=6, rows=32, held_out=10)


def test_rows_from_everywhere_and_the_same_validation():
    whole, fifth = DATA.build(), Fewer(DATA, 0.2).build()
    assert (len(whole.rows["train"]), len(fifth.rows["train"])) == (32, 6)
    assert fifth.fingerprint != whole.fingerprint
    assert Fewer(DATA, 0.2).describe() == DATA.describe()
    places = {"train": [0, 5, 10, 16, 21, 26], "validation": list(range(10))}  # k 32 // 6
    for split, chosen in places.items():
        mine = fifth.rows[split].gather(np.arange(len(chosen)))
        for name, array in whole.rows[split].gather(np.array(chosen)).items():
            np.testing.assert_array_equal(mine[name], array)
    batches, seen = fifth.train(3, seed=0), set()
    for _ in range(20):
        seen |= {tuple(row) for row in next(batches)["source"]}
    assert seen == {tuple(row) for row in whole.rows["train"].gather(np.array(places["train"]))["source"]}


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_is_a_share(share):
    with pytest.raises(SpecError, match="Fewer"):
        Fewer(DATA, share)
