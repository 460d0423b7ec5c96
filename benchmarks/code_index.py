"""What a code index costs: opening, adding, looking up, searching and checking, and the room it takes.

    python benchmarks/code_index.py [--folder FOLDER]

64-bit codes, drawn at random. Searches are compared with `hamming_topk` over one array of the same codes in the same
run, and files with what faiss writes and reads where it is installed. The files lie in FOLDER (a temporary one by
default); those of 100,000,000 and more codes are holes that take no room. Writes docs/results/code-index.md. Run it
with nothing beside it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from timing import made_on, write, write_page

import dshc_fast
from dshc import HashIndex
from dshc.index.manifest import Manifest, Part, PartFile, read_manifest, write_manifest
from dshc.storage.disk import Disk

N, WIDTH = 1_000_000, 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        rows = measured(Path(folder))
    write("code_index", rows)
    lines = [
        "64-bit codes, one thread. Medians of at least five; additions, which change the disk, once.",
        "",
        "| what | seconds | |",
        "| --- | --- | --- |",
        *(f"| {row['what']} | {_seconds(row['seconds'])} | {row.get('note', '')} |" for row in rows),
    ]
    write_page("code-index", "A code index", f"`python benchmarks/code_index.py`; {made_on()}", "", lines)


def measured(folder: Path) -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (N, WIDTH), dtype=np.uint8)
    names = [f"photos/{i // 1000:04}/{i:08}.jpg" for i in range(N)]
    rows: list[dict[str, object]] = []

    def row(what: str, seconds: float, note: str = "") -> None:
        rows.append({"what": what, "seconds": seconds, "note": note})
        print(f"{what}: {_seconds(seconds)} {note}", flush=True)

    for n in (100_000_000, 1_000_000_000):
        path = folder / f"sparse{n}"
        sparse_index(path, n)
        row(
            f"open {n:,} codes, read-only",
            median(lambda path=path: HashIndex.open(path, read_only=True).close()),
        )

    numbered, named = folder / "numbered", folder / "named"
    with HashIndex.create(numbered, bits=8 * WIDTH) as index:
        row("add 1,000,000 codes, ids counted on", once(lambda: index.add(codes)), _per_code(numbered))
    with HashIndex.create(named, bits=8 * WIDTH, ids="text") as index:
        row(
            "add 1,000,000 codes with names of 24 letters",
            once(lambda: index.add(codes, names)),
            _per_code(named),
        )
        wanted = [names[i] for i in rng.integers(0, N, 10_000)]
        row("get 10,000 items by name", median(lambda: index.get(wanted)))
        row("remove 1,000 of them", once(lambda: index.remove(sorted(set(wanted))[:1000])))
        row("compact", once(index.compact), "every file is verified, then written anew")
    pieces = folder / "pieces"
    with HashIndex.create(pieces, bits=8 * WIDTH, ids="text") as index:

        def in_pieces() -> None:
            for start in range(0, N, 1000):
                index.add(codes[start : start + 1000], names[start : start + 1000])

        seconds = once(in_pieces)
        row(
            "add 1,000,000 codes with names, 1,000 at a time",
            seconds,
            f"{len(index._parts)} parts in the end",
        )
        row("add one code", median(one_more(index, codes)), "a change that survives a power cut")
    with HashIndex.open(pieces, read_only=True) as index:
        row("check every file", median(index.check), f"{index.n_file_bytes / 2**20:.0f} MiB")
    queries = rng.integers(0, 256, (100, WIDTH), dtype=np.uint8)
    for n_query in (1, 100):
        asked = queries[:n_query]
        plain = median(lambda asked=asked: dshc_fast.hamming_topk(asked, codes, 10))
        for path, what in ((numbered, "one part"), (pieces, "many parts")):
            with HashIndex.open(path, read_only=True) as index:
                for _ in range(2):
                    index.search(asked, 10)
                seconds = median(lambda asked=asked, index=index: index.search(asked, 10))
            note = f"{seconds / plain:.2f} times hamming_topk over one array ({_seconds(plain)})"
            row(f"search, {n_query} quer{'y' if n_query == 1 else 'ies'}, k = 10, {what}", seconds, note)
    if importlib.util.find_spec("faiss"):
        rows += of_faiss(folder, codes, queries, row)
    return rows


def of_faiss(folder: Path, codes: np.ndarray, queries: np.ndarray, row: Callable[..., None]) -> list[dict]:
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexBinaryIDMap2(faiss.IndexBinaryFlat(8 * WIDTH))
    row("faiss IndexBinaryIDMap2: add 1,000,000", once(lambda: index.add_with_ids(codes, np.arange(N))))
    path = str(folder / "faiss")
    row(
        "faiss: write_index_binary",
        once(lambda: faiss.write_index_binary(index, path)),
        "all of it at every change",
    )
    row("faiss: read_index_binary", median(lambda: faiss.read_index_binary(path)))
    row("faiss: search, 100 queries, k = 10", median(lambda: index.search(queries, 10)))
    return []


def sparse_index(path: Path, n: int) -> None:
    """An index of n codes, all zero, whose file is a hole."""
    HashIndex.create(path, bits=8 * WIDTH).close()
    entry = {"dtype": "U8", "shape": [n, WIDTH], "data_offsets": [0, n * WIDTH]}
    header = json.dumps({"__metadata__": {"first_id": "0"}, "codes": entry}).encode()
    header += b" " * (-len(header) % 8)
    name = path / "parts" / "0000000001.safetensors"
    with name.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + n * WIDTH)
    part = Part("0000000001", n, PartFile(name.name, name.stat().st_size, ""))
    write_manifest(path, Manifest(read_manifest(path).layout, 1, (part,), next_id=n), Disk())


def one_more(index: HashIndex, codes: np.ndarray) -> Callable[[], object]:
    fresh = iter(range(10**9))
    return lambda: index.add(codes[:1], [f"one-{next(fresh)}"])


def once(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median(work: Callable[[], object]) -> float:
    times = [once(work) for _ in range(5)]
    while sum(times) < 0.5 and len(times) < 200:
        times.append(once(work))
    return statistics.median(times)


def _per_code(path: Path) -> str:
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return f"{size / N:.1f} bytes per item on the disk"


def _seconds(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
