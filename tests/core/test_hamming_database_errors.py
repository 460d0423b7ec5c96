"""HammingDatabase: labels given once, and what it and the ops that take it refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from callers import to_numpy, to_torch
from ops_table import same_answer
from strategies import make_codes

import dshc_fast
from dshc_fast import HammingDatabase

LABELLED = ("hamming_histogram", "average_precision", "mean_average_precision", "retrieval_curves")


@pytest.mark.parametrize("op", LABELLED)
def test_labels_come_once(op: str) -> None:
    rng = np.random.default_rng(8)
    codes, ids = make_codes(rng, 40, 3, "ties"), rng.integers(0, 3, 40)
    function, bare, labelled = getattr(dshc_fast, op), HammingDatabase(codes), HammingDatabase(codes, ids)
    expected = function(codes[:4], codes, ids[:4], ids)
    for answer in (
        function(codes[:4], bare, ids[:4], ids),
        function(codes[:4], labelled, ids[:4]),
        function(codes[:4], labelled, ids[:4], None),
        function(queries=codes[:4], database=labelled, query_labels=ids[:4], database_labels=None),
    ):
        assert same_answer(answer, expected)
    with pytest.raises(ValueError, match="database_labels.*HammingDatabase"):
        function(codes[:4], labelled, ids[:4], ids)
    with pytest.raises(ValueError, match="database_labels.*HammingDatabase"):
        function(codes[:4], bare, ids[:4])
    with pytest.raises(TypeError, match="database_labels"):
        function(codes[:4], codes, ids[:4])
    with pytest.raises(TypeError, match="query_labels"):
        function(codes[:4], labelled)


CODES, HOT = np.zeros((10, 3), np.uint8), np.zeros((10, 4), np.uint8)


@pytest.mark.parametrize(
    ("codes", "labels", "error", "match"),
    [
        (CODES.astype(np.int64), None, TypeError, r"codes must be uint8 \(packed codes\), got int64"),
        (CODES[0], None, ValueError, r"codes must have shape \(n, bytes\), got \(3,\)"),
        (CODES[:0], None, ValueError, r"codes must have at least 1 row, got shape \(0, 3\)"),
        (np.zeros((2, 0), np.uint8), None, ValueError, "codes must have 1 to 512 bytes per code"),
        (np.zeros((2, 513), np.uint8), None, ValueError, "codes must have 1 to 512 bytes per code"),
        (CODES.tolist(), None, TypeError, "codes must be a numpy array or a torch tensor, got list"),
        (None, None, TypeError, "codes must be"),
        (
            torch.zeros((2, 3), dtype=torch.uint8, device="meta"),
            None,
            ValueError,
            "codes must be on cpu or cuda, got meta",
        ),
        (
            torch.zeros((2, 3), dtype=torch.uint8).to_sparse(),
            None,
            TypeError,
            "codes must be a dense tensor, got layout",
        ),
        (CODES, [0] * 10, TypeError, "labels must be"),
        (CODES, np.zeros(9, np.int64), ValueError, r"labels must have shape \(10,\), .* got \(9,\)"),
        (CODES, np.zeros((10, 0), bool), ValueError, "labels must have at least 1 label"),
        (CODES, np.zeros(10), TypeError, "labels must be integers .*got float64"),
        (CODES, HOT + 2, ValueError, r"labels must hold 0 and 1 in multi-hot rows, got 2 at \[0, 0\]"),
        (CODES, np.full((10, 4), np.nan), ValueError, r"labels must hold 0 and 1 .*got nan at \[0, 0\]"),
        (CODES, np.zeros((10, 2, 2), bool), ValueError, r"labels must have shape .*got \(10, 2, 2\)"),
    ],
)
def test_what_it_refuses(codes: Any, labels: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        HammingDatabase(codes, labels)


def test_errors_name_what_was_given() -> None:
    """Widths of 12 bytes, not of the 16 that are kept; the names of the op's arguments."""
    rng = np.random.default_rng(9)
    codes, ids = make_codes(rng, 40, 12, "ties"), rng.integers(0, 3, 40)
    database = HammingDatabase(codes, ids)
    for width in (11, 13, 16):
        with pytest.raises(
            ValueError, match=f"database must have codes of {width} bytes, as queries has, got 12"
        ):
            dshc_fast.hamming_topk(np.zeros((2, width), np.uint8), database, 3)
    with pytest.raises(ValueError, match=r"k must be between 1 and 40 \(the database\), got 41"):
        dshc_fast.hamming_topk(codes, database, 41)
    for n_bits in (88, 97, 128):
        with pytest.raises(
            ValueError, match=f"n_bits must be between 89 and 96 for codes of 12 bytes, got {n_bits}"
        ):
            dshc_fast.hamming_histogram(codes, database, ids, n_bits=n_bits)
    with pytest.raises(
        ValueError, match=r"query_labels and database_labels must both .*got shapes \(2, 3\) and \(40,\)"
    ):
        dshc_fast.average_precision(codes[:2], database, np.zeros((2, 3), bool))
    with pytest.raises(ValueError, match="allowed must have shape"):
        dshc_fast.hamming_radius(codes, database, 3, allowed=np.zeros(41, bool))
    with pytest.raises(
        TypeError, match="queries must be a numpy array or a torch tensor, got HammingDatabase"
    ):
        dshc_fast.hamming_distance(database, codes)


@pytest.mark.parametrize("n_bytes", (1, 4, 12))
def test_padding_bits_of_the_database(n_bytes: int, device: str) -> None:
    """Looked at where a plain array's are: on the CPU, or with check=True."""
    codes = np.zeros((5, n_bytes), np.uint8)
    codes[3, -1] = 0b1000
    plain, ids = to_torch(codes, device), to_torch(np.zeros(5, np.int64), device)
    database = HammingDatabase(plain, ids)
    queries, n_bits = torch.zeros_like(plain[:2]), 8 * n_bytes - 4
    dshc_fast.hamming_histogram(queries, database, ids[:2], n_bits=n_bits, check=True)
    with pytest.raises(ValueError, match="database must have no padding bits set .*got some in row 3"):
        dshc_fast.hamming_histogram(queries, database, ids[:2], n_bits=n_bits - 1, check=True)
    answers = [
        dshc_fast.hamming_histogram(queries, *given, n_bits=n_bits - 1, check=False)
        for given in ((plain, ids[:2], ids), (database, ids[:2]))
    ]
    assert same_answer(to_numpy(answers[0]), to_numpy(answers[1]))
