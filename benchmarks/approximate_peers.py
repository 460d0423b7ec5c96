"""The indexes that bench_approximate_indexes.py measures: how each is built, its settings, and its search.

A peer is built once; a setting of it is a text for the table and a function (queries, k) that returns distances, of
each query ascending, with a large one where nothing was found.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from peers import faiss

Search = Callable[[np.ndarray, int], np.ndarray]


class Peer(NamedTuple):
    build: Callable[[np.ndarray], object]
    settings: Callable[[object], dict[str, Search]]
    most: int  # items of the largest set that it is measured on
    threads: int = 1  # that build


def _of_faiss(index: faiss.IndexBinary, set_value: Callable[[int], None], value: int) -> Search:
    def search(queries: np.ndarray, k: int) -> np.ndarray:
        set_value(value)
        return index.search(queries, k)[0]

    return search


def _hnsw(database: np.ndarray) -> faiss.IndexBinaryHNSW:
    index = faiss.IndexBinaryHNSW(8 * database.shape[1], 32)
    index.hnsw.efConstruction = 64
    index.add(database)
    return index


def _hnsw_settings(index: faiss.IndexBinaryHNSW) -> dict[str, Search]:
    def set_value(value: int) -> None:
        index.hnsw.efSearch = value

    return {
        f"M 32, efSearch {value}": _of_faiss(index, set_value, value) for value in (16, 64, 256, 1024, 4096)
    }


def _ivf(database: np.ndarray) -> faiss.IndexBinaryIVF:
    n_bits = 8 * database.shape[1]
    n_lists = 2 ** round(math.log2(len(database)) / 2)
    quantizer = faiss.IndexBinaryFlat(n_bits)
    index = faiss.IndexBinaryIVF(quantizer, n_bits, n_lists)
    index.quantizer_of_python = quantizer  # faiss does not keep it alive
    index.cp.max_points_per_centroid = 64
    index.train(database)
    index.add(database)
    return index


def _ivf_settings(index: faiss.IndexBinaryIVF) -> dict[str, Search]:
    def set_value(value: int) -> None:
        index.nprobe = value

    probes = (1, 2, 4, 16, 64, 256, 512)
    return {f"{index.nlist} lists, {value} probed": _of_faiss(index, set_value, value) for value in probes}


def _hash(database: np.ndarray) -> faiss.IndexBinaryHash:
    index = faiss.IndexBinaryHash(8 * database.shape[1], 16)
    index.add(database)
    return index


def _multi_hash(database: np.ndarray) -> faiss.IndexBinaryMultiHash:
    n_bits = 8 * database.shape[1]
    index = faiss.IndexBinaryMultiHash(n_bits, n_bits // 16, 16)
    index.add(database)
    return index


def _flip_settings(index: faiss.IndexBinaryHash | faiss.IndexBinaryMultiHash) -> dict[str, Search]:
    def set_value(value: int) -> None:
        index.nflip = value

    what = f"{index.nhash} x {index.b} bits" if isinstance(index, faiss.IndexBinaryMultiHash) else "16 bits"
    return {f"{what}, {value} flipped": _of_faiss(index, set_value, value) for value in (0, 1, 2, 3, 4)}


def _of_pynear(index: object, *more: int) -> Search:
    def search(queries: np.ndarray, k: int) -> np.ndarray:
        return index.searchKNN_arrays(queries, k, *more)[1]  # int64's largest where nothing was found

    return search


def _mih(bits: int) -> Callable[[np.ndarray], object]:
    def build(database: np.ndarray) -> object:
        import pynear

        index = pynear.MIHBinaryIndex(8 * database.shape[1] // bits)
        index.set(database)
        return index

    return build


def _mih_settings(index: object) -> dict[str, Search]:
    """The radius within which it promises to miss nothing."""
    what = f"{index.m()} x {8 * index.nbytes() // index.m()} bits"
    return {f"{what}, radius {radius}": _of_pynear(index, radius) for radius in (4, 8, 12, 16, 20, 32)}


def _vp_tree(database: np.ndarray) -> object:
    import pynear

    index = getattr(pynear, f"VPTreeBinaryIndex{8 * database.shape[1]}")()
    index.set(database)
    return index


PEERS = {
    "faiss HNSW": Peer(_hnsw, _hnsw_settings, 1_000_000, threads=2),
    "faiss IVF": Peer(_ivf, _ivf_settings, 10_000_000),
    "faiss Hash": Peer(_hash, _flip_settings, 10_000_000),
    "faiss MultiHash": Peer(_multi_hash, _flip_settings, 1_000_000),
    "pynear MIH": Peer(_mih(16), _mih_settings, 10_000_000),
    "pynear MIH of bytes": Peer(_mih(8), _mih_settings, 10_000_000),
    "pynear VP tree": Peer(_vp_tree, lambda index: {"": _of_pynear(index)}, 1_000_000),
}
