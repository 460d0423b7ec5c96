"""Statistics of codes and class accuracy, worked by hand and against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from evaluation_sets import hand

from dshc.evaluation import class_accuracy, code_statistics, statistics
from dshc.evaluation.statistics import mean_of_queries, standard_error, tie_group_size


def test_code_statistics_worked_by_hand() -> None:
    bits = np.array([[0, 0, 1, 1, 0], [1, 0, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [1, 0, 1, 0, 1]])
    found = code_statistics(np.packbits(bits, axis=1, bitorder="little"), 5)
    assert (found.n_codes, found.n_distinct, found.constant_bits) == (5, 4, 2)
    np.testing.assert_allclose(found.bit_mean, [0.6, 0, 1, 0.4, 0.6])
    entropy = -(0.6 * math.log2(0.6) + 0.4 * math.log2(0.4))
    assert found.bit_entropy == pytest.approx(3 / 5 * entropy)
    correlations = np.corrcoef(bits[:, [0, 3, 4]].T)[np.triu_indices(3, 1)]
    assert found.bit_correlation == pytest.approx(np.abs(correlations).mean())


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
    assert statistics._mean_correlation(torch.from_numpy(codes), 16) == statistics._mean_correlation(
        codes, 16
    )


def test_the_mean_over_queries() -> None:
    values = np.array([0.5, math.nan, 1.0])
    assert mean_of_queries(values, "zero") == 0.5 and mean_of_queries(values, "skip") == 0.75
    assert standard_error(values, "skip") == pytest.approx(np.std([0.5, 1.0], ddof=1) / math.sqrt(2))
    assert math.isnan(standard_error(values[:2], "skip"))
    with pytest.raises(ValueError, match="got 1 of 3 queries with nothing"):
        mean_of_queries(values, "error")
