"""The row of a bit in a report: which bits are told, and in which words."""

from __future__ import annotations

import numpy as np
import pytest

from dshc.evaluation import CodeStatistics, code_statistics
from dshc.report.bits import bit_table


def statistics_of(bits: np.ndarray, labels: np.ndarray | None = None) -> CodeStatistics:
    return code_statistics(np.packbits(bits, axis=1, bitorder="little"), bits.shape[1], labels)


@pytest.mark.parametrize("n_bits", [64, 65, 4096])
def test_of_long_codes_the_least_balanced_bits_are_told(n_bits: int) -> None:
    rng = np.random.default_rng(0)
    codes = statistics_of(rng.random((50, n_bits)) < rng.random(n_bits))
    table = bit_table(codes)
    assert len(table.rows) == 64 and table.is_long
    told = [row.bit for row in table.rows]
    if n_bits == 64:
        assert told == list(range(64)) and "All 64 bits" in table.summary
    else:
        words = f"The 64 least balanced of {n_bits:,} bits"
        assert words in table.summary and words in table.caption
        assert codes.entropies[told].max() <= np.delete(codes.entropies, told).min()
        assert (np.diff(codes.entropies[told]) >= 0).all()
    assert not table.has_classes and table.has_partners


def test_short_tables_are_not_folded() -> None:
    assert not bit_table(statistics_of(np.eye(32, dtype=np.uint8))).is_long
    assert bit_table(statistics_of(np.eye(33, dtype=np.uint8))).is_long


def test_bits_and_classes_in_words() -> None:
    bits = np.array([[1, 1, 0, 0, 1], [1, 1, 0, 0, 0], [1, 0, 0, 1, 0], [0, 1, 0, 1, 0]])
    table = bit_table(statistics_of(bits, np.array([0, 0, 1, 9])), ("cat", "<dog>"))
    assert [row.classes for row in table.rows] == [
        "cat 100%, <dog> 100%",
        "cat 100%, 9 100%",
        "none",
        "<dog> 100%, 9 100%",
        "none; at most cat 50%",
    ]
    assert table.rows[2].partner == "none" and table.rows[2].n_classes == "0 of 2"
    assert table.rows[2].entropy == "0.000" and table.rows[2].share == "0.0%"
    assert table.rows[3].share == "50.0%" and table.rows[3].entropy == "1.000"


def test_many_classes_are_counted() -> None:
    (first, *_) = bit_table(statistics_of(np.ones((9, 2), np.uint8), np.arange(9))).rows
    assert first.classes == "0 100%, 1 100%, 2 100%, 3 100%, 4 100% and 4 more" and first.n_classes == "9"


def test_labels_of_which_none_occurs() -> None:
    (row,) = bit_table(statistics_of(np.ones((3, 1), np.uint8), np.zeros((3, 2), np.uint8)), ("a", "b")).rows
    assert (row.classes, row.n_classes) == ("none", "0 of 2")
