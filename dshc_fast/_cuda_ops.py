"""The CUDA implementations of the ops in _ops.py: the same arguments and results, on torch's current stream.

An implementation validates and allocates outputs and workspace with torch, makes contiguous locals and launches;
torch's allocator keeps what it frees in the order of the stream, so a workspace may go out of scope here. Nothing
waits for the device, radius search (which must learn how much it found) and checks of values (check=True) aside.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from . import _checks as checks
from . import _shapes as shapes
from ._arguments import (
    DTYPE_CODES,
    Pairs,
    code_rows,
    place,
    refuse_nan,
    wants_check,
    workspace_bytes,
)
from ._asymmetric_ops import AsymmetricPairs
from ._cuda_loss_ops import _class_softmax_loss as _class_softmax_loss
from ._cuda_loss_ops import _class_softmax_loss_backward as _class_softmax_loss_backward
from ._cuda_loss_ops import _class_softmax_loss_backward_ as _class_softmax_loss_backward_
from ._cuda_loss_ops import _loss_and_gradient, _rescale_gradient, check_offset_values
from ._cuda_loss_ops import capture_id as capture_id
from ._cuda_loss_ops import check_label_values as check_label_values
from ._cuda_metric_ops import _average_precision as _average_precision
from ._cuda_metric_ops import _hamming_histogram as _hamming_histogram
from ._cuda_metric_ops import _retrieval_metric as _retrieval_metric
from ._logit_arguments import write_codes
from ._native import native, version_text
from ._ops import SCHEMAS, library

TOPK_KERNELS = ("automatic", "rows", "popc", "mma")  # csrc/core/hamming_topk.h, enum TopkKernel
REMEDY_CPU = "move the tensors to the CPU with .cpu()"


def unusable() -> str | None:
    """Why CUDA kernels cannot run in this process, and what helps; None if they can. The architecture is the
    driver's business: a kernel that was not built for the GPU at hand says so when it is launched."""
    if not native.CUDA:
        return (
            "dshc_fast was built without CUDA kernels, but a CUDA tensor came; install the CUDA toolkit (nvcc) and "
            f"run `pip install .` again, or {REMEDY_CPU}"
        )
    built, driver = native.CUDA_RUNTIME, native.cuda.driver_version()
    if driver == 0:
        return (
            f"dshc_fast was built with CUDA {version_text(built)}, but no CUDA driver was found; {REMEDY_CPU}"
        )
    if driver // 1000 < built // 1000:
        return (
            f"dshc_fast was built with CUDA {version_text(built)}, but the driver runs CUDA up to "
            f"{version_text(driver)}; update the driver, or build with a CUDA {driver // 1000} toolkit"
        )
    of_torch = torch.version.cuda or "none"
    if of_torch.split(".")[0] != str(built // 1000):
        return (
            f"dshc_fast was built with CUDA {version_text(built)}, torch {torch.__version__} with CUDA {of_torch}; "
            f"install a torch for CUDA {built // 1000}, or build dshc_fast with a CUDA "
            f"{of_torch.split('.')[0]} toolkit (CUDA_HOME says which)"
        )
    return None


_unusable = functools.cache(unusable)  # neither the build nor the driver changes in a process


def _refuse_devices(names: Sequence[str], args: Sequence[object], kwargs: dict[str, object]) -> None:
    """Names the first tensor, which is not on CUDA, and one that is: torch sends an op here if any tensor is."""
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    tensors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
    for name, value in given.items():  # `prepared` is a list of them
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor):
            tensors[name] = value[0]
    checks.check_same_device(**tensors)


def on_first_tensor(op: Callable) -> Callable:
    """The op with torch's device set to that of its first tensor, so that checks and temporaries are there."""

    names = tuple(inspect.signature(op).parameters)

    @functools.wraps(op)
    def call(first: Tensor, *args: object, **kwargs: object) -> object:
        if why := _unusable():
            raise RuntimeError(why)
        if not first.is_cuda:  # another tensor is, or torch would not have come here
            _refuse_devices(names, (first, *args), kwargs)
        with torch.cuda.device(first.device):
            return op(first, *args, **kwargs)

    return call


# ---- codes ----


def _pack_codes(values: Tensor, check: bool | None = None) -> Tensor:
    codes = shapes.pack_codes(values)
    values = values.contiguous()
    if wants_check(check, values):
        refuse_nan(values, "values")
    native.cuda.pack_codes(
        values.data_ptr(), DTYPE_CODES[values.dtype], *values.shape, codes.data_ptr(), *place(values)
    )
    return codes


def _unpack_codes(codes: Tensor, n_bits: int, signed: bool = False) -> Tensor:
    values = shapes.unpack_codes(codes, n_bits, signed)
    codes = codes.contiguous()
    native.cuda.unpack_codes(codes.data_ptr(), *codes.shape, n_bits, signed, values.data_ptr(), *place(codes))
    return values


# ---- ranking ----


def _hamming_distance(
    queries: Tensor, database: Tensor, score: str = "hamming", prepared: Sequence[Tensor] | None = None
) -> Tensor:
    counts = shapes.hamming_distance(queries, database, score, prepared)
    pairs = Pairs(queries, database, score, None, prepared)
    native.cuda.hamming_distance(pairs.native, counts.data_ptr(), *place(queries))
    return counts


def _topk_kernel() -> int:
    """What the variable DSHC_CUDA_TOPK asks for, for comparisons; the answers are the same."""
    name = os.environ.get("DSHC_CUDA_TOPK", "automatic")
    if name not in TOPK_KERNELS:
        raise ValueError(f"DSHC_CUDA_TOPK must be one of {', '.join(TOPK_KERNELS)}, got {name!r}")
    return TOPK_KERNELS.index(name)


def _hamming_topk(
    queries: Tensor,
    database: Tensor,
    k: int,
    score: str = "hamming",
    allowed: Tensor | None = None,
    prepared: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    counts, indices = shapes.hamming_topk(queries, database, k, score, allowed, prepared)
    pairs = Pairs(queries, database, score, allowed, prepared)
    device, stream = place(queries)
    kernel = _topk_kernel()
    workspace = workspace_bytes(
        native.cuda.hamming_topk_workspace_bytes(pairs.native, k, kernel, device), queries
    )
    native.cuda.hamming_topk(
        pairs.native, k, kernel, counts.data_ptr(), indices.data_ptr(), workspace.data_ptr(), device, stream
    )
    return counts, indices


def _asymmetric_topk(
    outputs: Tensor,
    database: Tensor,
    k: int,
    allowed: Tensor | None = None,
    check: bool | None = None,
    prepared: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    distances, indices = shapes.asymmetric_topk(outputs, database, k, allowed, check, prepared)
    if wants_check(check, outputs):
        refuse_nan(outputs, "outputs")
    pairs = AsymmetricPairs(outputs, database, allowed)
    device, stream = place(outputs)
    workspace = workspace_bytes(native.cuda.asymmetric_topk_workspace_bytes(pairs.native, k, device), outputs)
    native.cuda.asymmetric_topk(
        pairs.native, k, distances.data_ptr(), indices.data_ptr(), workspace.data_ptr(), device, stream
    )
    return distances, indices


def _hamming_radius(
    queries: Tensor,
    database: Tensor,
    radius: int,
    score: str = "hamming",
    allowed: Tensor | None = None,
    prepared: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    shapes.check_hamming_radius(queries, database, radius, score, allowed, prepared)
    pairs = Pairs(queries, database, score, allowed, prepared)
    device, stream = place(queries)
    radius = min(radius, 2**31 - 1)
    found = queries.new_empty((queries.shape[0],), dtype=torch.int64)
    native.cuda.hamming_radius_count(pairs.native, radius, found.data_ptr(), device, stream)
    offsets = _offsets(found)
    n_found = int(offsets[-1])  # the one place where the device is waited for
    return offsets, *_fill_radius(pairs, radius, n_found, offsets)


def _offsets(sizes: Tensor) -> Tensor:
    offsets = sizes.new_zeros((sizes.shape[0] + 1,))
    torch.cumsum(sizes, 0, out=offsets[1:])
    return offsets


def _fill_radius(pairs: Pairs, radius: int, n_found: int, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Indices and counts of a radius search that has counted."""
    indices = offsets.new_empty((n_found,))
    counts = offsets.new_empty((n_found,), dtype=torch.int32)
    if n_found:
        device, stream = place(offsets)
        workspace = workspace_bytes(
            native.cuda.hamming_radius_workspace_bytes(pairs.native, n_found, device), pairs.queries
        )
        native.cuda.hamming_radius_fill(
            pairs.native, radius, n_found, offsets.data_ptr(), indices.data_ptr(), counts.data_ptr(),
            workspace.data_ptr(), device, stream,
        )  # fmt: skip
    return indices, counts


PAIR_BLOCK, PAIR_BLOCKS = 4096, 16  # items of a block at the least; blocks at the most


def _hamming_pairs(
    codes: Tensor, radius: int, prepared: Sequence[Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Radius searches of a block of items among all from its first one on, less what each item finds of itself and
    before it. How much that is follows from how much a block finds in itself, where each pair is found from both sides:
    so that everything is counted first, and waited for once."""
    shapes.check_hamming_pairs(codes, radius, prepared)
    rows = code_rows(codes, prepared)[0]
    n, radius = rows.shape[0], min(radius, 2**31 - 1)
    size = max(
        PAIR_BLOCK, (n + PAIR_BLOCKS - 1) // PAIR_BLOCKS + 63 & ~63
    )  # blocks begin where wide loads may
    blocks = [slice(begin, min(begin + size, n)) for begin in range(0, n, size)]
    found = rows.new_empty((n,), dtype=torch.int64)
    found_inside = torch.empty_like(found)
    device, stream = place(rows)
    later, sums = [], []
    for block in blocks:
        later.append(Pairs(rows[block], rows[block.start :], "hamming"))
        native.cuda.hamming_radius_count(later[-1].native, radius, found[block].data_ptr(), device, stream)
        inside = Pairs(rows[block], rows[block], "hamming")
        native.cuda.hamming_radius_count(
            inside.native, radius, found_inside[block].data_ptr(), device, stream
        )
        sums += [found[block].sum(), found_inside[block].sum()]
    totals = torch.stack(sums).tolist() if sums else []  # the one place where the device is waited for
    sizes = [
        both - (twice + block.stop - block.start) // 2
        for block, both, twice in zip(blocks, totals[::2], totals[1::2], strict=True)
    ]
    offsets = found.new_zeros((n + 1,))
    indices = offsets.new_empty((sum(sizes),))
    distances = offsets.new_empty((sum(sizes),), dtype=torch.int32)
    first = 0
    for block, pairs, n_both, n_kept in zip(blocks, later, totals[::2], sizes, strict=True):
        of_block = _offsets(found[block])
        items, counts = _fill_radius(pairs, radius, n_both, of_block)
        item = torch.arange(block.stop - block.start, device=codes.device)
        kept = items > item.repeat_interleave(found[block], output_size=n_both)
        place_of = torch.nn.functional.pad(kept.cumsum(0), (1, 0))  # how many are kept before
        offsets[block.start + 1 : block.stop + 1] = first + place_of[of_block[1:]]
        to = torch.where(kept, place_of[:-1], n_kept)  # the others to a place behind all
        for part, whole in ((items + block.start, indices), (counts, distances)):
            room = part.new_empty((n_kept + 1,)).scatter_(0, to, part)
            whole[first : first + n_kept] = room[:-1]
        first += n_kept
    return offsets, indices, distances


# ---- codes from logits ----


def _codes_from_logits(
    logits: Tensor, codebook: Tensor, k: int, weighting: str = "mean", check: bool | None = None
) -> Tensor:
    codes = shapes.codes_from_logits(logits, codebook, k, weighting)
    write_codes(logits, codebook, k, weighting, None, codes, wants_check(check, logits))
    return codes


def _center_codes_from_logits(
    logits: Tensor, class_offsets: Tensor, centers: Tensor, check: bool | None = None
) -> Tensor:
    codes = shapes.center_codes_from_logits(logits, class_offsets, centers)
    logits, centers = logits.contiguous(), centers.contiguous()
    class_offsets = class_offsets.to(torch.int64).contiguous()
    if wants_check(check, logits):
        check_offset_values(class_offsets, logits.shape[1])
        refuse_nan(logits, "logits")
    native.cuda.center_codes_from_logits(
        logits.data_ptr(), DTYPE_CODES[logits.dtype], *logits.shape, class_offsets.data_ptr(), centers.shape[0],
        centers.data_ptr(), centers.shape[1], codes.data_ptr(), *place(logits),
    )  # fmt: skip
    return codes


def _multilabel_codes(logits: Tensor, threshold: Tensor, check: bool | None = None) -> Tensor:
    codes = shapes.multilabel_codes(logits, threshold)
    logits = logits.contiguous()
    thresholds = threshold.to(torch.float64).expand(logits.shape[1]).contiguous()
    if wants_check(check, logits):
        if bool(thresholds.isnan().any()):
            raise ValueError("threshold must hold numbers and infinities, got NaN")
        refuse_nan(logits, "logits")
    native.cuda.multilabel_codes(
        logits.data_ptr(), DTYPE_CODES[logits.dtype], *logits.shape, thresholds.data_ptr(), codes.data_ptr(),
        *place(logits),
    )  # fmt: skip
    return codes


for _name in SCHEMAS:
    library.impl(_name, on_first_tensor(globals()[f"_{_name}"]), "CUDA")

# No ops of their own: who traces or transforms sees class_softmax_loss.
loss_and_gradient, rescale_gradient = on_first_tensor(_loss_and_gradient), on_first_tensor(_rescale_gradient)
