"""`HammingMAP`: mean average precision as a torchmetrics Metric. Imported on first use, because torchmetrics
is slow to."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from . import _checks as checks
from . import _shapes as shapes
from ._composite_ops import EMPTY
from .metrics import mean_average_precision


class HammingMAP(Metric):
    """Mean average precision of codes that arrive in batches, queries and database items in any mixture.

    Codes and labels are kept packed until `compute`; under data-parallel training they are gathered from all
    processes.

    Args:
        n_bits, k, ties, denominator, score, empty: as in `mean_average_precision`.

    Example:
        >>> import torch, dshc_fast
        >>> metric = dshc_fast.HammingMAP()
        >>> codes = torch.tensor([[0], [1], [3]], dtype=torch.uint8)
        >>> metric.update(codes, torch.tensor([5, 5, 7]), torch.tensor([True, False, False]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    query_codes: list[Tensor]
    query_labels: list[Tensor]
    database_codes: list[Tensor]
    database_labels: list[Tensor]

    def __init__(
        self,
        *,
        n_bits: int | None = None,
        k: int | None = None,
        ties: str = "expected",
        denominator: str = "retrieved",
        score: str = "hamming",
        empty: str = "zero",
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        checks.check_choice(ties, "ties", shapes.TIES)
        checks.check_choice(denominator, "denominator", shapes.DENOMINATORS)
        checks.check_choice(score, "score", shapes.SCORES)
        checks.check_choice(empty, "empty", EMPTY)
        self.options = {
            "n_bits": n_bits,
            "k": k,
            "ties": ties,
            "denominator": denominator,
            "score": score,
            "empty": empty,
        }
        for state in ("query_codes", "query_labels", "database_codes", "database_labels"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, codes: Tensor, labels: Tensor, is_query: Tensor | bool) -> None:
        """Add a batch.

        Args:
            codes: uint8 (n, bytes). labels: (n,) class ids or (n, n_labels) multi-hot.
            is_query: bool (n,): True for queries, False for database items; or one bool for the whole batch.
        """
        checks.check_codes(codes, "codes")
        if labels.dim() not in (1, 2) or len(labels) != len(codes):
            raise ValueError(
                f"labels has shape {checks.shape_text(labels)}; taken: one row for each of {len(codes)} codes"
            )
        is_query = torch.as_tensor(is_query, device=codes.device)
        if is_query.dtype != torch.bool:
            raise TypeError(f"is_query has dtype {is_query.dtype}; taken: bool")
        if is_query.dim() > 1 or (is_query.dim() == 1 and len(is_query) != len(codes)):
            raise ValueError(
                f"is_query has shape {checks.shape_text(is_query)}; taken: ({len(codes)},), or one bool"
            )
        is_query = is_query.expand(len(codes))
        self.query_codes.append(codes[is_query])
        self.query_labels.append(labels[is_query])
        self.database_codes.append(codes[~is_query])
        self.database_labels.append(labels[~is_query])

    def compute(self) -> Tensor:
        """mAP of all queries against all database items so far: 0-d float64.

        Raises:
            ValueError: no database item has come yet.
        """
        if not self.database_codes or not sum(len(codes) for codes in self.database_codes):
            raise ValueError(
                "HammingMAP: no database item has come yet; taken: at least one before compute()"
            )
        return mean_average_precision(
            dim_zero_cat(self.query_codes),
            dim_zero_cat(self.database_codes),
            dim_zero_cat(self.query_labels),
            dim_zero_cat(self.database_labels),
            **self.options,
        )
