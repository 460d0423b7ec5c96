"""Metrics of codes that arrive in batches, as torchmetrics Metrics: what they share, and `HammingMAP`. Imported on
first use, because torchmetrics is slow to."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from . import _checks as checks
from . import _metric_shapes as shapes
from ._arguments import check_padding
from ._arrays import Array, as_tensor
from ._composite_ops import EMPTY, mean_of_queries
from ._label_arguments import check_multi_hot
from ._torch_threads import torch_steps
from .metrics import average_precision, optional_int

_STATES = ("query_codes", "query_labels", "database_codes", "database_labels")
# What torchmetrics' forward changes for a while, and leaves so where it fails.
_MODES = (
    "compute_on_cpu", "_to_sync", "_should_unsync", "_enable_grad", "_is_synced", "_cache", "_computed",
    "_update_count",
)  # fmt: skip
_SENT_AS = {torch.bool: torch.uint8, **checks.SIGNED}  # bits of labels that not every process group gathers
_LABEL_DTYPES = (
    *_SENT_AS, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
)  # fmt: skip


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
            RuntimeError: between ``sync()`` and ``unsync()``.
        """
        if self._is_synced:
            raise RuntimeError(
                f"{type(self).__name__} must be unsynced before update(), got one that is synced"
            )
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
            is_query, labels = _as_mask(is_query, codes), _as_kept(labels)
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
        before = [list(_parts(state)) for state in self._states()]
        modes = {name: getattr(self, name) for name in _MODES}
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
            for name, mode in modes.items():
                setattr(self, name, mode)
            raise
        finally:
            self._of_batch = False

    def _check_like_earlier(self, codes: Tensor, labels: Tensor) -> None:
        earlier = _parts(self.query_codes)
        if not earlier:
            return
        # Each update leaves a part, if only an empty one, on either side.
        same_device = not self.compute_on_cpu  # torchmetrics moves what it keeps then
        _check_like((earlier[0], codes), (_parts(self.query_labels)[0], labels), same_device)

    def _described(self) -> tuple[int, int, int, int]:
        """Bytes of a code, dimensions of labels, labels of a multi-hot row, dtype; zeros where nothing came."""
        codes = [*_parts(self.query_codes), *_parts(self.database_codes)]
        if not codes:
            return 0, 0, 0, 0
        labels = [*_parts(self.query_labels), *_parts(self.database_labels)]
        dtype = functools.reduce(torch.promote_types, (part.dtype for part in labels))
        width = labels[0].shape[1] if labels[0].dim() == 2 else 0
        return codes[0].shape[1], labels[0].dim(), width, 1 + _LABEL_DTYPES.index(dtype)

    def _sync_dist(
        self, dist_sync_fn: Callable = gather_all_tensors, process_group: Any | None = None
    ) -> None:
        """torchmetrics' own, among processes that agree: where rows differ all of them refuse, instead of waiting for
        each other or mixing them up; and one to which nothing came has no rows, of the others' shape."""
        kept = [part for state in self._states() for part in _parts(state)]
        device = kept[0].device if kept else self.device
        mine = torch.tensor(self._described(), dtype=torch.int64, device=device)
        found = dist_sync_fn(mine, group=process_group or self.process_group)
        described = [each for each in (tuple(one.tolist()) for one in found) if any(each)]
        if len({each[:3] for each in described}) > 1:
            rows_of = ("class ids" if each[1] == 1 else f"rows of {each[2]} labels" for each in described)
            shapes_text = ", ".join(
                f"{d[0]} bytes with {of}" for d, of in zip(described, rows_of, strict=True)
            )
            raise ValueError(f"codes and labels must be of one shape on all processes, got {shapes_text}")
        if not described:
            super()._sync_dist(dist_sync_fn, process_group=process_group)
            return
        dtype = functools.reduce(torch.promote_types, (_LABEL_DTYPES[each[3] - 1] for each in described))
        sent_as = _SENT_AS.get(dtype, dtype)
        n_bytes, n_dims, width, _ = described[0]
        for name, state in zip(_STATES, self._states(), strict=True):
            of_codes, parts = name.endswith("codes"), _parts(state)
            if parts:
                rows = dim_zero_cat(parts)
            else:
                shape = (0, n_bytes) if of_codes else (0, width)[:n_dims]
                rows = torch.empty(shape, dtype=torch.uint8 if of_codes else dtype, device=device)
            setattr(self, name, [rows if of_codes else rows.to(dtype).view(sent_as)])
        super()._sync_dist(dist_sync_fn, process_group=process_group)
        for name in ("query_labels", "database_labels"):
            setattr(self, name, getattr(self, name).view(dtype))

    def compute(self) -> Tensor:
        """The mean over all queries against all database items so far: 0-d float64.

        Raises:
            ValueError: no database item has come yet; metrics of other codes or labels were merged into this one, or
                have come to other processes.
        """
        try:
            return self._computed_now()
        except BaseException:
            # Else torchmetrics would take what was gathered for this process's own, and refuse every later call.
            if self._is_synced and self._to_sync:
                self.unsync()
            raise

    def _computed_now(self) -> Tensor:
        if not sum(len(codes) for codes in _parts(self.database_codes)):
            if self._of_batch:
                return torch.tensor(torch.nan, dtype=torch.float64, device=self.device)
            name = type(self).__name__
            raise ValueError(f"{name} must have at least one database item before compute(), got none")
        codes, labels = (
            [part for state in states for part in _parts(state)]
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


def _parts(state: list[Tensor] | Tensor) -> list[Tensor]:
    """What came in; one tensor where processes have gathered it."""
    return [state] if isinstance(state, Tensor) else state


def _as_kept(labels: Tensor) -> Tensor:
    """In a dtype that every torch can pickle and load, where one holds the labels."""
    if labels.dtype == torch.uint16:
        return labels.to(torch.int32)
    if labels.dtype == torch.uint32:
        return labels.to(torch.int64)
    if labels.dtype == torch.uint64 and labels.is_cpu:
        signed = labels.view(torch.int64)
        return labels if bool((signed < 0).any()) else signed.clone()
    return labels


def _as_mask(is_query: object, codes: Tensor) -> Tensor:
    if isinstance(is_query, (Tensor, np.ndarray)):
        mask = as_tensor(is_query, "is_query")
    else:
        try:
            mask = torch.as_tensor(is_query, device="cpu")
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
