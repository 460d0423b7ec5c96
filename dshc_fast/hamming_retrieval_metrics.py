"""The family of `HammingMAP`: the metrics of `retrieval_metric` as torchmetrics Metrics."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import _checks as checks
from . import _metric_shapes as shapes
from .hamming_metrics import HammingMetric
from .retrieval_metrics import retrieval_metric


class _RetrievalMetric(HammingMetric):
    """The mean of one of the metrics of `retrieval_metric`."""

    metric: str

    def of_queries(
        self, queries: Tensor, database: Tensor, query_labels: Tensor, database_labels: Tensor
    ) -> Tensor:
        return retrieval_metric(queries, database, query_labels, database_labels, self.metric, **self.options)


class _CutMetric(_RetrievalMetric):
    def __init__(
        self,
        *,
        n_bits: int | None = None,
        k: int | None = None,
        ties: str = "expected",
        score: str = "hamming",
        empty: str = "zero",
        **kwargs: Any,
    ) -> None:
        super().__init__(n_bits=n_bits, ties=ties, score=score, empty=empty, options={"k": k}, **kwargs)


class _MetricAtR(_RetrievalMetric):
    def __init__(
        self,
        *,
        n_bits: int | None = None,
        ties: str = "expected",
        score: str = "hamming",
        empty: str = "zero",
        **kwargs: Any,
    ) -> None:
        super().__init__(n_bits=n_bits, ties=ties, score=score, empty=empty, options={}, **kwargs)


class HammingNDCG(_RetrievalMetric):
    """Mean nDCG@k, as `HammingMAP`.

    Args:
        n_bits, k, ties, gains, score: as in `ndcg`; empty: as in `mean_average_precision`; checked here.

    Example:
        >>> import torch, dshc_fast
        >>> metric = dshc_fast.HammingNDCG()
        >>> codes = torch.tensor([[0], [1], [3], [7]], dtype=torch.uint8)
        >>> metric.update(codes, torch.tensor([5, 7, 5, 5]), torch.tensor([True, False, False, False]))
        >>> metric.compute()
        tensor(0.6934, dtype=torch.float64)
    """

    metric = "ndcg"

    def __init__(
        self,
        *,
        n_bits: int | None = None,
        k: int | None = None,
        ties: str = "expected",
        gains: str = "linear",
        score: str = "hamming",
        empty: str = "zero",
        **kwargs: Any,
    ) -> None:
        checks.check_choice(gains, "gains", shapes.GAINS)
        options = {"k": k, "gains": gains}
        super().__init__(n_bits=n_bits, ties=ties, score=score, empty=empty, options=options, **kwargs)


class HammingMRR(_CutMetric):
    """Mean reciprocal rank MRR@k, as `HammingMAP`.

    Args:
        n_bits, k, ties, score: as in `reciprocal_rank`; empty: as in `mean_average_precision`; checked here.

    Example:
        >>> import torch, dshc_fast
        >>> metric = dshc_fast.HammingMRR()
        >>> codes = torch.tensor([[0], [1], [3], [7]], dtype=torch.uint8)
        >>> metric.update(codes, torch.tensor([5, 7, 5, 5]), torch.tensor([True, False, False, False]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    metric = "reciprocal_rank"


class HammingPrecision(_CutMetric):
    """Mean precision@k, as `HammingMAP`.

    Args:
        n_bits, k, ties, score: as in `precision`; empty: as in `mean_average_precision`; checked here.

    Example:
        >>> import torch, dshc_fast
        >>> metric = dshc_fast.HammingPrecision(k=2)
        >>> codes = torch.tensor([[0], [1], [3], [7]], dtype=torch.uint8)
        >>> metric.update(codes, torch.tensor([5, 7, 5, 5]), torch.tensor([True, False, False, False]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    metric = "precision"


class HammingRecall(_CutMetric):
    """Mean recall@k, as `HammingMAP`.

    Args:
        n_bits, k, ties, score: as in `recall`; empty: as in `mean_average_precision`; checked here.

    Example:
        >>> import torch, dshc_fast
        >>> metric = dshc_fast.HammingRecall(k=2)
        >>> codes = torch.tensor([[0], [1], [3], [7]], dtype=torch.uint8)
        >>> metric.update(codes, torch.tensor([5, 7, 5, 5]), torch.tensor([True, False, False, False]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    metric = "recall"


class HammingHitRate(_CutMetric):
    """The share of queries with a relevant item among the first k, as `HammingMAP`.

    Args:
        n_bits, k, ties, score: as in `hit_rate`; empty: as in `mean_average_precision`; checked here.

    Example:
        >>> import torch, dshc_fast
        >>> metric = dshc_fast.HammingHitRate(k=1)
        >>> codes = torch.tensor([[0], [1], [3], [7]], dtype=torch.uint8)
        >>> metric.update(codes, torch.tensor([5, 7, 5, 5]), torch.tensor([True, False, False, False]))
        >>> metric.compute()
        tensor(0., dtype=torch.float64)
    """

    metric = "hit_rate"


class HammingRPrecision(_MetricAtR):
    """Mean precision@R, as `HammingMAP`.

    Args:
        n_bits, ties, score: as in `r_precision`; empty: as in `mean_average_precision`; checked here.

    Example:
        >>> import torch, dshc_fast
        >>> metric = dshc_fast.HammingRPrecision()
        >>> codes = torch.tensor([[0], [1], [3], [7]], dtype=torch.uint8)
        >>> metric.update(codes, torch.tensor([5, 7, 5, 5]), torch.tensor([True, False, False, False]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    metric = "r_precision"


class HammingMAPAtR(_MetricAtR):
    """MAP@R, as `HammingMAP`.

    Args:
        n_bits, ties, score: as in `average_precision_at_r`; empty: as in `mean_average_precision`; checked here.

    Example:
        >>> import torch, dshc_fast
        >>> metric = dshc_fast.HammingMAPAtR()
        >>> codes = torch.tensor([[0], [1], [3], [7]], dtype=torch.uint8)
        >>> metric.update(codes, torch.tensor([5, 7, 5, 5]), torch.tensor([True, False, False, False]))
        >>> metric.compute()
        tensor(0.2500, dtype=torch.float64)
    """

    metric = "average_precision_at_r"
