"""What ops on logits hand to the native module: the loss's task, the best sub-classes, codes. As _arguments.py, which
has what they share."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _checks as checks
from . import _shapes as shapes
from ._arguments import DTYPE_CODES, as_int64, contiguous, first_true, on_cuda, place, refuse_nan
from ._native import native


class ClassSoftmax:
    """Native description of a loss call; keeps the tensors it points into alive. Logits of `columns` (first, number of
    all) are a part of their rows."""

    def __init__(
        self,
        logits: Tensor,
        labels: Tensor,
        class_offsets: Tensor,
        weight: float,
        ignore_index: int,
        columns: tuple[int, int] | None = None,
    ) -> None:
        n, n_columns = logits.shape
        first_column, n_subclasses = columns or (0, n_columns)
        self.logits = contiguous(logits)
        self.labels = contiguous(checks.signed_labels(labels))
        self.class_offsets = as_int64(class_offsets)
        self.native = native.ClassSoftmax(
            self.logits.data_ptr(), DTYPE_CODES[logits.dtype], self.labels.data_ptr(),
            self.class_offsets.data_ptr(), n, n_subclasses, class_offsets.shape[0] - 1, weight, ignore_index,
            first_column, n_columns,
        )  # fmt: skip

    def add_columns(self, carry: Tensor, loss: Tensor, stats: Tensor, check: bool) -> None:
        """Columns after those in `carry`, float64 (n, 3); the last ones write loss and stats."""
        addresses = carry.data_ptr(), loss.data_ptr(), stats.data_ptr()
        if on_cuda(self.logits):
            native.cuda.class_softmax_loss(self.native, *addresses, *place(self.logits))
        else:
            native.class_softmax_loss(self.native, *addresses, check, torch.get_num_threads())

    def to_loss_and_gradient(self, n_kept: Tensor | None, loss: Tensor, stats: Tensor) -> None:
        """Loss and stats of whole rows; over the logits, which must be contiguous, the gradient of the sum, over n_kept
        if given."""
        if on_cuda(self.logits):
            self.to_loss_and(self.logits, n_kept, loss, stats)
            return
        self.add_columns(loss.new_empty((0,), dtype=torch.float64), loss, stats, False)
        ones = torch.ones_like(loss)
        self.to_gradient(ones if n_kept is None else ones / n_kept, stats)

    def to_loss_and(self, grad_logits: Tensor, n_kept: Tensor | None, loss: Tensor, stats: Tensor) -> None:
        """On CUDA: loss and stats of whole rows and, in a place of its own or over the logits, the gradient."""
        native.cuda.class_softmax_loss_and_gradient(
            self.native, 0 if n_kept is None else n_kept.data_ptr(), loss.data_ptr(), stats.data_ptr(),
            grad_logits.data_ptr(), *place(self.logits),
        )  # fmt: skip

    def to_gradient(self, grad_loss: Tensor, stats: Tensor) -> None:
        """Writes the gradient over the logits, which must be contiguous."""
        addresses = stats.data_ptr(), grad_loss.data_ptr(), self.logits.data_ptr()
        if on_cuda(self.logits):
            native.cuda.class_softmax_loss_backward(self.native, *addresses, *place(self.logits))
        else:
            native.class_softmax_loss_backward(self.native, *addresses, torch.get_num_threads())


def top_subclasses(logits: Tensor, k: int, check: bool, first_row: int = 0) -> Tensor:
    """Columns of the k largest logits of each row, int64 (n, k), equal logits in the order of their columns.
    `first_row`: what errors call the first one."""
    top = logits.new_empty((logits.shape[0], k), dtype=torch.int64)
    arguments = logits.data_ptr(), DTYPE_CODES[logits.dtype], *logits.shape, k, top.data_ptr()
    if on_cuda(logits):
        if check:
            refuse_nan(logits, "logits", first_row)
        native.cuda.top_subclasses(*arguments, *place(logits))
    else:
        native.top_subclasses(*arguments, first_row, check, torch.get_num_threads())
    return top


def write_codes(
    logits: Tensor,
    codebook: Tensor,
    k: int,
    weighting: str,
    subclasses: Tensor | None,
    codes: Tensor,
    check: bool,
    first_row: int = 0,
) -> None:
    """codes_from_logits; `subclasses` (n, n_columns): the codebook's row of each logit, None for 0, 1, 2, ...
    `first_row`: what errors call the first one."""
    logits, codebook = contiguous(logits), contiguous(codebook)
    subclasses = None if subclasses is None else contiguous(subclasses)
    arguments = (
        logits.data_ptr(), DTYPE_CODES[logits.dtype], *logits.shape, codebook.data_ptr(), codebook.shape[1], k,
        shapes.WEIGHTINGS.index(weighting), 0 if subclasses is None else subclasses.data_ptr(), codes.data_ptr(),
    )  # fmt: skip
    if on_cuda(logits):
        if check:
            refuse_nan(logits, "logits", first_row)
            if weighting == "probability" and (row := first_true(logits.isposinf().any(1))) is not None:
                raise ValueError(
                    f'logits[{first_row + row}] must hold numbers and -inf with weighting="probability", got +inf'
                )
        native.cuda.codes_from_logits(*arguments, *place(logits))
    else:
        native.codes_from_logits(*arguments, first_row, check, torch.get_num_threads())
