"""The host functions of csrc/cuda on numpy arrays, run on the CPU by dshc_simt (simt.py)."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st
from metric_oracles import METRICS
from simt import Output, Simt, program

DTYPE_CODES = {  # csrc/core/types.h, enum DType
    torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3,
    torch.int8: 4, torch.int16: 5, torch.int32: 6, torch.int64: 7,
    torch.uint8: 8, torch.bool: 8, torch.uint16: 9, torch.uint32: 10, torch.uint64: 11,
}  # fmt: skip
TOPK_KERNELS = ("automatic", "rows", "popc", "mma")  # csrc/core/hamming_topk.h
COLLECT_TUNING = {
    "capacity": 0, "sample_items": 0, "chunk": 0, "group": 256, "count_every": 0, "prefix_tiles": -1,
    "first_item": 0,
}  # fmt: skip
SCORES, TIES = ("hamming", "overlap"), ("expected", "index", "best", "worst")
GAINS = ("linear", "exponential")
DENOMINATORS, WEIGHTINGS = ("retrieved", "min", "relevant"), ("mean", "probability")
NO_RADIUS = 2**31 - 1  # larger ones are all the same
# Around warps, blocks and the tiles that kernels cut the database into.
EDGES = (
    1,
    2,
    31,
    32,
    33,
    63,
    64,
    65,
    127,
    128,
    129,
    255,
    256,
    257,
    511,
    512,
    513,
    1023,
    1024,
    1025,
    2047,
    2049,
)
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
FEW = ("ascending", "random")  # orders, where descending has nothing to add: sizes are in question


class TopK(NamedTuple):
    distances: np.ndarray
    indices: np.ndarray


class Radius(NamedTuple):
    offsets: np.ndarray
    indices: np.ndarray
    distances: np.ndarray


class Histogram(NamedTuple):
    items: np.ndarray
    relevant: np.ndarray


@functools.cache
def _kernels(name: str) -> Kernels:
    return Kernels(program(name))


def runs(order: str, data: st.DataObject | None = None, seed: int = 0) -> Kernels:
    """The kernels, in one process a session, in this order; the seed and the place where inputs begin are drawn."""
    kernels = _kernels("dshc_simt_races" if order == "interleaved" else "dshc_simt")
    if data is None:
        return kernels.using(order, seed, offset=seed % 4)
    seed = data.draw(st.integers(0, 999), label="order seed") if order in ("random", "interleaved") else 0
    return kernels.using(order, seed, data.draw(st.integers(0, 3), label="offset"))


class Kernels(Simt):
    """A method for each op; answers as the public functions give them for numpy."""

    # ---- codes ----

    def pack_codes(self, values: torch.Tensor) -> np.ndarray:
        n, n_bits = values.shape
        return self.run(
            "pack_codes", {"values": values}, {"codes": Output((n, (n_bits + 7) // 8), np.uint8)},
            n=n, n_bits=n_bits, dtype=DTYPE_CODES[values.dtype],
        )[0]  # fmt: skip

    def unpack_codes(self, codes: np.ndarray, n_bits: int, signed: bool = False) -> np.ndarray:
        n, n_bytes = codes.shape
        return self.run(
            "unpack_codes", {"codes": codes}, {"values": Output((n, n_bits), np.int8 if signed else np.uint8)},
            n=n, n_bytes=n_bytes, n_bits=n_bits, signed=signed,
        )[0]  # fmt: skip

    # ---- ranking ----

    def hamming_distance(self, queries: np.ndarray, database: np.ndarray, score: str = "hamming"):
        inputs, scalars = _pairs(queries, database, score, None)
        shape = (len(queries), len(database))
        return self.run("hamming_distance", inputs, {"counts": Output(shape, np.int32)}, **scalars)[0]

    def hamming_topk(
        self, queries, database, k: int, score: str = "hamming", allowed=None, kernel: str = "automatic"
    ) -> TopK:
        return self._topk("hamming_topk", queries, database, k, score, allowed, kernel)

    def collect_topk(
        self, queries, database, k: int, score="hamming", allowed=None, kernel="popc", **tuning
    ) -> TopK:
        """The one-pass kernels; `tuning` as csrc/cuda/collect.h, CollectTuning, says it."""
        return self._topk(
            "collect_topk", queries, database, k, score, allowed, kernel, **(COLLECT_TUNING | tuning)
        )

    def collected(self, queries, database, k: int, kernel: str, **tuning) -> np.ndarray:
        """How many items each query collects on the way."""
        inputs, scalars = _pairs(queries, database, "hamming", None)
        outputs = {
            "counts": Output((len(queries), k), np.int32),
            "indices": Output((len(queries), k), np.int64),
        }
        outputs["found"] = Output((len(queries),), np.uint64)
        scalars |= {"kernel": TOPK_KERNELS.index(kernel), "k": k}
        return self.run("collect_topk", inputs, outputs, **scalars, **(COLLECT_TUNING | tuning))[2]

    def _topk(self, op: str, queries, database, k: int, score: str, allowed, kernel: str, **tuning) -> TopK:
        inputs, scalars = _pairs(queries, database, score, allowed)
        shape = (len(queries), k)
        outputs = {"counts": Output(shape, np.int32), "indices": Output(shape, np.int64)}
        scalars["kernel"] = TOPK_KERNELS.index(kernel)
        return TopK(*self.run(op, inputs, outputs, **scalars, k=k, **tuning))

    def hamming_radius(self, queries, database, radius: int, score: str = "hamming", allowed=None) -> Radius:
        found = self.hamming_radius_count(queries, database, radius, score, allowed)
        inputs, scalars = _pairs(queries, database, score, allowed)
        scalars["radius"] = min(radius, NO_RADIUS)
        offsets = np.concatenate([[0], np.cumsum(found)]).astype(np.int64)
        shape = (int(offsets[-1]),)
        indices, counts = self.run(
            "hamming_radius_fill", {**inputs, "offsets": offsets},
            {"indices": Output(shape, np.int64), "counts": Output(shape, np.int32)}, **scalars,
        )  # fmt: skip
        return Radius(offsets, indices, counts)

    def hamming_radius_count(self, queries, database, radius: int, score: str = "hamming", allowed=None):
        inputs, scalars = _pairs(queries, database, score, allowed)
        outputs = {"found": Output((len(queries),), np.int64)}
        return self.run("hamming_radius_count", inputs, outputs, **scalars, radius=min(radius, NO_RADIUS))[0]

    def asymmetric_topk(
        self, outputs: torch.Tensor, database: np.ndarray, k: int, allowed=None, stride=None
    ) -> TopK:
        """`stride`: bytes from one code to the next, where the database's rows are wider."""
        rows = database
        if stride is not None:
            rows = np.full((len(database), stride), 0xA5, np.uint8)
            rows[:, : database.shape[1]] = database
        inputs, scalars = _pairs(database[:0], database, "hamming", allowed)
        del inputs["queries"], scalars["score"]
        shape = (len(outputs), k)
        outputs_of_op = {"distances": Output(shape, np.float32), "indices": Output(shape, np.int64)}
        scalars |= {"n_query": len(outputs), "n_bits": outputs.shape[1], "stride": rows.shape[1]}
        found = self.run(
            "asymmetric_topk", {**inputs, "database": rows, "outputs": outputs}, outputs_of_op, **scalars,
            dtype=DTYPE_CODES[outputs.dtype], k=k,
        )  # fmt: skip
        return TopK(*found)

    # ---- metrics ----

    def hamming_histogram(
        self, queries, database, query_labels, database_labels, score="hamming", n_bits=None, allowed=None
    ) -> Histogram:
        inputs, scalars = _labelled(queries, database, query_labels, database_labels, score, allowed)
        n_bits = 8 * queries.shape[1] if n_bits is None else n_bits
        shape = (len(queries), n_bits + 1)
        outputs = {"items": Output(shape, np.int64), "relevant": Output(shape, np.int64)}
        return Histogram(*self.run("hamming_histogram", inputs, outputs, **scalars, n_bits=n_bits))

    def average_precision(
        self, queries, database, query_labels, database_labels, *,
        k=None, ties="expected", denominator="retrieved", score="hamming", allowed=None,
    ) -> np.ndarray:  # fmt: skip
        inputs, scalars = _labelled(queries, database, query_labels, database_labels, score, allowed)
        k = len(database) if k is None else min(k, len(database))
        return self.run(
            "average_precision", inputs, {"result": Output((len(queries),), np.float64)}, **scalars,
            k=k, ties=TIES.index(ties), denominator=DENOMINATORS.index(denominator),
        )[0]  # fmt: skip

    def retrieval_metric(
        self, queries, database, query_labels, database_labels, metric: str, *,
        k=None, ties="expected", gains="linear", score="hamming", allowed=None,
    ) -> np.ndarray:  # fmt: skip
        inputs, scalars = _labelled(queries, database, query_labels, database_labels, score, allowed)
        return self.run(
            "retrieval_metric", inputs, {"result": Output((len(queries),), np.float64)}, **scalars,
            metric=METRICS.index(metric), k=k or 0, ties=TIES.index(ties), gains=GAINS.index(gains),
            n_labels=query_labels.shape[1] if query_labels.ndim == 2 else 1,
        )[0]  # fmt: skip

    # ---- loss ----

    def class_softmax_loss(self, logits: torch.Tensor, labels, offsets, weight=0.0, ignore_index=-100):
        """(loss, stats) as numpy."""
        inputs, scalars = _loss(logits, labels, offsets, weight, ignore_index)
        kind = np.float64 if logits.dtype == torch.float64 else np.float32
        outputs = {"loss": Output((len(logits),), kind), "stats": Output((len(logits), 2), kind)}
        return self.run("class_softmax_loss", inputs, outputs, **scalars)

    def class_softmax_loss_in_parts(self, logits: torch.Tensor, labels, offsets, cuts: list[int]):
        """(loss, stats) of rows that come as columns [0, cuts[0]), [cuts[0], cuts[1]), ..."""
        kind = np.float64 if logits.dtype == torch.float64 else np.float32
        outputs = {"carry": Output((len(logits), 3), np.float64), "loss": Output((len(logits),), kind)}
        outputs["stats"] = Output((len(logits), 2), kind)
        carry = None
        for first, last in zip([0, *cuts], [*cuts, logits.shape[1]], strict=True):
            part = logits[:, first:last].contiguous()
            inputs, scalars = _loss(part, labels, offsets, 0.0, -100, (first, logits.shape[1]))
            inputs["carry_before"] = carry
            carry, loss, stats = self.run("class_softmax_loss", inputs, outputs, **scalars)
        return loss, stats

    def class_softmax_loss_backward(
        self, grad_loss, stats, logits: torch.Tensor, labels, offsets, weight=0.0, ignore_index=-100,
        inplace=False, columns=None,
    ) -> torch.Tensor:  # fmt: skip
        inputs, scalars = _loss(logits, labels, offsets, weight, ignore_index, columns)
        scalars["inplace"] = inplace
        shape = (*logits.shape, logits.element_size())
        grad = self.run(
            "class_softmax_loss_backward", {**inputs, "stats": stats, "grad_loss": grad_loss},
            {"grad_logits": Output(shape, np.uint8)}, **scalars,
        )[0]  # fmt: skip
        return _as_gradient(grad, logits)

    def class_softmax_loss_and_gradient(
        self, logits: torch.Tensor, labels, offsets, weight=0.0, n_kept: int | None = None, inplace=False
    ):
        """(loss, stats) as numpy, and the gradient of the sum, or over n_kept."""
        inputs, scalars = _loss(logits, labels, offsets, weight, -100)
        inputs["n_kept"] = None if n_kept is None else np.array([n_kept])
        kind = np.float64 if logits.dtype == torch.float64 else np.float32
        outputs = {"loss": Output((len(logits),), kind), "stats": Output((len(logits), 2), kind)}
        outputs["grad_logits"] = Output((*logits.shape, logits.element_size()), np.uint8)
        loss, stats, grad = self.run(
            "class_softmax_loss_and_gradient", inputs, outputs, **scalars, inplace=inplace
        )
        return loss, stats, _as_gradient(grad, logits)

    def class_softmax_loss_rescale(
        self, before: torch.Tensor, grad_loss, stats, logits, labels, offsets, weight=0.0, n_kept=None
    ) -> torch.Tensor:
        """`before`, the gradient that is there already, times grad_loss (1,)."""
        inputs, scalars = _loss(logits, labels, offsets, weight, -100)
        inputs |= {"stats": stats, "grad_loss": grad_loss, "before": before}
        inputs["n_kept"] = None if n_kept is None else np.array([n_kept])
        outputs = {"grad_logits": Output((*logits.shape, logits.element_size()), np.uint8)}
        return _as_gradient(self.run("class_softmax_loss_rescale", inputs, outputs, **scalars)[0], logits)

    # ---- codes from logits ----

    def codes_from_logits(
        self, logits: torch.Tensor, codebook: np.ndarray, k: int, weighting: str = "mean", subclasses=None
    ):
        n, n_subclasses = logits.shape
        n_bytes = codebook.shape[1]
        return self.run(
            "codes_from_logits", {"logits": logits, "codebook": codebook, "subclasses": subclasses},
            {"codes": Output((n, n_bytes), np.uint8)}, n=n, n_subclasses=n_subclasses, n_bytes=n_bytes, k=k,
            dtype=DTYPE_CODES[logits.dtype], weighting=WEIGHTINGS.index(weighting),
        )[0]  # fmt: skip

    def top_subclasses(self, logits: torch.Tensor, k: int) -> np.ndarray:
        n, n_subclasses = logits.shape
        return self.run(
            "top_subclasses", {"logits": logits}, {"top": Output((n, k), np.int64)}, n=n,
            n_subclasses=n_subclasses, k=k, dtype=DTYPE_CODES[logits.dtype],
        )[0]  # fmt: skip

    def center_codes_from_logits(self, logits: torch.Tensor, offsets, centers: np.ndarray) -> np.ndarray:
        n, n_subclasses = logits.shape
        n_classes, n_bytes = centers.shape
        return self.run(
            "center_codes_from_logits",
            {"logits": logits, "class_offsets": np.asarray(offsets, np.int64), "centers": centers},
            {"codes": Output((n, n_bytes), np.uint8)}, n=n, n_subclasses=n_subclasses, n_classes=n_classes,
            n_bytes=n_bytes, dtype=DTYPE_CODES[logits.dtype],
        )[0]  # fmt: skip

    def multilabel_codes(self, logits: torch.Tensor, threshold=0.0) -> np.ndarray:
        n, n_bits = logits.shape
        thresholds = np.broadcast_to(np.asarray(threshold, np.float64), (n_bits,))
        return self.run(
            "multilabel_codes", {"logits": logits, "thresholds": thresholds},
            {"codes": Output((n, (n_bits + 7) // 8), np.uint8)}, n=n, n_bits=n_bits,
            dtype=DTYPE_CODES[logits.dtype],
        )[0]  # fmt: skip


def _pairs(queries, database, score: str, allowed) -> tuple[dict[str, Any], dict[str, Any]]:
    if allowed is not None and allowed.dtype == np.bool_:
        allowed = np.packbits(allowed, axis=-1, bitorder="little")
    stride = allowed.shape[1] if allowed is not None and allowed.ndim == 2 else 0
    scalars = {
        "n_query": len(queries), "n_db": len(database), "n_bytes": queries.shape[1],
        "score": SCORES.index(score), "allowed_stride": stride,
    }  # fmt: skip
    return {"queries": queries, "database": database, "allowed": allowed}, scalars


def _labelled(queries, database, query_labels, database_labels, score, allowed):
    inputs, scalars = _pairs(queries, database, score, allowed)
    scalars["n_words"] = 0
    if query_labels.ndim == 1:
        kind = np.int64 if np.int64 in (query_labels.dtype, database_labels.dtype) else np.int32
        names = ("query_wide_ids", "database_wide_ids") if kind == np.int64 else ("query_ids", "database_ids")
        inputs |= dict(zip(names, (query_labels.astype(kind), database_labels.astype(kind)), strict=True))
    else:
        words = [_words(query_labels), _words(database_labels)]
        inputs |= {"query_words": words[0], "database_words": words[1]}
        scalars["n_words"] = words[0].shape[1]
    return inputs, scalars


def _words(labels: np.ndarray) -> np.ndarray:
    bits = np.zeros((len(labels), -(-labels.shape[1] // 64) * 64), np.bool_)
    bits[:, : labels.shape[1]] = labels != 0
    return np.packbits(bits, axis=1, bitorder="little").view(np.uint64)


def _as_gradient(grad: np.ndarray, logits: torch.Tensor) -> torch.Tensor:
    if grad.size == 0:
        return torch.empty_like(logits)
    return torch.from_numpy(grad.copy()).view(logits.dtype).reshape(logits.shape)


def _loss(logits: torch.Tensor, labels, offsets, weight: float, ignore_index: int, columns=None):
    first_column, n_subclasses = columns or (0, logits.shape[1])
    scalars = {
        "n": logits.shape[0], "n_subclasses": n_subclasses, "n_classes": len(offsets) - 1,
        "dtype": DTYPE_CODES[logits.dtype], "weight": float(weight), "ignore_index": ignore_index,
        "first_column": first_column, "n_columns": logits.shape[1],
    }  # fmt: skip
    inputs = {
        "logits": logits,
        "labels": np.asarray(labels, np.int64),
        "class_offsets": np.asarray(offsets, np.int64),
    }
    return inputs, scalars
