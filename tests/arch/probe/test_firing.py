"""What codes fire on, against counts by hand and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score

from arch.probe.firing import best_neuron, firing_counts, firing_of, overlap

CODES = np.array([[0, 1], [1, 1], [2, 0], [0, 2]])
LABEL = np.array([True, True, False, True])


def test_counts_by_hand():
    assert firing_counts(CODES, 4).tolist() == [3, 2, 2, 0]
    found = firing_of(CODES, LABEL, 4)
    np.testing.assert_allclose(found.precision, [2 / 3, 1, 1 / 2, 0])
    np.testing.assert_allclose(found.recall, [2 / 3, 2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(found.f1, [2 / 3, 0.8, 0.4, 0])


def test_places_without_a_code_fire_nothing():
    fewer = np.concatenate([CODES, np.full((4, 2), -1)], axis=1)
    assert firing_counts(fewer, 4).tolist() == firing_counts(CODES, 4).tolist()
    np.testing.assert_array_equal(firing_of(fewer, LABEL, 4).recall, firing_of(CODES, LABEL, 4).recall)
    other = CODES[:, ::-1][[1, 0, 2, 3]]
    assert overlap(fewer, other).matched == overlap(CODES, other).matched < 1
    sometimes = np.array([[0], [-1], [0], [-1]])
    assert overlap(sometimes, np.array([[7], [2], [7], [2]])).matched == 1.0
    assert firing_counts(sometimes, 1).tolist() == [2]


def test_precision_and_recall_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    codes, label = rng.integers(0, 6, (200, 3)), rng.random(200) < 0.3
    found = firing_of(codes, label, 6)
    for code in range(6):
        fires = (codes == code).any(axis=1)
        np.testing.assert_allclose(found.precision[code], precision_score(label, fires))
        np.testing.assert_allclose(found.recall[code], recall_score(label, fires))


def test_the_best_neuron_is_found_by_trying_all():
    rng = np.random.default_rng(1)
    label = rng.random(300) < 0.2
    values = rng.normal(size=(300, 7))
    values[:, 4] -= 1.5 * label  # fires by being low
    found = best_neuron(values, label, recall=0.7)
    tried = {}
    for index in range(7):
        for sign in (1, -1):
            for threshold in np.unique(sign * values[:, index]):
                fires = sign * values[:, index] >= threshold
                if fires[label].mean() >= 0.7:
                    tried[index, sign, threshold] = label[fires].mean() if fires.any() else 0
                    highest = threshold
            tried = {key: p for key, p in tried.items() if key[:2] != (index, sign) or key[2] == highest}
    assert (found.neuron, found.sign) == (4, -1)
    np.testing.assert_allclose(found.precision, max(tried.values()))
    with pytest.raises(ValueError, match="no token has the label"):
        best_neuron(values, np.zeros(300, bool), 0.5)


def test_codes_that_differ_by_name_overlap_wholly():
    rng = np.random.default_rng(2)
    codes = np.argsort(rng.random((400, 8)) * np.arange(1, 9), axis=1)[:, :2]  # two codes of eight, unequally often
    renamed = rng.permutation(8)[codes][:, ::-1]
    found = overlap(codes, renamed)
    assert found.matched == 1.0
    assert found.shuffled < 0.6
    assert overlap(codes, rng.permutation(codes)).matched < 0.6


def test_overlap_by_hand():
    a = np.array([[0], [0], [0], [1]])
    b = np.array([[5], [5], [3], [3]])
    # 0 with 5: 2 tokens of 3; 1 with 3: 1 of 2. Code 0 counts for three tokens of four.
    np.testing.assert_allclose(overlap(a, b).matched, (3 * 2 / 3 + 1 * 1 / 2) / 4)
    with pytest.raises(ValueError, match="there are 4 and 3 of them"):
        overlap(a, b[:3])
