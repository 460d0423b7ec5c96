"""The ops `torch.ops.dshc_fast.*`: schema, shapes, and the call into the native module. The only file that touches addresses.

Every op has a line in SCHEMAS, a CPU implementation `_<op>` and a shape function `_<op>_fake`; both run the same checks.
An implementation validates, makes contiguous locals (a temporary's memory is gone before the kernel reads it), allocates
the outputs, and calls.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _checks as checks
from ._native import native

SCORES = ("hamming", "overlap")
TIES = ("expected", "index", "best", "worst")
DENOMINATORS = ("retrieved", "min", "relevant")
WEIGHTINGS = ("mean", "probability")

LABELLED = "Tensor queries, Tensor database, Tensor query_labels, Tensor database_labels"

SCHEMAS = {
    "pack_codes": "(Tensor values, bool? check=None) -> Tensor",
    "unpack_codes": "(Tensor codes, SymInt n_bits, bool signed=False) -> Tensor",
    "hamming_distance": '(Tensor queries, Tensor database, str score="hamming") -> Tensor',
    "hamming_topk": '(Tensor queries, Tensor database, SymInt k, str score="hamming", Tensor? allowed=None) '
    "-> (Tensor, Tensor)",
    "hamming_radius": '(Tensor queries, Tensor database, SymInt radius, str score="hamming", Tensor? allowed=None) '
    "-> (Tensor, Tensor, Tensor)",
    "hamming_histogram": f"({LABELLED}, "
    'str score="hamming", SymInt? n_bits=None, Tensor? allowed=None, bool? check=None) -> (Tensor, Tensor)',
    "average_precision": f"({LABELLED}, SymInt? k=None, "
    'str ties="expected", str denominator="retrieved", str score="hamming", SymInt? n_bits=None, Tensor? allowed=None, '
    "bool? check=None) -> Tensor",
    # weight 0: 1 / m_c. The second result is what the backward pass reads (csrc/core/class_softmax_loss.h).
    "class_softmax_loss": "(Tensor logits, Tensor labels, Tensor class_offsets, float weight=0.0, int ignore_index=-100, "
    "bool? check=None) -> (Tensor, Tensor)",
    "class_softmax_loss_backward": "(Tensor grad_loss, Tensor logits, Tensor stats, Tensor labels, Tensor class_offsets, "
    "float weight=0.0, int ignore_index=-100) -> Tensor",
    "codes_from_logits": '(Tensor logits, Tensor codebook, SymInt k, str weighting="mean", bool? check=None) -> Tensor',
    "center_codes_from_logits": "(Tensor logits, Tensor class_offsets, Tensor centers, bool? check=None) -> Tensor",
    "multilabel_codes": "(Tensor logits, Tensor threshold, bool? check=None) -> Tensor",
}

_DTYPE_CODES = {  # csrc/core/types.h, enum DType
    torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3,
    torch.int8: 4, torch.int16: 5, torch.int32: 6, torch.int64: 7,
    torch.uint8: 8, torch.bool: 8, torch.uint16: 9, torch.uint32: 10, torch.uint64: 11,
}  # fmt: skip


def _n_bytes(n_bits: int) -> int:
    return (n_bits + 7) // 8


# ---- codes -----------------------------------------------------------------------------------------------------------


def _pack_codes_fake(values: Tensor, check: bool | None = None) -> Tensor:
    checks.check_same_device(values=values)
    checks.check_dtype(values, "values", tuple(_DTYPE_CODES), "floats, integers, bool")
    checks.check_dim(values, "values", 2, "(n, n_bits)")
    if not 1 <= values.shape[1] <= 8 * checks.MAX_BYTES:
        raise ValueError(
            f"values has shape {checks.shape_text(values)}; taken: 1 to {8 * checks.MAX_BYTES} bits (columns)"
        )
    return values.new_empty((values.shape[0], _n_bytes(values.shape[1])), dtype=torch.uint8)


def _pack_codes(values: Tensor, check: bool | None = None) -> Tensor:
    codes = _pack_codes_fake(values)
    values = values.contiguous()
    native.pack_codes(values.data_ptr(), _DTYPE_CODES[values.dtype], *values.shape, codes.data_ptr(), check is not False,
                      torch.get_num_threads())
    return codes


def _unpack_codes_fake(codes: Tensor, n_bits: int, signed: bool = False) -> Tensor:
    checks.check_same_device(codes=codes)
    checks.check_codes(codes, "codes")
    checks.check_bits(n_bits, codes.shape[1])
    return codes.new_empty((codes.shape[0], n_bits), dtype=torch.int8 if signed else torch.uint8)


def _unpack_codes(codes: Tensor, n_bits: int, signed: bool = False) -> Tensor:
    values = _unpack_codes_fake(codes, n_bits, signed)
    codes = codes.contiguous()
    native.unpack_codes(codes.data_ptr(), *codes.shape, n_bits, signed, values.data_ptr(), torch.get_num_threads())
    return values


# ---- ranking ---------------------------------------------------------------------------------------------------------


class _Pairs:
    """Native description of queries against a database; keeps the tensors it points into alive."""

    def __init__(self, queries: Tensor, database: Tensor, score: str, allowed: Tensor | None = None) -> None:
        self.queries, self.database = queries.contiguous(), database.contiguous()
        self.allowed = None if allowed is None else _packed_allowed(allowed)
        stride = self.allowed.shape[1] if self.allowed is not None and allowed.dim() == 2 else 0
        self.native = native.Pairs(
            self.queries.data_ptr(), self.database.data_ptr(), queries.shape[0], database.shape[0], queries.shape[1],
            SCORES.index(score), 0 if self.allowed is None else self.allowed.data_ptr(), stride,
        )  # fmt: skip


def _packed_allowed(allowed: Tensor) -> Tensor:
    rows = allowed.reshape(-1, allowed.shape[-1])
    if allowed.dtype == torch.uint8:
        return rows.contiguous()
    rows = rows.contiguous()
    packed = rows.new_empty((rows.shape[0], _n_bytes(rows.shape[1])), dtype=torch.uint8)
    native.pack_codes(rows.data_ptr(), _DTYPE_CODES[torch.bool], *rows.shape, packed.data_ptr(), False,
                      torch.get_num_threads())
    return packed


def _check_score(score: str) -> None:
    checks.check_choice(score, "score", SCORES)


def _hamming_distance_fake(queries: Tensor, database: Tensor, score: str = "hamming") -> Tensor:
    checks.check_pairs(queries, database)
    _check_score(score)
    return queries.new_empty((queries.shape[0], database.shape[0]), dtype=torch.int32)


def _hamming_distance(queries: Tensor, database: Tensor, score: str = "hamming") -> Tensor:
    counts = _hamming_distance_fake(queries, database, score)
    pairs = _Pairs(queries, database, score)
    native.hamming_distance(pairs.native, counts.data_ptr(), torch.get_num_threads())
    return counts


def _hamming_topk_fake(queries: Tensor, database: Tensor, k: int, score: str = "hamming",
                       allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    checks.check_pairs(queries, database, allowed)
    _check_score(score)
    if not 1 <= k <= database.shape[0]:
        raise ValueError(f"k is {k}; taken: 1 to {database.shape[0]} (items in the database)")
    shape = (queries.shape[0], k)
    return queries.new_empty(shape, dtype=torch.int32), queries.new_empty(shape, dtype=torch.int64)


def _hamming_topk(queries: Tensor, database: Tensor, k: int, score: str = "hamming",
                  allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    counts, indices = _hamming_topk_fake(queries, database, k, score, allowed)
    pairs = _Pairs(queries, database, score, allowed)
    native.hamming_topk(pairs.native, k, counts.data_ptr(), indices.data_ptr(), torch.get_num_threads())
    return counts, indices


def _check_hamming_radius(queries: Tensor, database: Tensor, radius: int, score: str, allowed: Tensor | None) -> None:
    checks.check_pairs(queries, database, allowed)
    _check_score(score)
    if radius < 0:
        raise ValueError(f"radius is {radius}; taken: 0 or more")


def _hamming_radius_fake(queries: Tensor, database: Tensor, radius: int, score: str = "hamming",
                         allowed: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    _check_hamming_radius(queries, database, radius, score, allowed)
    found = torch.library.get_ctx().new_dynamic_size()
    return (queries.new_empty((queries.shape[0] + 1,), dtype=torch.int64),
            queries.new_empty((found,), dtype=torch.int64), queries.new_empty((found,), dtype=torch.int32))


def _hamming_radius(queries: Tensor, database: Tensor, radius: int, score: str = "hamming",
                    allowed: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    _check_hamming_radius(queries, database, radius, score, allowed)
    pairs = _Pairs(queries, database, score, allowed)
    radius, n_threads = min(radius, 2**31 - 1), torch.get_num_threads()
    found = queries.new_empty((queries.shape[0],), dtype=torch.int64)
    native.hamming_radius_count(pairs.native, radius, found.data_ptr(), n_threads)
    offsets = queries.new_zeros((queries.shape[0] + 1,), dtype=torch.int64)
    torch.cumsum(found, 0, out=offsets[1:])
    n_found = int(offsets[-1])
    indices = queries.new_empty((n_found,), dtype=torch.int64)
    counts = queries.new_empty((n_found,), dtype=torch.int32)
    native.hamming_radius_fill(pairs.native, radius, offsets.data_ptr(), indices.data_ptr(), counts.data_ptr(), n_threads)
    return offsets, indices, counts


# ---- metrics ---------------------------------------------------------------------------------------------------------


class _Relevance:
    """Native description of which pairs are relevant; keeps the tensors it points into alive."""

    def __init__(self, query_labels: Tensor, database_labels: Tensor, check: bool | None) -> None:
        if query_labels.dim() == 1:
            self.tensors, n_words = _int32_ids(query_labels, database_labels), 0
        else:
            self.tensors = (_label_words(query_labels, "query_labels", check),
                            _label_words(database_labels, "database_labels", check))
            n_words = self.tensors[0].shape[1] // 8
        self.native = native.Relevance(*(tensor.data_ptr() for tensor in self.tensors), n_words)


def _int32_ids(query_ids: Tensor, database_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The ids as int32: themselves where they fit, else renumbered. Ids are only compared for equality."""
    if torch.uint64 in (query_ids.dtype, database_ids.dtype):
        # Ids beyond int64 exist only here; they are renumbered as Python integers, which have no largest value.
        values = sorted({*query_ids.tolist(), *database_ids.tolist()})
        number = {value: i for i, value in enumerate(values)}
        return tuple(torch.tensor([number[v] for v in ids.tolist()], dtype=torch.int32) for ids in (query_ids, database_ids))
    ids, limits = [query_ids, database_ids], torch.iinfo(torch.int32)
    if any(tensor.dtype in (torch.int64, torch.uint32) for tensor in ids):
        ids = [tensor.long() for tensor in ids]
    for tensor in ids:
        if tensor.dtype == torch.int64 and tensor.numel() and (int(tensor.min()) < limits.min or int(tensor.max()) > limits.max):
            _, renumbered = torch.cat(ids).unique(return_inverse=True)
            ids = renumbered.split([len(query_ids), len(database_ids)])
            break
    return tuple(tensor.to(torch.int32).contiguous() for tensor in ids)


def _label_words(labels: Tensor, name: str, check: bool | None) -> Tensor:
    """Multi-hot rows as packed bits, padded to whole 64-bit words."""
    if labels.dtype != torch.bool:
        if check is not False and bool((wrong := (labels != 0) & (labels != 1)).any()):
            row, column = (int(i) for i in wrong.nonzero()[0])
            raise ValueError(f"{name}[{row}, {column}] is {labels[row, column].item()}; taken in multi-hot rows: 0 and 1")
        labels = labels != 0
    labels = labels.contiguous()
    n, n_labels = labels.shape
    bits = labels.new_empty((n, _n_bytes(n_labels)), dtype=torch.uint8)
    native.pack_codes(labels.data_ptr(), _DTYPE_CODES[torch.bool], n, n_labels, bits.data_ptr(), False,
                      torch.get_num_threads())
    return torch.nn.functional.pad(bits, (0, -bits.shape[1] % 8))


def _check_padding(codes: Tensor, n_bits: int, name: str) -> None:
    padding = 8 * codes.shape[1] - n_bits
    if padding and bool((set_bits := codes[:, -1] >= 1 << (8 - padding)).any()):
        raise ValueError(f"{name}[{int(set_bits.nonzero()[0])}] has padding bits set; taken: no bits from {n_bits} on")


def _check_metric(queries: Tensor, database: Tensor, query_labels: Tensor, database_labels: Tensor, score: str,
                  n_bits: int | None, allowed: Tensor | None) -> int:
    checks.check_pairs(queries, database, allowed)
    checks.check_labels(queries, database, query_labels, database_labels)
    _check_score(score)
    if n_bits is None:
        return 8 * queries.shape[1]
    checks.check_bits(n_bits, queries.shape[1])
    return n_bits


def _hamming_histogram_fake(queries: Tensor, database: Tensor, query_labels: Tensor, database_labels: Tensor,
                            score: str = "hamming", n_bits: int | None = None, allowed: Tensor | None = None,
                            check: bool | None = None) -> tuple[Tensor, Tensor]:
    n_bits = _check_metric(queries, database, query_labels, database_labels, score, n_bits, allowed)
    shape = (queries.shape[0], n_bits + 1)
    return queries.new_empty(shape, dtype=torch.int64), queries.new_empty(shape, dtype=torch.int64)


def _check_metric_values(queries: Tensor, database: Tensor, n_bits: int | None, check: bool | None) -> None:
    if check is not False and n_bits is not None:
        _check_padding(queries, n_bits, "queries")
        _check_padding(database, n_bits, "database")


def _hamming_histogram(queries: Tensor, database: Tensor, query_labels: Tensor, database_labels: Tensor,
                       score: str = "hamming", n_bits: int | None = None, allowed: Tensor | None = None,
                       check: bool | None = None) -> tuple[Tensor, Tensor]:
    items, relevant = _hamming_histogram_fake(queries, database, query_labels, database_labels, score, n_bits, allowed)
    _check_metric_values(queries, database, n_bits, check)
    pairs, relevance = _Pairs(queries, database, score, allowed), _Relevance(query_labels, database_labels, check)
    native.hamming_histogram(pairs.native, relevance.native, items.shape[1] - 1, items.data_ptr(), relevant.data_ptr(),
                             torch.get_num_threads())
    return items, relevant


def _average_precision_fake(queries: Tensor, database: Tensor, query_labels: Tensor, database_labels: Tensor,
                            k: int | None = None, ties: str = "expected", denominator: str = "retrieved",
                            score: str = "hamming", n_bits: int | None = None, allowed: Tensor | None = None,
                            check: bool | None = None) -> Tensor:
    _check_metric(queries, database, query_labels, database_labels, score, n_bits, allowed)
    checks.check_choice(ties, "ties", TIES)
    checks.check_choice(denominator, "denominator", DENOMINATORS)
    if k is not None and k < 1:
        raise ValueError(f"k is {k}; taken: 1 or more, or None for all")
    return queries.new_empty((queries.shape[0],), dtype=torch.float64)


def _average_precision(queries: Tensor, database: Tensor, query_labels: Tensor, database_labels: Tensor,
                       k: int | None = None, ties: str = "expected", denominator: str = "retrieved",
                       score: str = "hamming", n_bits: int | None = None, allowed: Tensor | None = None,
                       check: bool | None = None) -> Tensor:
    result = _average_precision_fake(queries, database, query_labels, database_labels, k, ties, denominator, score,
                                     n_bits, allowed)
    _check_metric_values(queries, database, n_bits, check)
    pairs, relevance = _Pairs(queries, database, score, allowed), _Relevance(query_labels, database_labels, check)
    n_db = database.shape[0]
    native.average_precision(pairs.native, relevance.native, n_db if k is None else min(k, n_db), TIES.index(ties),
                             DENOMINATORS.index(denominator), result.data_ptr(), torch.get_num_threads())
    return result


# ---- loss ------------------------------------------------------------------------------------------------------------


class _ClassSoftmax:
    """Native description of a loss call; keeps the tensors it points into alive."""

    def __init__(self, logits: Tensor, labels: Tensor, class_offsets: Tensor, weight: float, ignore_index: int) -> None:
        self.logits = logits.contiguous()
        self.labels = labels.to(torch.int64).contiguous()
        self.class_offsets = class_offsets.to(torch.int64).contiguous()
        self.native = native.ClassSoftmax(
            self.logits.data_ptr(), _DTYPE_CODES[logits.dtype], self.labels.data_ptr(), self.class_offsets.data_ptr(),
            *logits.shape, class_offsets.shape[0] - 1, weight, ignore_index,
        )  # fmt: skip


def _loss_dtype(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _class_softmax_loss_fake(logits: Tensor, labels: Tensor, class_offsets: Tensor, weight: float = 0.0,
                             ignore_index: int = -100, check: bool | None = None) -> tuple[Tensor, Tensor]:
    checks.check_logits(logits)
    checks.check_same_device(logits=logits, labels=labels, class_offsets=class_offsets)
    checks.check_dtype(labels, "labels", checks.INTEGERS, "integers (class ids)")
    if labels.dim() != 1 or labels.shape[0] != logits.shape[0]:
        raise ValueError(f"labels has shape {checks.shape_text(labels)}; taken: ({logits.shape[0]},), one a row of logits")
    checks.check_class_offsets(class_offsets, logits.shape[1])
    dtype = _loss_dtype(logits)
    return logits.new_empty((logits.shape[0],), dtype=dtype), logits.new_empty((logits.shape[0], 2), dtype=dtype)


def _class_softmax_loss(logits: Tensor, labels: Tensor, class_offsets: Tensor, weight: float = 0.0,
                        ignore_index: int = -100, check: bool | None = None) -> tuple[Tensor, Tensor]:
    loss, stats = _class_softmax_loss_fake(logits, labels, class_offsets)
    task = _ClassSoftmax(logits, labels, class_offsets, weight, ignore_index)
    native.class_softmax_loss(task.native, loss.data_ptr(), stats.data_ptr(), check is not False, torch.get_num_threads())
    return loss, stats


def _class_softmax_loss_backward_fake(grad_loss: Tensor, logits: Tensor, stats: Tensor, labels: Tensor,
                                      class_offsets: Tensor, weight: float = 0.0, ignore_index: int = -100) -> Tensor:
    return torch.empty_like(logits, memory_format=torch.contiguous_format)


def _class_softmax_loss_backward(grad_loss: Tensor, logits: Tensor, stats: Tensor, labels: Tensor, class_offsets: Tensor,
                                 weight: float = 0.0, ignore_index: int = -100) -> Tensor:
    grad_logits = _class_softmax_loss_backward_fake(grad_loss, logits, stats, labels, class_offsets)
    _class_softmax_loss_fake(logits, labels, class_offsets)
    for tensor, name, shape in ((grad_loss, "grad_loss", (logits.shape[0],)), (stats, "stats", (logits.shape[0], 2))):
        if tuple(tensor.shape) != shape or tensor.dtype != _loss_dtype(logits):
            raise ValueError(f"{name} has shape {checks.shape_text(tensor)}, {tensor.dtype}; taken: {shape}, "
                             f"{_loss_dtype(logits)}")
    task = _ClassSoftmax(logits, labels, class_offsets, weight, ignore_index)
    grad_loss, stats = grad_loss.contiguous(), stats.contiguous()
    native.class_softmax_loss_backward(task.native, stats.data_ptr(), grad_loss.data_ptr(), grad_logits.data_ptr(),
                                       torch.get_num_threads())
    return grad_logits


# ---- codes from logits -----------------------------------------------------------------------------------------------


def _codes_from_logits_fake(logits: Tensor, codebook: Tensor, k: int, weighting: str = "mean",
                            check: bool | None = None) -> Tensor:
    checks.check_logits(logits)
    checks.check_same_device(logits=logits, codebook=codebook)
    checks.check_codes(codebook, "codebook", at_least=1)
    if codebook.shape[0] != logits.shape[1]:
        raise ValueError(f"codebook has {codebook.shape[0]} codes; taken: one for each of the {logits.shape[1]} columns "
                         "of logits")
    if not 1 <= k <= logits.shape[1]:
        raise ValueError(f"k is {k}; taken: 1 to {logits.shape[1]} (sub-classes)")
    checks.check_choice(weighting, "weighting", WEIGHTINGS)
    return codebook.new_empty((logits.shape[0], codebook.shape[1]))


def _codes_from_logits(logits: Tensor, codebook: Tensor, k: int, weighting: str = "mean",
                       check: bool | None = None) -> Tensor:
    codes = _codes_from_logits_fake(logits, codebook, k, weighting)
    logits, codebook = logits.contiguous(), codebook.contiguous()
    native.codes_from_logits(logits.data_ptr(), _DTYPE_CODES[logits.dtype], *logits.shape, codebook.data_ptr(),
                             codebook.shape[1], k, WEIGHTINGS.index(weighting), codes.data_ptr(), check is not False,
                             torch.get_num_threads())
    return codes


def _center_codes_from_logits_fake(logits: Tensor, class_offsets: Tensor, centers: Tensor,
                                   check: bool | None = None) -> Tensor:
    checks.check_logits(logits)
    checks.check_same_device(logits=logits, class_offsets=class_offsets, centers=centers)
    checks.check_class_offsets(class_offsets, logits.shape[1])
    checks.check_codes(centers, "centers", at_least=1)
    if centers.shape[0] != class_offsets.shape[0] - 1:
        raise ValueError(f"centers has {centers.shape[0]} rows; taken: one for each of the {class_offsets.shape[0] - 1} "
                         "classes of class_offsets")
    return centers.new_empty((logits.shape[0], centers.shape[1]))


def _center_codes_from_logits(logits: Tensor, class_offsets: Tensor, centers: Tensor,
                              check: bool | None = None) -> Tensor:
    codes = _center_codes_from_logits_fake(logits, class_offsets, centers)
    logits, centers = logits.contiguous(), centers.contiguous()
    class_offsets = class_offsets.to(torch.int64).contiguous()
    native.center_codes_from_logits(logits.data_ptr(), _DTYPE_CODES[logits.dtype], *logits.shape,
                                    class_offsets.data_ptr(), centers.shape[0], centers.data_ptr(), centers.shape[1],
                                    codes.data_ptr(), check is not False, torch.get_num_threads())
    return codes


def _multilabel_codes_fake(logits: Tensor, threshold: Tensor, check: bool | None = None) -> Tensor:
    checks.check_logits(logits)
    checks.check_same_device(logits=logits, threshold=threshold)
    if logits.shape[1] > 8 * checks.MAX_BYTES:
        raise ValueError(f"logits has shape {checks.shape_text(logits)}; taken: 1 to {8 * checks.MAX_BYTES} labels")
    checks.check_dtype(threshold, "threshold", (*checks.FLOATS, *checks.INTEGERS), "a number, or one a class")
    if threshold.dim() > 1 or (threshold.dim() == 1 and threshold.shape[0] != logits.shape[1]):
        raise ValueError(f"threshold has shape {checks.shape_text(threshold)}; taken: a number, or ({logits.shape[1]},)")
    return logits.new_empty((logits.shape[0], _n_bytes(logits.shape[1])), dtype=torch.uint8)


def _multilabel_codes(logits: Tensor, threshold: Tensor, check: bool | None = None) -> Tensor:
    codes = _multilabel_codes_fake(logits, threshold)
    logits = logits.contiguous()
    thresholds = threshold.to(torch.float64).expand(logits.shape[1]).contiguous()
    if check is not False and bool(thresholds.isnan().any()):
        raise ValueError("threshold contains NaN; taken: numbers and infinities")
    native.multilabel_codes(logits.data_ptr(), _DTYPE_CODES[logits.dtype], *logits.shape, thresholds.data_ptr(),
                            codes.data_ptr(), check is not False, torch.get_num_threads())
    return codes


# ---- registration ----------------------------------------------------------------------------------------------------


def _no_cuda_kernels(*args: object, **kwargs: object) -> None:
    raise RuntimeError(
        "dshc_fast was built without CUDA kernels, but a CUDA tensor came; move the tensors to the CPU with .cpu()"
    )


library = torch.library.Library("dshc_fast", "DEF")
for _name, _schema in SCHEMAS.items():
    library.define(_name + _schema, tags=(torch.Tag.pt2_compliant_tag,))
    library.impl(_name, globals()[f"_{_name}"], "CPU")
    library.impl(_name, _no_cuda_kernels, "CUDA")
    torch.library.register_fake(f"dshc_fast::{_name}", globals()[f"_{_name}_fake"], lib=library)


# losses.py has its own autograd.Function, which costs half as much a call; this one makes the bare op differentiable too.
def _save_for_loss_backward(ctx, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    logits, labels, class_offsets, ctx.weight, ctx.ignore_index, _ = inputs
    ctx.save_for_backward(logits, output[1], labels, class_offsets)
    ctx.mark_non_differentiable(output[1])


def _loss_backward(ctx, grad_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    logits, stats, labels, class_offsets = ctx.saved_tensors
    grad_logits = torch.ops.dshc_fast.class_softmax_loss_backward(grad_loss, logits, stats, labels, class_offsets,
                                                                  ctx.weight, ctx.ignore_index)
    return grad_logits, None, None, None, None, None


torch.library.register_autograd("dshc_fast::class_softmax_loss", _loss_backward, setup_context=_save_for_loss_backward,
                                lib=library)
