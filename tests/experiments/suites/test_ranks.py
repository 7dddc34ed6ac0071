"""Area under the ROC curve and average precision: by hand, by counting pairs, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from arch.spec import UserError
from experiments.suites.ranks import auc, average_precision


def test_by_hand():
    scores, positive = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([1, 0, 1, 0, 0], bool)
    assert auc(scores, positive) == pytest.approx(5 / 6)
    assert average_precision(scores, positive) == pytest.approx((1 + 2 / 3) / 2)
    assert auc(-scores, positive) == pytest.approx(1 / 6)
    flat = np.zeros(5)
    assert (auc(flat, positive), average_precision(flat, positive)) == (0.5, 0.4)


@pytest.mark.parametrize("levels", [3, 1000])
def test_against_scikit_learn_and_by_pairs(levels):
    rng = np.random.default_rng(levels)
    scores, positive = rng.integers(0, levels, 300).astype(float), rng.random(300) < 0.2
    above, below = scores[positive][:, None], scores[~positive][None]
    assert auc(scores, positive) == pytest.approx(((above > below) + 0.5 * (above == below)).mean(), abs=1e-12)
    assert auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    assert average_precision(scores, positive) == pytest.approx(average_precision_score(positive, scores), abs=1e-12)


@pytest.mark.parametrize("label", [True, False])
def test_labels_of_one_kind_have_no_order(label):
    for measure in (auc, average_precision):
        with pytest.raises(UserError, match="need labels of both kinds"):
            measure(np.arange(3.0), np.full(3, label))
