"""Real-valued outputs against packed codes: ours against faiss, numpy and torch.

    python benchmarks/bench_asymmetric_topk.py [--quick | --full] [--only SECTION] [--dry]

The sum of |u| over differing bits is half of what the inner product of u with +1 and -1 falls short of the sum of |u|,
so that a product of matrices and an index for inner products rank alike. faiss: IndexPQ with the corners of a cube as
centroids, whose codes are ours, and IndexPQFastScan likewise, whose tables have 8 bits. Distances are compared before
anything is timed, to rounding; of IndexPQFastScan the share of our answers is printed. Result:
docs/results/bench_asymmetric_topk.json.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import faiss
import numpy as np
import rows
import torch
from code_sets import code_set
from limits import Limits
from peers import set_threads

import dshc_fast

# codes, bits, queries, database, k, threads, level
QUICK = (
    ("random", 64, 100, 1_000_000, 10, 1, "best"),
    ("random", 64, 1, 1_000_000, 10, 1, "best"),
)
DEFAULT = (
    *QUICK,
    ("clustered", 64, 100, 1_000_000, 10, 1, "best"),
    ("random", 64, 100, 1_000_000, 100, 1, "best"),
    ("random", 64, 100, 1_000_000, 1000, 1, "best"),
    ("random", 64, 100, 1_000_000, 10, 2, "best"),
    ("random", 64, 1, 1_000_000, 10, 2, "best"),
    ("random", 32, 100, 1_000_000, 10, 1, "best"),
    ("random", 128, 100, 1_000_000, 10, 1, "best"),
    ("random", 256, 100, 1_000_000, 10, 1, "best"),
    ("random", 64, 100, 1_000_000, 10, 1, "avx2"),
    ("random", 64, 8, 1_000_000, 10, 1, "generic"),
)
FULL = (
    *DEFAULT,
    ("random", 64, 32, 10_000_000, 10, 1, "best"),
    ("random", 64, 32, 10_000_000, 10, 2, "best"),
)


class Answer(NamedTuple):
    distances: np.ndarray
    indices: np.ndarray


def corners(bits: int) -> np.ndarray:
    """The 2^bits corners of a cube, -1 and +1, bit 0 first."""
    numbers = np.arange(1 << bits)[:, None]
    return (2 * (numbers >> np.arange(bits) & 1) - 1).astype(np.float32)


def faiss_indexes(database: np.ndarray) -> dict[str, faiss.Index]:
    """Product quantizers that quantize +1 and -1 exactly: their codes are ours."""
    n_bytes = database.shape[1]
    whole = faiss.IndexPQ(8 * n_bytes, n_bytes, 8, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(np.tile(corners(8), (n_bytes, 1)).ravel(), whole.pq.centroids)
    whole.is_trained = True
    whole.add_sa_codes(np.ascontiguousarray(database))
    fast = faiss.IndexPQFastScan(8 * n_bytes, 2 * n_bytes, 4, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(np.tile(corners(4), (2 * n_bytes, 1)).ravel(), fast.pq.centroids)
    fast.is_trained = True
    for first in range(0, len(database), 1 << 18):
        part = np.ascontiguousarray(database[first : first + (1 << 18)])
        fast.add(dshc_fast.unpack_codes(part, 8 * n_bytes, signed=True).astype(np.float32))
    return {"faiss IndexPQ": whole, "faiss IndexPQFastScan": fast}


def peers(outputs: np.ndarray, database: np.ndarray, k: int) -> dict[str, Callable[[], Answer]]:
    """Each by inner products, largest first; what is made of the database once is outside the timing."""
    total = np.abs(outputs).sum(1, keepdims=True)
    signs = dshc_fast.unpack_codes(database, outputs.shape[1], signed=True).astype(np.float32)
    of_torch, signs_of_torch = torch.from_numpy(outputs), torch.from_numpy(signs)

    def by_numpy() -> Answer:
        found = np.empty((len(outputs), k), np.float32), np.empty((len(outputs), k), np.int64)
        for i, products in enumerate(outputs @ signs.T):
            best = np.argpartition(-products, k - 1)[:k]
            found[1][i] = best[np.argsort(-products[best])]
            found[0][i] = products[found[1][i]]
        return Answer((total - found[0]) / 2, found[1])

    def by_torch() -> Answer:
        products, indices = torch.topk(of_torch @ signs_of_torch.T, k, dim=1)
        return Answer((total - products.numpy()) / 2, indices.numpy())

    def by_index(index: faiss.Index) -> Answer:
        products, indices = index.search(outputs, k)
        return Answer((total - products) / 2, indices)

    made: dict[str, Callable[[], Answer]] = {"numpy": by_numpy, "torch": by_torch}
    for name, index in faiss_indexes(database).items():
        made[name] = lambda index=index: by_index(index)
    return made


def compare(ours: Answer, theirs: Answer, name: str, n_bits: int) -> str | None:
    """Ends the benchmark where distances differ beyond rounding; says what tables of 8 bits miss of our answers."""
    if name == "faiss IndexPQFastScan":
        found = [
            len(np.intersect1d(*pair)) / len(pair[0])
            for pair in zip(ours.indices, theirs.indices, strict=True)
        ]
        return f"{name} has {np.mean(found):.4f} of our answers"
    if not np.allclose(ours.distances, theirs.distances, rtol=0, atol=1e-5 * n_bits):
        raise SystemExit(f"{name}: the answers differ; nothing was timed")
    return None


def main() -> None:
    effort = rows.parse(__doc__)
    table = rows.Table("bench_asymmetric_topk", "top-k of real-valued outputs", Limits(), effort)
    for codes, bits, n_query, n_db, k, threads, level in (
        QUICK if effort.quick else FULL if effort.full else DEFAULT
    ):
        if effort.only not in codes or (level != "best" and level not in table.limits.levels):
            continue
        data = code_set(codes, bits, n_query, n_db)
        outputs = np.random.default_rng(1).standard_normal((n_query, bits)).astype(np.float32)
        outputs = np.where(dshc_fast.unpack_codes(data.queries, bits) != 0, abs(outputs), -abs(outputs))
        set_threads(threads)
        rows.set_level(level)

        def ours(outputs=outputs, database=data.database, k=k) -> dshc_fast.AsymmetricTopK:
            return dshc_fast.asymmetric_topk(outputs, database, k)

        candidates: dict[str, Callable[[], object]] = {rows.OURS: ours}
        notes = []
        for name, search in peers(outputs, data.database, k).items():
            notes.append(compare(Answer(*ours()), search(), name, bits))
            candidates[name] = search
        candidates["hamming_topk"] = lambda data=data, k=k: dshc_fast.hamming_topk(
            data.queries, data.database, k
        )
        setting = {"codes": codes, "bits": bits, "n_db": n_db, "n_query": n_query, "k": k, "threads": threads,
                   "level": level}  # fmt: skip
        note = f"{codes}, {bits} bits, {n_query} x {n_db:,}, k {k}: {'; '.join(filter(None, notes))}."
        row = table.measure("asymmetric", setting, candidates, amount=float(n_query * n_db), note=note)
        print(
            f"  {row['note']}; ratios",
            {name: round(ratio, 2) for name, ratio in row["ratios"].items()},
            flush=True,
        )
    rows.set_level("best")
    table.save()


if __name__ == "__main__":
    main()
