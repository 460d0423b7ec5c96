"""Labels recovered from pairs: from all and from some, from right and from wrong ones; and how well they agree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_pairs import pairs_of, same_groups

from dshc.data.pair_labels import RECOVERIES, labels_from_pairs
from dshc.data.pairs import Pairs
from dshc.errors import InputError

LABELS = np.random.default_rng(0).integers(0, 6, 300)


@pytest.mark.parametrize("how", RECOVERIES)
def test_all_right_pairs_give_the_classes(how):
    found = labels_from_pairs(pairs_of(LABELS), how)
    assert same_groups(found.labels, LABELS) and found.n_classes == 6
    assert found.agreement == 1 and found.n_left_out == 0 and found.labels.dtype == np.int64
    assert found.how == ("neighbourhoods" if how == "auto" else how)
    assert found.labels[0] == 0 and np.array_equal(np.unique(found.labels), np.arange(6))


@pytest.mark.parametrize("how", ["auto", "markov", "spectral"])
@pytest.mark.parametrize(("known", "wrong"), [(0.3, 0.0), (0.3, 0.05), (1.0, 0.05), (1.0, 0.2)])
def test_missing_and_wrong_pairs_give_the_classes(how, known, wrong):
    found = labels_from_pairs(pairs_of(LABELS, known=known, wrong=wrong), how)
    assert same_groups(found.labels, LABELS)
    assert (found.agreement == 1) == (wrong == 0)


@pytest.mark.parametrize(("n_classes", "per_class", "n_wrong"), [(5, 20, 400), (30, 10, 1200)])
def test_one_label_for_all_is_no_better_where_only_similar_pairs_are_known(n_classes, per_class, n_wrong):
    """Some of them wrong, so that all classes hang together."""
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(n_classes), per_class)
    first, second = np.triu_indices(len(labels), 1)
    same = labels[first] == labels[second]
    kept = np.r_[np.flatnonzero(same), rng.choice(np.flatnonzero(~same), n_wrong, replace=False)]
    pairs = Pairs.of(len(labels), np.c_[first, second][kept], np.ones(len(kept), bool))
    for how in ("auto", "markov"):
        found = labels_from_pairs(pairs, how)
        assert same_groups(found.labels, labels)
        assert found.agreement == pytest.approx(same.sum() / len(kept))


def test_more_clusters_than_are_merged_keep_their_labels(monkeypatch):
    monkeypatch.setattr("dshc.data.pair_labels._MOST_MERGED", 10)
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(40), 4)
    pairs = pairs_of(labels)
    some = pairs.known.tocoo()
    upper = (some.row < some.col) & ((some.data > 0) | (rng.random(some.nnz) < 0.2))
    known = Pairs.of(160, np.c_[some.row[upper], some.col[upper]], some.data[upper] > 0)
    found = labels_from_pairs(known, "markov")
    assert same_groups(found.labels, labels) and found.agreement == 1 and found.n_left_out == 0


def test_similar_pairs_alone_give_the_classes():
    known = pairs_of(LABELS, known=0.3).known.copy()
    known.data[known.data < 0] = 0
    known.eliminate_zeros()
    found = labels_from_pairs(Pairs(known))
    assert same_groups(found.labels, LABELS) and found.how == "markov"


def test_several_labels_an_item_from_neighbourhoods():
    # Every label is some item's only one; then an item's labels are the neighbourhoods it lies in.
    rng = np.random.default_rng(1)
    hot = np.concatenate([np.eye(4), rng.random((60, 4)) < 0.5]).astype(np.uint8)
    hot = hot[hot.any(1)]
    found = labels_from_pairs(pairs_of(hot))
    assert found.how == "neighbourhoods" and found.agreement == 1 and found.labels.dtype == np.uint8
    assert sorted(map(tuple, found.labels.T)) == sorted(map(tuple, hot.T))


@pytest.mark.parametrize("how", RECOVERIES)
def test_an_item_that_is_like_no_other_gets_no_label(how):
    labels = np.append(LABELS, [6, 7])
    found = labels_from_pairs(pairs_of(labels), how)
    assert found.labels[-2:].tolist() == [-1, -1] and found.n_left_out == 2 and found.n_classes == 6
    assert same_groups(found.labels[:-2], LABELS)


@pytest.mark.parametrize("most", [8, 1024])
def test_items_without_pairs_get_no_label_however_many_they_are(most, monkeypatch):
    from dshc.data import pair_labels

    monkeypatch.setattr(pair_labels, "_MOST_MERGED", most)
    known = pairs_of(np.arange(60) % 3)
    low, high = np.nonzero(np.triu(known.known.toarray()))
    more = Pairs.of(80, np.column_stack([low, high]), known.known[low, high] > 0)
    for how in ("auto", "markov", "spectral"):
        found = labels_from_pairs(more, how)
        assert (found.labels[60:] == -1).all() and same_groups(found.labels[:60], np.arange(60) % 3)


@pytest.mark.parametrize("n", [60, 90, 700, 1201])
def test_clean_pairs_have_a_spectrum_of_few_values_and_are_recovered_all_the_same(n):
    labels = np.arange(n) % 3
    first = labels_from_pairs(pairs_of(labels), "spectral").labels
    assert same_groups(first, labels)
    for _ in range(3):  # the seed decides, and nothing else
        assert np.array_equal(labels_from_pairs(pairs_of(labels), "spectral").labels, first)


def test_a_spectrum_that_cannot_be_found_is_no_label(monkeypatch):
    from scipy.sparse import linalg

    tried = []

    def fails(matrix, *, ncv, **options):
        tried.append(ncv)
        raise linalg.ArpackError(3)

    monkeypatch.setattr(linalg, "eigsh", fails)
    with pytest.raises(InputError):
        labels_from_pairs(pairs_of(np.arange(700) % 3), "spectral")
    assert tried[0] < tried[1] < tried[2]


def test_the_spectrum_of_similar_pairs_alone_has_no_class_too_many():
    known = pairs_of(LABELS, known=0.3).known.copy()
    known.data[known.data < 0] = 0
    known.eliminate_zeros()
    assert same_groups(labels_from_pairs(Pairs(known), "spectral").labels, LABELS)


def test_pairs_that_are_noise_have_no_label_by_their_spectrum():
    labels = np.random.default_rng(3).integers(0, 2, 200)
    with pytest.raises(InputError, match="pairs must show at least one label by spectral"):
        labels_from_pairs(pairs_of(labels, known=0.2, wrong=0.5), "spectral")


@pytest.mark.parametrize("labels", [[0, 0], [0, 0, 0], [0, 0, 1]])
def test_two_and_three_items(labels):
    found = labels_from_pairs(pairs_of(np.array(labels)))
    assert found.labels.tolist() == [0 if label == 0 else -1 for label in labels]


@given(st.integers(0, 2**32 - 1))
def test_agreement_is_the_mean_of_two_shares(seed):
    labels = np.random.default_rng(seed).integers(0, 3, 24)
    pairs = pairs_of(labels, known=0.5, wrong=0.2, seed=seed)
    found = labels_from_pairs(pairs, "markov")
    right = {1: [], -1: []}
    matrix = pairs.known.toarray()
    for i, j in np.argwhere(np.triu(matrix)):
        together = found.labels[i] == found.labels[j] >= 0
        right[matrix[i, j]].append(together == (matrix[i, j] > 0))
    assert found.agreement == pytest.approx(np.mean([np.mean(shares) for shares in right.values() if shares]))


def test_many_clusters_are_merged_from_the_largest(monkeypatch):
    from dshc.data import pair_labels

    monkeypatch.setattr(pair_labels, "_MOST_MERGED", 100)
    pairs = pairs_of(LABELS, wrong=0.05)
    assert same_groups(pair_labels._settled(pairs, np.arange(len(LABELS))), LABELS)


def test_pairs_that_show_no_label():
    with pytest.raises(
        InputError, match="pairs must show at least one label by markov, got none from 3 pairs"
    ):
        labels_from_pairs(pairs_of(np.arange(3)), "markov")


def test_what_is_refused():
    with pytest.raises(InputError, match="recover must be one of auto, neighbourhoods, .*, got 'guess'"):
        labels_from_pairs(pairs_of(LABELS), "guess")
    with pytest.raises(
        InputError, match="recover must be markov or spectral where pairs are missing, got neighbour"
    ):
        labels_from_pairs(pairs_of(LABELS, known=0.5), "neighbourhoods")
