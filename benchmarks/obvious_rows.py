"""What a user would type instead of an op of the core, in numpy, torch or faiss: the candidates of obvious.py.

A row names an op and a size, and has our call, the alternatives, and what makes their answers comparable. What a user
makes once (an index, vectors of -1 and 1) is made outside the timing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from bench_asymmetric_topk import peers as asymmetric_peers
from code_sets import code_set
from peers import faiss, faiss_index, searches, words_of
from torch.nn import functional
from usual_map import usual_mean_average_precision

import dshc_fast


class Row(NamedTuple):
    op: str
    size: str
    ours: Callable[[], Any]
    others: dict[str, Callable[[], Any]]
    same: Callable[[Any, Any], bool] = lambda a, b: np.array_equal(np.asarray(a), np.asarray(b))


def rows() -> Iterator[Row]:
    yield from _of_codes()
    yield from _distances()
    yield from _searches()
    yield from _asymmetric()
    yield from _rankings()
    yield from _metrics()
    yield from _losses()
    yield from _readings()


def _of_codes() -> Iterator[Row]:
    rng = np.random.default_rng(0)
    for n, n_bits in ((2_000, 64), (100_000, 64), (50_000, 256), (10_000, 1024)):
        values = rng.standard_normal((n, n_bits), dtype=np.float32)
        codes, size = dshc_fast.pack_codes(values), f"{n:,} x {n_bits} bits"
        yield Row("pack_codes", size, lambda x=values: dshc_fast.pack_codes(x),
                  {"np.packbits(x > 0)": lambda x=values: np.packbits(x > 0, axis=1, bitorder="little")})  # fmt: skip
        yield Row("multilabel_codes", size, lambda x=values: dshc_fast.multilabel_codes(x),
                  {"np.packbits(x > 0)": lambda x=values: np.packbits(x > 0, axis=1, bitorder="little")})  # fmt: skip
        yield Row("unpack_codes", size, lambda c=codes, b=n_bits: dshc_fast.unpack_codes(c, b),
                  {"np.unpackbits": lambda c=codes: np.unpackbits(c, axis=1, bitorder="little")})  # fmt: skip
        if (n, n_bits) == (100_000, 64):
            for dtype in (bool, np.int8, np.int64, np.float16, np.float64):
                other = (values > 0).astype(dtype) if dtype is bool else values.astype(dtype)
                yield Row("pack_codes", f"{size}, {np.dtype(dtype).name}",
                          lambda x=other: dshc_fast.pack_codes(x),
                          {"np.packbits(x > 0)":
                           lambda x=other: np.packbits(x > 0, axis=1, bitorder="little")})  # fmt: skip
        table = np.packbits(
            np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1), axis=1, bitorder="little"
        )
        yield Row("reverse_bit_order", size, lambda c=codes: dshc_fast.reverse_bit_order(c),
                  {"table[codes]": lambda c=codes, t=table[:, 0]: t[c]})  # fmt: skip


def _numpy_distances(queries: np.ndarray, database: np.ndarray) -> np.ndarray:
    query_words, words = words_of(queries), words_of(database)
    total = np.bitwise_count(query_words[:, None, 0] ^ words[None, :, 0]).astype(np.int32)
    for w in range(1, words.shape[1]):
        total += np.bitwise_count(query_words[:, None, w] ^ words[None, :, w])
    return total


def _faiss_distances(queries: np.ndarray, database: np.ndarray) -> np.ndarray:
    out = np.empty((len(queries), len(database)), np.int32)
    faiss.hammings(*map(faiss.swig_ptr, (queries, database)), len(queries), len(database), queries.shape[1],
                   faiss.swig_ptr(out))  # fmt: skip
    return out


def _distances() -> Iterator[Row]:
    for n_query, n_db, n_bits in (
        (10, 10_000, 64),
        (100, 100_000, 64),
        (100, 20_000, 256),
        (100, 10_000, 1024),
    ):
        codes = code_set("random", n_bits, n_query, n_db)
        pair = codes.queries, codes.database
        yield Row("hamming_distance", f"{n_query} x {n_db:,}, {n_bits} bits",
                  lambda p=pair: dshc_fast.hamming_distance(*p),
                  {"faiss.hammings": lambda p=pair: _faiss_distances(*p),
                   "np.bitwise_count": lambda p=pair: _numpy_distances(*p)})  # fmt: skip


def _searches() -> Iterator[Row]:
    for n_bits in (32, 64, 96, 128, 160, 256, 512, 1024):
        n_large = 1_000_000 if n_bits <= 256 else 200_000
        for n_query, n_db in ((1, 100_000), (1, n_large), (100, 10_000), (100, n_large)):
            codes = code_set("random", n_bits, n_query, n_db)
            size = f"{n_query} x {n_db:,}, {n_bits} bits"
            found = searches(("faiss heap", "faiss counting"), codes.queries, codes.database, 1)
            yield Row("hamming_topk", f"{size}, k 10",
                      lambda c=codes: dshc_fast.hamming_topk(c.queries, c.database, 10).distances,
                      {name: lambda run=run: run(10) for name, run in found.items()})  # fmt: skip
            nearest = dshc_fast.hamming_topk(codes.queries, codes.database, 20).distances
            radius, index = int(np.median(nearest[:, -1])), faiss_index(codes.database)
            yield Row("hamming_radius", f"{size}, radius {radius}",
                      lambda c=codes, r=radius: dshc_fast.hamming_radius(c.queries, c.database, r),
                      {"faiss range_search": lambda c=codes, i=index, r=radius: i.range_search(c.queries, r + 1)},
                      lambda ours, theirs: np.array_equal(ours.offsets, theirs[0]))  # fmt: skip
    codes = code_set("random", 64, 100, 200_000)
    masks = np.random.default_rng(1).random((100, 200_000)) < 0.5
    packed = np.packbits(masks, axis=1, bitorder="little")
    found = searches(("faiss heap", "faiss counting"), codes.queries, codes.database, 1, masks)
    yield Row("hamming_topk", "100 x 200,000, 64 bits, k 10, a mask for each query",
              lambda: dshc_fast.hamming_topk(codes.queries, codes.database, 10, allowed=packed).distances,
              {name: lambda run=run: run(10) for name, run in found.items()})  # fmt: skip


def _asymmetric() -> Iterator[Row]:
    for n_query, n_db in ((1, 100_000), (1, 1_000_000), (100, 100_000)):
        codes = code_set("random", 64, n_query, n_db)
        outputs = np.random.default_rng(2).standard_normal((n_query, 64), dtype=np.float32)
        # IndexPQFastScan rounds its tables to 8 bits.
        yield Row("asymmetric_topk", f"{n_query} x {n_db:,}, 64 bits, k 10",
                  lambda x=outputs, c=codes: dshc_fast.asymmetric_topk(x, c.database, 10).distances,
                  {name: lambda run=run: run().distances
                   for name, run in asymmetric_peers(outputs, codes.database, 10).items()},
                  lambda a, b: np.allclose(a, b, rtol=0, atol=1))  # fmt: skip


def _rankings() -> Iterator[Row]:
    for n_query, n_db, n_bits in ((10, 10_000, 64), (1, 1_000_000, 64), (10, 100_000, 256)):
        codes = code_set("random", n_bits, n_query, n_db)

        def sort(c: Any = codes) -> np.ndarray:
            distances = _numpy_distances(c.queries, c.database)
            return np.argsort(distances.astype(np.uint16), axis=1, kind="stable")

        yield Row("hamming_topk", f"{n_query} x {n_db:,}, {n_bits} bits, k = n",
                  lambda c=codes, k=n_db: dshc_fast.hamming_topk(c.queries, c.database, k).indices,
                  {"np.bitwise_count, stable argsort": sort})  # fmt: skip


def _usual_ndcg(
    queries: np.ndarray, database: np.ndarray, query_labels: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    discounts = 1 / np.log2(np.arange(len(database)) + 2)
    ideal = np.cumsum(discounts)
    order = np.argsort(_numpy_distances(queries, database).astype(np.uint16), axis=1, kind="stable")
    relevant = labels[order] == query_labels[:, None]
    return (relevant * discounts).sum(axis=1) / ideal[relevant.sum(axis=1) - 1]


def _usual_histogram(
    queries: np.ndarray, database: np.ndarray, query_labels: np.ndarray, labels: np.ndarray
) -> list:
    distances, n_values = _numpy_distances(queries, database), 8 * queries.shape[1] + 1
    relevant = labels[None] == query_labels[:, None]
    counts = [np.bincount(row, minlength=n_values) for row in distances]
    hits = [np.bincount(row[hit], minlength=n_values) for row, hit in zip(distances, relevant, strict=True)]
    return [np.array(counts), np.array(hits)]


def _metrics() -> Iterator[Row]:
    for n_query, n_db, n_bits in ((10, 10_000, 64), (100, 50_000, 64), (100, 50_000, 256)):
        codes = code_set("clustered", n_bits, n_query, n_db)
        inputs = codes.queries, codes.database, codes.query_labels, codes.database_labels
        signs = [dshc_fast.unpack_codes(part, n_bits, signed=True).astype(np.float32) for part in inputs[:2]]
        size = f"{n_query} x {n_db:,}, {n_bits} bits"
        yield Row("hamming_histogram", size, lambda x=inputs: list(dshc_fast.hamming_histogram(*x)),
                  {"np.bitwise_count, bincount": lambda x=inputs: _usual_histogram(*x)})  # fmt: skip
        yield Row("mean_average_precision", f"{size}, ties by index",
                  lambda x=inputs: dshc_fast.mean_average_precision(*x, ties="index"),
                  {"product, stable argsort":
                   lambda s=signs, x=inputs: usual_mean_average_precision(*s, *x[2:], None, "stable")},
                  np.isclose)  # fmt: skip
        for ties in ("index", "expected"):
            yield Row("retrieval_metric", f"{size}, nDCG, ties {ties}",
                      lambda x=inputs, t=ties: dshc_fast.ndcg(*x, ties=t),
                      {"np.bitwise_count, stable argsort": lambda x=inputs: _usual_ndcg(*x)},
                      np.allclose if ties == "index" else lambda *_: True)  # fmt: skip


def _losses() -> Iterator[Row]:
    generator = torch.Generator().manual_seed(0)
    for n, m in ((128, 310), (2_048, 310), (256, 30_100)):
        offsets = torch.arange(0, m + 1, m // 10)
        labels = torch.randint(10, (n,), generator=generator)
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
            logits = torch.randn((n, m), generator=generator).to(dtype).requires_grad_()

            def step(loss: Callable[..., torch.Tensor], x: torch.Tensor = logits) -> torch.Tensor:
                return torch.autograd.grad(loss(x), x)[0]

            yield Row("class_softmax_loss", f"{n:,} x {m:,}, {str(dtype)[6:]}, forward and backward",
                      lambda s=step, y=labels, o=offsets: s(lambda x: dshc_fast.class_softmax_loss(x, y, o)),
                      {"cross_entropy of one label":
                       lambda s=step, y=labels: s(lambda x: functional.cross_entropy(x, y))},
                      lambda *_: True)  # fmt: skip
    for n, m, width in ((128, 3_100, 256), (256, 30_100, 256)):
        offsets, labels = torch.arange(0, m + 1, m // 10), torch.randint(10, (n,), generator=generator)
        features = torch.randn((n, width), generator=generator).requires_grad_()
        weight = torch.randn((m, width), generator=generator).mul_(0.1).requires_grad_()

        def both(loss: torch.Tensor, of: Any = (features, weight)) -> tuple[torch.Tensor, ...]:
            return torch.autograd.grad(loss, of)

        others = {"linear, cross_entropy of one label":
                  lambda b=both, f=features, w=weight, y=labels: b(functional.cross_entropy(f @ w.T, y))}  # fmt: skip
        if hasattr(functional, "linear_cross_entropy"):
            others["linear_cross_entropy of one label"] = lambda b=both, f=features, w=weight, y=labels: b(
                functional.linear_cross_entropy(f, w, y)
            )
        yield Row("class_softmax_linear_loss", f"{n:,} x {width} features x {m:,}, forward and backward",
                  lambda b=both, f=features, w=weight, y=labels, o=offsets: b(
                      dshc_fast.class_softmax_linear_loss(f, w, None, y, o)), others, lambda *_: True)  # fmt: skip


def _readings() -> Iterator[Row]:
    generator = torch.Generator().manual_seed(0)
    places = (1 << torch.arange(8)).to(torch.uint8)

    def packed(mean: torch.Tensor) -> torch.Tensor:
        return ((mean > 0).view(len(mean), -1, 8) * places).sum(dim=2, dtype=torch.uint8)

    for n, m in ((256, 310), (4_096, 310), (512, 30_100)):
        logits = torch.randn((n, m), generator=generator)
        codebook = torch.randint(0, 256, (m, 8), dtype=torch.uint8, generator=generator)
        signs = dshc_fast.unpack_codes(codebook, 64, signed=True).float()
        for k in (1, 5):
            yield Row("codes_from_logits", f"{n:,} x {m:,}, 64 bits, k {k}",
                      lambda x=logits, c=codebook, k=k: dshc_fast.codes_from_logits(x, c, k),
                      {"topk, gather, mean": lambda x=logits, s=signs, k=k: packed(
                          s[x.topk(k, dim=1).indices].mean(dim=1))})  # fmt: skip
        yield Row("codes_from_logits", f"{n:,} x {m:,}, 64 bits, all by probability",
                  lambda x=logits, c=codebook, m=m: dshc_fast.codes_from_logits(x, c, m, weighting="probability"),
                  {"soft-max, product": lambda x=logits, s=signs: packed(x.softmax(dim=1) @ s)},
                  lambda a, b: (a == b).float().mean() > 0.999)  # fmt: skip  # sums near 0 round
        centers, offsets = codebook[:10].contiguous(), torch.arange(0, m + 1, m // 10)
        yield Row("center_codes_from_logits", f"{n:,} x {m:,}, 64 bits",
                  lambda x=logits, o=offsets, c=centers: dshc_fast.center_codes_from_logits(x, o, c),
                  {"logsumexp, argmax":
                   lambda x=logits, c=centers: c[x.view(len(x), 10, -1).logsumexp(2).argmax(1)]})  # fmt: skip
