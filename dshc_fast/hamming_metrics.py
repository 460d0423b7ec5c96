"""Metrics of codes that arrive in batches, as torchmetrics Metrics: what they share, and `HammingMAP`. Imported on
first use, because torchmetrics is slow to."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from . import _checks as checks
from . import _metric_shapes as shapes
from ._arguments import check_padding
from ._arrays import Array, as_tensor
from ._composite_ops import EMPTY, mean_of_queries
from ._label_arguments import check_multi_hot
from ._torch_threads import torch_steps
from .metrics import average_precision, optional_int

_STATES = ("query_codes", "query_labels", "database_codes", "database_labels")


class HammingMetric(Metric):
    """What all metrics of codes share: they arrive in batches, queries and database items in any mixture.

    Codes and labels are kept packed until `compute`; under data-parallel training they are gathered from all
    processes. A class of its own is one of those below.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    query_codes: list[Tensor]
    query_labels: list[Tensor]
    database_codes: list[Tensor]
    database_labels: list[Tensor]

    def __init__(
        self, *, n_bits: int | None, ties: str, score: str, empty: str, options: dict[str, Any], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        checks.check_choice(ties, "ties", shapes.TIES)
        checks.check_score(score)
        checks.check_choice(empty, "empty", EMPTY)
        n_bits = optional_int(n_bits, "n_bits")
        if n_bits is not None and not 1 <= n_bits <= 8 * checks.MAX_BYTES:
            raise ValueError(f"n_bits must be between 1 and {8 * checks.MAX_BYTES}, or None, got {n_bits}")
        if "k" in options:
            options["k"] = optional_int(options["k"], "k")
            shapes.check_cut(options["k"])
        self.options = {"n_bits": n_bits, "ties": ties, "score": score, **options}
        self.empty = empty
        self._of_batch = False
        for state in _STATES:
            self.add_state(state, default=[], dist_reduce_fx="cat")

    @abstractmethod
    def of_queries(
        self, queries: Tensor, database: Tensor, query_labels: Tensor, database_labels: Tensor
    ) -> Tensor:
        """The metric of each query, float64 (n_query,); NaN where nothing in the database is relevant."""

    def update(self, codes: Array, labels: Array, is_query: Array | bool) -> None:
        """Add a batch.

        Args:
            codes: uint8 (n, bytes), numpy or torch; as wide as those of earlier updates.
            labels: (n,) class ids, any integers, or (n, n_labels) multi-hot rows of 0 and 1; of the kind and width of
                earlier updates.
            is_query: bool (n,): True for queries, False for database items; or one bool for the whole batch.

        Raises:
            TypeError, ValueError: naming the argument that does not fit; nothing of the batch is kept then. Padding
                bits and multi-hot values are looked at on the CPU.
        """
        codes, labels = as_tensor(codes, "codes"), as_tensor(labels, "labels")
        checks.check_same_device(codes=codes, labels=labels)
        if codes.is_meta:
            raise ValueError("codes must be on cpu or cuda, got meta")
        checks.check_codes(codes, "codes")
        checks.check_label_rows(labels, "labels", len(codes), "codes")
        self._check_like_earlier(codes, labels)
        n_bits = self.options["n_bits"]
        if isinstance(n_bits, int):
            checks.check_bits(n_bits, codes.shape[1])
            if not codes.is_cuda:
                check_padding(codes, n_bits, "codes")
        with torch_steps():
            check_multi_hot(labels, "labels", None)
            is_query = _as_mask(is_query, codes)
            parts = codes[is_query], labels[is_query], codes[~is_query], labels[~is_query]
        for state, part in zip(self._states(), parts, strict=True):
            state.append(part)

    def _states(self) -> tuple[list[Tensor], ...]:
        return tuple(getattr(self, name) for name in _STATES)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Add a batch as `update` does; the metric of the batch alone: NaN where it has no database items.

        Raises:
            TypeError, ValueError: as `update`; what came before is kept.
        """
        before, n_updates = [list(state) for state in self._states()], self._update_count
        self._of_batch = True
        try:
            answer = super().forward(*args, **kwargs)
            if before[0]:  # which the batch has not met: it is measured on its own
                codes, labels = (before[0][0], self.query_codes[-1]), (before[1][0], self.query_labels[-1])
                _check_like(codes, labels, not self.compute_on_cpu)
            return answer
        except BaseException:
            for name, state in zip(_STATES, before, strict=True):
                setattr(self, name, state)
            self._update_count = n_updates
            raise
        finally:
            self._of_batch = False

    def _check_like_earlier(self, codes: Tensor, labels: Tensor) -> None:
        if not self.query_codes:
            return
        # Each update leaves a part, if only an empty one, on either side.
        same_device = not self.compute_on_cpu  # torchmetrics moves what it keeps then
        _check_like((self.query_codes[0], codes), (self.query_labels[0], labels), same_device)

    def compute(self) -> Tensor:
        """The mean over all queries against all database items so far: 0-d float64.

        Raises:
            ValueError: no database item has come yet, or metrics of other codes or labels were merged into this one.
        """
        if not self.database_codes or not sum(len(codes) for codes in self.database_codes):
            if self._of_batch:
                return torch.tensor(torch.nan, dtype=torch.float64, device=self.device)
            name = type(self).__name__
            raise ValueError(f"{name} must have at least one database item before compute(), got none")
        codes, labels = (
            [part for state in states for part in ([state] if isinstance(state, Tensor) else state)]
            for states in (
                (self.query_codes, self.database_codes),
                (self.query_labels, self.database_labels),
            )
        )
        _check_like(codes, labels, True)
        with torch_steps():
            queries, query_labels, database, database_labels = map(dim_zero_cat, self._states())
        values = self.of_queries(queries, database, query_labels, database_labels)
        with torch_steps():
            return mean_of_queries(values, self.empty)


class HammingMAP(HammingMetric):
    """Mean average precision of codes that arrive in batches, queries and database items in any mixture.

    Codes and labels are kept packed until `compute`; under data-parallel training they are gathered from all
    processes.

    Args:
        n_bits, k, ties, denominator, score, empty: as in `mean_average_precision`; checked here.

    Example:
        >>> import torch, dshc_fast
        >>> metric = dshc_fast.HammingMAP()
        >>> codes = torch.tensor([[0], [1], [3]], dtype=torch.uint8)
        >>> metric.update(codes, torch.tensor([5, 5, 7]), torch.tensor([True, False, False]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    def __init__(
        self,
        *,
        n_bits: int | None = None,
        k: int | None = None,
        ties: str = "expected",
        denominator: str = "retrieved",
        score: str = "hamming",
        empty: str = "zero",
        **kwargs: Any,
    ) -> None:
        checks.check_choice(denominator, "denominator", shapes.DENOMINATORS)
        options = {"k": k, "denominator": denominator}
        super().__init__(n_bits=n_bits, ties=ties, score=score, empty=empty, options=options, **kwargs)

    def of_queries(
        self, queries: Tensor, database: Tensor, query_labels: Tensor, database_labels: Tensor
    ) -> Tensor:
        return average_precision(queries, database, query_labels, database_labels, **self.options)


def _as_mask(is_query: object, codes: Tensor) -> Tensor:
    if isinstance(is_query, (Tensor, np.ndarray)):
        mask = as_tensor(is_query, "is_query")
    else:
        try:
            mask = torch.as_tensor(is_query)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"is_query must be bools, got {type(is_query).__name__}") from None
    checks.check_dtype(mask, "is_query", (torch.bool,), "bool")
    if mask.is_meta:
        raise ValueError("is_query must be on cpu or cuda, got meta")
    if mask.dim() > 1 or (mask.dim() == 1 and len(mask) != len(codes)):
        raise ValueError(
            f"is_query must have shape ({len(codes)},), or be one bool, got {checks.shape_text(mask)}"
        )
    return mask.to(codes.device).expand(len(codes))


def _check_like(codes: Sequence[Tensor], labels: Sequence[Tensor], same_device: bool) -> None:
    """All of the first one's width, kind and, if so asked, device; labels of dtypes that torch can bring to one."""
    first = {"codes": codes[0], "labels": labels[0]}
    for name, tensors in (("codes", codes), ("labels", labels)):
        for tensor in tensors[1:]:
            if same_device and tensor.device != first[name].device:
                raise ValueError(
                    f"{name} must be on {first[name].device}, as in earlier updates, got {tensor.device}"
                )
            if tensor.shape[1:] != first[name].shape[1:]:
                raise ValueError(
                    f"{name} must have rows as in earlier updates, of shape {checks.shape_text(first[name])}, "
                    f"got {checks.shape_text(tensor)}"
                )
    dtypes = list(dict.fromkeys(tensor.dtype for tensor in labels))
    try:
        functools.reduce(torch.promote_types, dtypes)
    except RuntimeError:
        names = " and ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"labels must have one dtype, or dtypes that torch promotes, got {names}") from None
