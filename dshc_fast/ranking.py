"""Exact ranking of packed codes: Hamming distances, top-k, radius search; top-k of real-valued outputs."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, overload

import torch

from . import _checks as checks
from . import _direct
from ._arrays import Array, Kind, answer, as_tensor
from .database import HammingDatabase, as_database


class HammingTopK(NamedTuple, Generic[Kind]):
    """Answers of `hamming_topk`: `distances` int32 and `indices` int64, (n_query, k)."""

    distances: Kind
    indices: Kind


class AsymmetricTopK(NamedTuple, Generic[Kind]):
    """Answers of `asymmetric_topk`: `distances` float32 and `indices` int64, (n_query, k)."""

    distances: Kind
    indices: Kind


class HammingRadius(NamedTuple, Generic[Kind]):
    """Answers of `hamming_radius` and `hamming_pairs`: query (item) q has `indices[offsets[q]:offsets[q + 1]]`, and the
    same part of `distances`."""

    offsets: Kind
    indices: Kind
    distances: Kind


def as_allowed(allowed: object) -> torch.Tensor | None:
    return None if allowed is None else as_tensor(allowed, "allowed")


def hamming_distance(queries: Kind, database: Array | HammingDatabase, *, score: str = "hamming") -> Kind:
    """The full matrix of distances. `hamming_topk` and the metrics need no such matrix.

    Args:
        queries: uint8 (n_query, bytes).
        database: uint8 (n_db, bytes), at least one row; or a `HammingDatabase`.
        score: "hamming" (XOR count), or "overlap" (AND count; DSHC multi-label, Luo et al., section 3.1).

    Returns:
        int32 (n_query, n_db).

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> dshc_fast.hamming_distance(np.array([[3]], dtype=np.uint8), np.array([[1], [7]], dtype=np.uint8))
        array([[1, 1]], dtype=int32)
    """
    checks.check_score(score)
    queries_tensor, (codes, prepared) = as_tensor(queries, "queries"), as_database(database)
    counts = _direct.run("hamming_distance", queries_tensor, codes, score, prepared)
    return answer(counts, queries)


def hamming_topk(
    queries: Kind,
    database: Array | HammingDatabase,
    k: int,
    *,
    score: str = "hamming",
    allowed: Array | None = None,
) -> HammingTopK[Kind]:
    """The k best database items of each query, exact, sorted by (distance, index).

    The answer is the same on every device, instruction set and number of threads, and the answer for k is a
    prefix of that for a larger k. No matrix of size queries x database is built.

    Args:
        queries: uint8 (n_query, bytes), 1 to 512 bytes.
        database: uint8 (n_db, bytes), at least one row; or a `HammingDatabase`.
        k: 1 to n_db.
        score: "hamming": XOR count, smallest first. "overlap": AND count, largest first.
        allowed: which items may be answered: bool (n_db,) or (n_query, n_db), or the same packed along its
            last axis as uint8, little-endian.

    Returns:
        Named tuple (`distances` int32, `indices` int64), each (n_query, k). With "overlap" `distances` holds
        the overlap count. Where fewer than k items are allowed, the rest has index -1 and distance 2^31 - 1
        (overlap: -1).

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> database = np.array([[0], [1], [3], [1]], dtype=np.uint8)
        >>> dshc_fast.hamming_topk(np.array([[1]], dtype=np.uint8), database, 3)
        HammingTopK(distances=array([[0, 0, 1]], dtype=int32), indices=array([[1, 3, 0]]))
    """
    checks.check_score(score)
    k = checks.as_int(k, "k")
    queries_tensor, (codes, prepared) = as_tensor(queries, "queries"), as_database(database)
    distances, indices = _direct.run(
        "hamming_topk", queries_tensor, codes, k, score, as_allowed(allowed), prepared
    )
    return HammingTopK(answer(distances, queries), answer(indices, queries))


def asymmetric_topk(
    outputs: Kind,
    database: Array | HammingDatabase,
    k: int,
    *,
    allowed: Array | None = None,
    check: bool | None = None,
) -> AsymmetricTopK[Kind]:
    """The k database codes nearest to each query's real-valued outputs, sorted by (distance, index).

    A query's code forgets how sure each of its bits is; its outputs are at hand and say so. The distance of an item is
    the sum of the outputs' magnitudes over the bits in which its code differs from their signs (bit set: output > 0, as
    `pack_codes` has it): half of what their inner product with the code's +1 and -1 falls short of its largest value.
    The database stays packed. On distances between real-valued queries and binary codes: Gordo, Perronnin, Gong,
    Lazebnik, *Asymmetric Distances for Binary Embeddings*, PAMI 2014.

    The answer is the same to the bit on every device, instruction set and number of threads: distances are float32, and
    their sums have one order. With w_j = abs(output j) where bit j differs and else 0, a byte of the code is
    ((w_0 + w_1) + (w_2 + w_3)) + ((w_4 + w_5) + (w_6 + w_7)), and bytes are added one after the other, from the first.

    Args:
        outputs: float32, float64, float16 or bfloat16 (n_query, n_bits), 1 to 4096 bits; float64 is rounded to float32
            first. Infinities are weights like any other.
        database: uint8 (n_db, bytes) with bytes = ceil(n_bits / 8), at least one row; or a `HammingDatabase`. Padding
            bits count for nothing, set or not.
        k: 1 to n_db.
        allowed: as in `hamming_topk`.
        check: whether outputs are looked at for NaN, which raises. None: on the CPU, not on CUDA. Unchecked, a NaN
            weighs nothing.

    Returns:
        Named tuple (`distances` float32, `indices` int64), each (n_query, k). Where fewer than k items are allowed, the
        rest has index -1 and distance +inf.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> database = np.array([[0], [1], [2], [3]], dtype=np.uint8)
        >>> dshc_fast.asymmetric_topk(np.array([[0.5, -2.0]], dtype=np.float32), database, 3)
        AsymmetricTopK(distances=array([[0. , 0.5, 2. ]], dtype=float32), indices=array([[1, 0, 3]]))
    """
    k = checks.as_int(k, "k")
    checks.check_flag(check, "check")
    outputs_tensor, (codes, prepared) = as_tensor(outputs, "outputs"), as_database(database)
    distances, indices = _direct.run(
        "asymmetric_topk", outputs_tensor, codes, k, as_allowed(allowed), check, prepared
    )
    return AsymmetricTopK(answer(distances, outputs), answer(indices, outputs))


def hamming_radius(
    queries: Kind,
    database: Array | HammingDatabase,
    radius: int,
    *,
    score: str = "hamming",
    allowed: Array | None = None,
) -> HammingRadius[Kind]:
    """All database items within a radius of each query, ordered like top-k.

    It must learn the size of its answer, so it synchronises once on a GPU.

    Args:
        queries: uint8 (n_query, bytes).
        database: uint8 (n_db, bytes), at least one row; or a `HammingDatabase`.
        radius: an integer >= 0, in bits. "hamming": distance <= radius. "overlap": overlap >= radius.
        score, allowed: as in `hamming_topk`.

    Returns:
        Named tuple (`offsets` int64 (n_query + 1,), `indices` int64, `distances` int32).

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> database = np.array([[0], [6], [1]], dtype=np.uint8)
        >>> found = dshc_fast.hamming_radius(database[2:], database, 1)
        >>> found.indices, found.distances
        (array([2, 0]), array([0, 1], dtype=int32))
    """
    checks.check_score(score)
    radius = checks.as_int(radius, "radius")
    queries_tensor, (codes, prepared) = as_tensor(queries, "queries"), as_database(database)
    found = _direct.run("hamming_radius", queries_tensor, codes, radius, score, as_allowed(allowed), prepared)
    return HammingRadius(*(answer(tensor, queries) for tensor in found))


@overload
def hamming_pairs(codes: Kind, radius: int) -> HammingRadius[Kind]: ...


@overload
def hamming_pairs(codes: HammingDatabase, radius: int) -> HammingRadius[Any]: ...


def hamming_pairs(codes: Array | HammingDatabase, radius: int) -> HammingRadius[Any]:
    """All pairs of items within a radius of each other, each pair once: near-duplicates, a self-join.

    Item i is answered with the items j > i at a distance of at most `radius`, sorted by (distance, j): what
    `hamming_radius` of the codes among themselves finds, less each item itself and the second half of each pair. Memory
    grows with the codes and the answer, not with the square of their number.

    On the CPU codes are cut into radius + 1 parts, of which two codes within the radius have one in common (the
    pigeonhole principle; Norouzi, Punjani, Fleet, *Fast Exact Search in Hamming Space with Multi-Index Hashing*, 2014),
    and only items with a part in common are compared, where they are few enough; else all are. It must learn the size
    of its answer, so it synchronises once on a GPU.

    Args:
        codes: uint8 (n, bytes), 1 to 512 bytes; or a `HammingDatabase`.
        radius: an integer >= 0, in bits. More than there are bits: all pairs.

    Returns:
        Named tuple (`offsets` int64 (n + 1,), `indices` int64, `distances` int32): item i has
        `indices[offsets[i]:offsets[i + 1]]`, and the same part of `distances`.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.
        MemoryError: the answer does not fit in memory; it is said how large it is.

    Example:
        >>> import numpy as np, dshc_fast
        >>> codes = np.array([[0], [6], [1], [7]], dtype=np.uint8)
        >>> dshc_fast.hamming_pairs(codes, 1)
        HammingRadius(offsets=array([0, 1, 2, 2, 2]), indices=array([2, 3]), distances=array([1, 1], dtype=int32))
    """
    radius = checks.as_int(radius, "radius")
    like: Any = codes
    if isinstance(codes, HammingDatabase):
        like, found = codes.codes, torch.ops.dshc_fast.hamming_pairs(codes._codes, radius, codes._tensors)
    else:
        found = torch.ops.dshc_fast.hamming_pairs(as_tensor(codes, "codes"), radius)
    return HammingRadius(*(answer(tensor, like) for tensor in found))
