"""HammingMAP: what it refuses, where it is given; numpy batches; batches that differ from earlier ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import dshc_fast

pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")

CODES = torch.tensor([[0, 1], [1, 1], [3, 0], [2, 1]], dtype=torch.uint8)
IDS, HOT = torch.tensor([5, 5, 7, 5]), torch.eye(4, 3)
IS_QUERY = torch.tensor([True, False, True, False])


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"k": 0}, ValueError, "k must be 1 or more, or None for all, got 0"),
        ({"k": -3}, ValueError, "k must be .*got -3"),
        ({"k": 1.5}, TypeError, "k must be an integer, got float"),
        ({"k": True}, TypeError, "k must be an integer, got bool"),
        ({"n_bits": 0}, ValueError, "n_bits must be between 1 and 4096, or None, got 0"),
        ({"n_bits": 4097}, ValueError, "n_bits must be .*got 4097"),
        ({"n_bits": "16"}, TypeError, "n_bits must be an integer, got str"),
        ({"ties": 1}, TypeError, "ties must be a string"),
        ({"empty": "drop"}, ValueError, "empty must be one of 'zero', 'skip', 'error', got 'drop'"),
    ],
    ids=str,
)
def test_options_are_refused_at_once(options: dict, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=f"^{match}"):
        dshc_fast.HammingMAP(**options)


@pytest.mark.parametrize(
    ("batch", "error", "match"),
    [
        ({"codes": CODES.tolist()}, TypeError, "codes must be a numpy array or a torch tensor, got list"),
        ({"codes": CODES.long()}, TypeError, r"codes must be uint8 \(packed codes\), got int64"),
        ({"codes": CODES[0]}, ValueError, r"codes must have shape \(n, bytes\), got \(2,\)"),
        ({"codes": CODES.to_sparse()}, TypeError, "codes must be a dense tensor, got layout"),
        (
            {"codes": CODES.to("meta"), "labels": IDS.to("meta")},
            ValueError,
            "codes must be on cpu or cuda, got meta",
        ),
        ({"codes": CODES.to("meta")}, ValueError, "labels must be on meta, where codes is, got cpu"),
        ({"labels": IDS.tolist()}, TypeError, "labels must be a numpy array or a torch tensor, got list"),
        ({"labels": IDS.float()}, TypeError, r"labels must be integers \(class ids\), got float32"),
        ({"labels": IDS[:3]}, ValueError, r"labels must have shape \(4,\), class ids, .*got \(3,\)"),
        ({"labels": HOT[:, :0]}, ValueError, r"labels must have at least 1 label, got shape \(4, 0\)"),
        ({"labels": HOT * 2}, ValueError, r"labels must hold 0 and 1 .*got 2.0 at \[0, 0\]"),
        ({"is_query": "abc"}, TypeError, "is_query must be bools, got str"),
        ({"is_query": None}, TypeError, "is_query must be bools, got NoneType"),
        ({"is_query": 1}, TypeError, "is_query must be bool, got int64"),
        ({"is_query": [True, "a"]}, TypeError, "is_query must be bools, got list"),
        (
            {"is_query": IS_QUERY[:3]},
            ValueError,
            r"is_query must have shape \(4,\), or be one bool, got \(3,\)",
        ),
        ({"is_query": IS_QUERY[None]}, ValueError, r"is_query must have shape .*got \(1, 4\)"),
        ({"is_query": IS_QUERY.to("meta")}, ValueError, "is_query must be on cpu or cuda, got meta"),
    ],
)
def test_a_batch_is_refused_at_once(batch: dict[str, Any], error: type[Exception], match: str) -> None:
    """And nothing of it is kept."""
    metric = dshc_fast.HammingMAP()
    with pytest.raises(error, match=f"^{match}"):
        metric.update(**{"codes": CODES, "labels": IDS, "is_query": IS_QUERY} | batch)
    assert not metric.query_codes and not metric.database_labels


@pytest.mark.parametrize(
    ("codes", "labels", "error", "match"),
    [
        (
            torch.zeros(4, 3, dtype=torch.uint8),
            IDS,
            ValueError,
            r"codes must have rows as in earlier updates, of shape \(2, 2\), got \(4, 3\)",
        ),
        (
            CODES,
            HOT,
            ValueError,
            r"labels must have rows as in earlier updates, of shape \(2,\), got \(4, 3\)",
        ),
        (CODES, IDS.to(torch.uint64), TypeError, "labels must have one dtype, .*got int64 and uint64"),
    ],
    ids=("width", "kind", "dtype"),
)
def test_batches_are_alike(
    codes: torch.Tensor, labels: torch.Tensor, error: type[Exception], match: str
) -> None:
    metric = dshc_fast.HammingMAP()
    metric.update(CODES, IDS, IS_QUERY)
    with pytest.raises(error, match=f"^{match}"):
        metric.update(codes, labels, IS_QUERY)
    metric.update(CODES, IDS.to(torch.int32), IS_QUERY)  # dtypes that torch promotes may mix
    assert metric.compute() == dshc_fast.mean_average_precision(
        *(
            torch.cat([t[m]] * 2)
            for t, m in ((CODES, IS_QUERY), (CODES, ~IS_QUERY), (IDS, IS_QUERY), (IDS, ~IS_QUERY))
        )
    )
    metric.reset()
    metric.update(CODES, HOT, IS_QUERY)  # a new start may be of another kind
    with pytest.raises(
        ValueError, match=r"^labels must have rows as in earlier updates, of shape \(2, 3\), got \(4, 2\)"
    ):
        metric.update(CODES, HOT[:, :2], IS_QUERY)


def test_merged_metrics_are_alike() -> None:
    first, second = dshc_fast.HammingMAP(), dshc_fast.HammingMAP()
    first.update(CODES, IDS, IS_QUERY)
    second.update(torch.zeros(4, 3, dtype=torch.uint8), IDS, IS_QUERY)
    first.merge_state(second)
    with pytest.raises(ValueError, match="^codes must have rows as in earlier updates"):
        first.compute()


def test_padding_bits() -> None:
    metric = dshc_fast.HammingMAP(n_bits=9)
    metric.update(CODES, IDS, IS_QUERY)
    with pytest.raises(
        ValueError, match=r"^codes must have no padding bits set \(from bit 9 on\), got some in row 0"
    ):
        metric.update(CODES | 2, IDS, IS_QUERY)
    with pytest.raises(ValueError, match="^n_bits must be between 1 and 8 for codes of 1 bytes, got 9"):
        dshc_fast.HammingMAP(n_bits=9).update(CODES[:, :1], IDS, IS_QUERY)


def test_numpy_batches() -> None:
    """As tensors are, whole or mixed; what is kept is a copy."""
    of_torch, of_numpy = dshc_fast.HammingMAP(), dshc_fast.HammingMAP()
    for labels in (IDS, IDS.flip(0)):
        of_torch.update(CODES, labels, IS_QUERY)
        codes = CODES.numpy().copy()
        of_numpy.update(codes, labels.numpy(), IS_QUERY.numpy())
        codes[:] = 255
    of_torch.update(CODES, IDS, True)
    of_numpy.update(CODES, IDS.numpy(), np.True_)
    assert torch.equal(of_torch.compute(), of_numpy.compute())


def test_states_that_torchmetrics_moves() -> None:
    metric = dshc_fast.HammingMAP(compute_on_cpu=True)
    for _ in range(3):
        metric.update(CODES, IDS, IS_QUERY)
    assert metric.compute().device.type == "cpu"
