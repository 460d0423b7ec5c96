"""Statistics of codes and class accuracy, worked by hand and against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from effort import examples
from evaluation_sets import hand, random_sets
from hypothesis import given, settings
from hypothesis import strategies as st

from dshc.evaluation import (
    CodeStatistics,
    Conventions,
    class_accuracy,
    code_statistics,
    evaluate,
    statistics,
)
from dshc.evaluation.statistics import mean_of_queries, standard_error, tie_group_size, tie_statistics


def test_code_statistics_worked_by_hand() -> None:
    bits = np.array([[0, 0, 1, 1, 0], [1, 0, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [1, 0, 1, 0, 1]])
    found = code_statistics(np.packbits(bits, axis=1, bitorder="little"), 5)
    assert (found.n_codes, found.n_distinct, found.constant_bits) == (5, 4, 2)
    np.testing.assert_allclose(found.bit_mean, [0.6, 0, 1, 0.4, 0.6])
    entropy = -(0.6 * math.log2(0.6) + 0.4 * math.log2(0.4))
    assert found.bit_entropy == pytest.approx(3 / 5 * entropy)
    correlations = np.corrcoef(bits[:, [0, 3, 4]].T)[np.triu_indices(3, 1)]
    assert found.bit_correlation == pytest.approx(np.abs(correlations).mean())


def test_bits_and_classes_worked_by_hand() -> None:
    # Bit 0 is class 7, bit 1 its opposite, bit 2 never changes, bit 3 is 1 for half of class 5 and all of 9.
    bits = np.array([[1, 0, 1, 0], [1, 0, 1, 0], [0, 1, 1, 1], [0, 1, 1, 0], [0, 1, 1, 1]])
    labels = np.array([7, 7, 5, 5, 9])
    found = code_statistics(np.packbits(bits, axis=1, bitorder="little"), 4, labels)
    assert (found.n_distinct, found.n_most_frequent) == (3, 2)
    assert found.bit_partner.tolist() == [1, 0, -1, 0]
    np.testing.assert_allclose(found.bit_partner_correlation, [-1, -1, np.nan, -2 / 3])
    assert found.bit_n_classes.tolist() == [1, 2, 3, 1]
    assert found.bit_classes.tolist() == [[7, 5, 9], [5, 9, 7], [5, 7, 9], [9, 5, 7]]
    np.testing.assert_allclose(found.bit_class_share, [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0.5, 0]])
    assert found.entropies[2] == 0 and found.entropies.mean() == found.bit_entropy
    assert code_statistics(np.zeros((3, 1), np.uint8), 1).bit_partner.tolist() == [-1]


@settings(max_examples=examples(100))
@given(
    seed=st.integers(0, 2**32 - 1),
    n_codes=st.integers(1, 60),
    n_bits=st.integers(1, 20),
    n_classes=st.integers(1, 9),
    multilabel=st.booleans(),
    one_table=st.booleans(),
)
def test_statistics_of_bits_are_those_of_a_slow_twin(
    seed: int, n_codes: int, n_bits: int, n_classes: int, multilabel: bool, one_table: bool
) -> None:
    rng = np.random.default_rng(seed)
    bits = (rng.random((n_codes, n_bits)) < rng.random(n_bits)).astype(np.uint8)
    bits[:, -1] = bits[:, 0]  # bits that correlate equally
    labels = rng.integers(0, n_classes, n_codes) * 3 - 4
    if multilabel:
        labels = (rng.random((n_codes, n_classes)) < 0.3).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        if not one_table:
            patch.setattr(statistics, "_TABLE_CELLS", 1)
            patch.setattr(statistics, "_CHUNK_ROWS", 7)
        found = code_statistics(np.packbits(bits, axis=1, bitorder="little"), n_bits, labels)
    codes = [row.tobytes() for row in bits]
    assert found.n_distinct == len(set(codes))
    assert found.n_most_frequent == max(map(codes.count, codes))
    slow_partners(found, bits)
    for bit in range(n_bits):
        rates = []
        for label in range(n_classes) if multilabel else sorted(set(labels.tolist())):
            mine = bits[(labels[:, label] == 1) if multilabel else (labels == label), bit]
            if len(mine):
                rates.append((label, mine.sum() / len(mine)))
        assert found.bit_n_classes[bit] == sum(rate > 0.5 for _, rate in rates)
        top = sorted(rates, key=lambda pair: -pair[1])[:5]
        assert found.bit_classes[bit].tolist() == [label for label, _ in top]
        assert found.bit_class_share[bit].tolist() == [rate for _, rate in top]


def slow_partners(found: CodeStatistics, bits: np.ndarray) -> None:
    n_bits = bits.shape[1]
    for bit in range(n_bits):
        others = {
            other: np.corrcoef(bits[:, bit], bits[:, other])[0, 1]
            for other in range(n_bits)
            if other != bit and bits[:, bit].std() and bits[:, other].std()
        }
        if not others:
            assert found.bit_partner[bit] == -1 and np.isnan(found.bit_partner_correlation[bit])
            continue
        most = max(map(abs, others.values()))
        first = min(other for other, value in others.items() if abs(value) > most - 1e-9)
        assert found.bit_partner[bit] == first
        assert found.bit_partner_correlation[bit] == pytest.approx(others[first], abs=1e-9)


def test_ties_at_a_rank_worked_by_hand() -> None:
    # Distances 0, 1, 1, 2, 2, 2; and 1 four times, then 2 twice.
    items = np.array([[1, 2, 3], [0, 4, 2]])
    found = tie_statistics(items, np.array([1, 2, 3, 6]), score="hamming")
    assert found.items_per_distance == (6 / 3 + 6 / 2) / 2
    assert found.split_share.tolist() == [0.5, 1, 0.5, 0]
    assert found.tied_items.tolist() == [(1 + 4) / 2, (2 + 4) / 2, (2 + 4) / 2, (3 + 2) / 2]
    assert hand().tie_statistics.items_per_distance == 2


@settings(max_examples=examples(100))
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(st.integers(1, 8), st.integers(1, 40), st.integers(1, 12)),
    score=st.sampled_from(["hamming", "overlap"]),
)
def test_ties_are_those_of_a_slow_twin(seed: int, sizes: tuple[int, int, int], score: str) -> None:
    n_query, n_db, n_bits = sizes
    queries, database, *labels = random_sets(n_query, n_db, n_bits, seed=seed)
    evaluation = evaluate(
        queries, database, *labels, n_bits=n_bits, conventions=Conventions(k=3, score=score)
    )
    a, b = (np.unpackbits(codes, axis=1, bitorder="little").astype(int) for codes in (queries, database))
    near = (a[:, None] ^ b).sum(axis=2) if score == "hamming" else -(a[:, None] & b).sum(axis=2)
    ranked, found = np.sort(near, axis=1), evaluation.tie_statistics
    assert found.ranks.tolist() == evaluation.curves.ranks.tolist()
    levels = [len(set(row.tolist())) for row in near]
    assert found.items_per_distance == pytest.approx(np.mean([n_db / level for level in levels]))
    for rank, split, tied in zip(found.ranks, found.split_share, found.tied_items, strict=True):
        at = ranked[:, rank - 1]
        assert split == pytest.approx(0 if rank == n_db else (at == ranked[:, min(rank, n_db - 1)]).mean())
        assert tied == pytest.approx((ranked == at[:, None]).sum(axis=1).mean())


def test_code_statistics_of_many_codes_agree_with_numpy() -> None:
    bits = np.random.default_rng(3).random((25_000, 70)) < np.linspace(0.1, 0.9, 70)
    found = code_statistics(np.packbits(bits, axis=1, bitorder="little"), 70)
    np.testing.assert_allclose(found.bit_mean, bits.mean(axis=0))
    assert found.correlation_rows == 12_500
    expected = np.abs(np.corrcoef(bits[::2].T)[np.triu_indices(70, 1)]).mean()
    assert found.bit_correlation == pytest.approx(expected, rel=1e-6)


def test_code_statistics_where_no_bit_changes() -> None:
    found = code_statistics(np.zeros((3, 1), np.uint8), 8)
    assert found.n_distinct == 1 and found.constant_bits == 8 and found.bit_entropy == 0
    assert math.isnan(found.bit_correlation)


def test_tie_group_size() -> None:
    assert tie_group_size(np.array([[1, 1, 1, 1]])) == 1
    assert tie_group_size(np.array([[0, 4, 0]])) == 4
    assert tie_group_size(np.array([[1, 3], [2, 2]])) == pytest.approx((10 / 4 + 2) / 2)
    assert hand().mean_tie_group == pytest.approx((1 + 4 + 9) / 6)


def test_class_accuracy() -> None:
    assert class_accuracy(np.array([1, 2, 3, 3]), np.array([1, 2, 0, 3])) == {"top_1": 0.75}
    true = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0]], np.uint8)
    predicted = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 0]], bool)
    accuracy = class_accuracy(predicted, true)
    assert accuracy == pytest.approx(
        {"exact_match": 1 / 3, "micro_f1": 6 / 9, "macro_f1": (4 / 5 + 0 + 1) / 3}
    )
    with pytest.raises(ValueError, match="one shape"):
        class_accuracy(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="at least one item"):
        class_accuracy(np.zeros(0), np.zeros(0))


def test_predictions_may_be_tensors() -> None:
    assert class_accuracy(torch.tensor([1, 2]), np.array([1, 0])) == {"top_1": 0.5}


def test_tensors_have_the_statistics_of_arrays() -> None:
    codes = np.random.default_rng(0).integers(0, 256, (300, 3), np.uint8)[::2]
    of_array, of_tensor = code_statistics(codes, 24), code_statistics(torch.from_numpy(codes), 24)
    assert of_array.to_dict() == of_tensor.to_dict()


def test_what_is_counted_on_a_device_is_what_numpy_counts() -> None:
    # Tensors on the CPU become arrays first; on a device the branches for tensors count.
    codes = np.random.default_rng(1).integers(0, 4, (200, 2), np.uint8)
    bits = np.unpackbits(codes, axis=1, bitorder="little")
    assert statistics._count_distinct(torch.from_numpy(codes)) == statistics._count_distinct(codes)
    for count in (statistics._ones, statistics._both):
        assert np.array_equal(count(torch.from_numpy(bits)).numpy(), count(bits))
    labels = torch.from_numpy(codes[:, 0].astype(np.int64))
    of_tensor, of_array = (
        (*statistics._correlations(made, 16), *statistics._class_shares(made, 16, labels).values())
        for made in (torch.from_numpy(codes), codes)
    )
    for found, expected in zip(of_tensor, of_array, strict=True):
        assert np.array_equal(found, expected, equal_nan=True)


def test_the_mean_over_queries() -> None:
    values = np.array([0.5, math.nan, 1.0])
    assert mean_of_queries(values, "zero") == 0.5 and mean_of_queries(values, "skip") == 0.75
    assert standard_error(values, "skip") == pytest.approx(np.std([0.5, 1.0], ddof=1) / math.sqrt(2))
    assert math.isnan(standard_error(values[:2], "skip"))
    with pytest.raises(ValueError, match="got 1 of 3 queries with nothing"):
        mean_of_queries(values, "error")
