import numpy as np
import pytest

from train.data.packing import PackedRows, best_fit, plan_packed, plan_single


def documents(seed, count=200, high=60):
    """Lengths of documents (2 and more) and a stream in which every token is different."""
    sizes = np.random.default_rng(seed).integers(2, high, count)
    ends = np.cumsum(sizes)
    return sizes, ends, np.arange(1, ends[-1] + 1)


def pieces(batch):
    """(row, tokens, positions) of each segment of a batch."""
    for row in range(len(batch["tokens"])):
        for segment in range(1, batch["segments"][row].max() + 1):
            chosen = batch["segments"][row] == segment
            yield row, batch["tokens"][row][chosen], batch["positions"][row][chosen]


@pytest.mark.parametrize("width", [2, 3, 9, 33, 100])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_token_but_the_first_of_a_document_is_a_target_once(width, seed):
    sizes, ends, tokens = documents(seed)
    rows = PackedRows(tokens, plan_packed(ends, width))
    found = list(pieces(rows.gather(np.arange(len(rows)))))
    targets = np.concatenate([piece[1:] for _, piece, _ in found])
    firsts = ends - sizes + 1
    assert sorted(targets) == sorted(set(tokens) - set(firsts))
    assert set(np.concatenate([piece for _, piece, _ in found])) == set(tokens)
    for _, piece, positions in found:
        assert len(piece) >= 2
        np.testing.assert_array_equal(np.diff(piece), 1)  # in the order of the text
        np.testing.assert_array_equal(positions, np.arange(len(piece)))
        assert np.searchsorted(ends, piece[0] - 1, "right") == np.searchsorted(ends, piece[-1] - 1, "right")
    assert rows.plan.targets == len(targets)


@pytest.mark.parametrize("width", [9, 33, 100])
def test_documents_that_fit_stay_whole(width):
    sizes, ends, tokens = documents(2)
    rows = PackedRows(tokens, plan_packed(ends, width))
    found = {int(piece[0]): len(piece) for _, piece, _ in pieces(rows.gather(np.arange(len(rows))))}
    for size, end in zip(sizes, ends, strict=True):
        if size <= width:
            assert found[end - size + 1] == size


def test_no_row_is_over_full_and_padding_is_zero():
    _, ends, tokens = documents(3)
    plan = plan_packed(ends, 21)
    batch = PackedRows(tokens, plan).gather(np.arange(plan.rows))
    padding = batch["segments"] == 0
    assert all(a.dtype == np.int32 and a.shape == (plan.rows, 21) for a in batch.values())
    assert not batch["tokens"][padding].any()
    assert not batch["positions"][padding].any()
    assert (np.diff(padding.astype(int), axis=1) >= 0).all()  # only at the end of a row
    assert plan.efficiency == pytest.approx(1 - padding.mean())


def reference_best_fit(sizes, width):
    """Best-fit decreasing, one piece after the other over all rows."""
    free, where = [], {}
    for piece in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        fitting = [row for row, left in enumerate(free) if left >= sizes[piece]]
        if not fitting:
            free.append(width)
            fitting = [len(free) - 1]
        where[piece] = min(fitting, key=lambda row: free[row])
        free[where[piece]] -= sizes[piece]
    return sorted(free)


@pytest.mark.parametrize("seed", range(5))
def test_best_fit_is_best_fit_decreasing(seed):
    sizes = np.random.default_rng(seed).integers(2, 18, 100)
    row = best_fit(sizes, 17)
    used = np.bincount(row, sizes)
    # Rows with equal space left are interchangeable, so only the fill can be compared.
    assert sorted(17 - used.astype(int)) == reference_best_fit(sizes, 17)


def test_packing_wastes_little():
    sizes = np.random.default_rng(0).integers(2, 60, 2000)
    assert plan_packed(np.cumsum(sizes), 65).efficiency > 0.98
    assert plan_single(np.cumsum(sizes), 65).efficiency < 0.6


def test_a_document_a_row():
    rows = PackedRows(np.arange(1, 13), plan_single(np.array([3, 10, 12]), 5))
    batch = rows.gather(np.array([2, 0, 1]))
    np.testing.assert_array_equal(batch["tokens"], [[11, 12, 0, 0, 0], [1, 2, 3, 0, 0], [4, 5, 6, 7, 8]])
    np.testing.assert_array_equal(batch["segments"], [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(batch["positions"], [[0, 1, 0, 0, 0], [0, 1, 2, 0, 0], [0, 1, 2, 3, 4]])


def test_rows_are_told_apart_by_index():
    _, ends, tokens = documents(4)
    rows = PackedRows(tokens, plan_packed(ends, 21))
    everything = rows.gather(np.arange(len(rows)))
    chosen = np.array([7, 0, 7, len(rows) - 1])
    for name, array in rows.gather(chosen).items():
        np.testing.assert_array_equal(array, everything[name][chosen])
    assert rows.gather(np.zeros(0, int))["tokens"].shape == (0, 21)


def test_the_plan_is_a_function_of_the_lengths():
    _, ends, _ = documents(5)
    one, two = plan_packed(ends, 33), plan_packed(ends.copy(), 33)
    np.testing.assert_array_equal(one.start, two.start)
    np.testing.assert_array_equal(one.first, two.first)
