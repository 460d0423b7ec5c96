"""``dshc search``: the nearest items of one or many queries."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..evaluation import Conventions
from ..index import CodeIndex
from ..runs import Run
from ..runs.encoding import encode_input, is_code_file, read_input, stored_part
from ..storage import CodeFile
from .console import remark, say, table, working
from .open_run import open_run

__all__ = ["run_search"]

DEFAULT_K = 10


def run_search(
    target: Path,
    query: str | None,
    *,
    item: int | None,
    k: int | None,
    score: str | None,
    run_folder: Path | None,
    as_json: bool,
    show: int,
) -> None:
    """Search a run's database or a code file for the items nearest to ``query`` (or to the run's query
    ``item``).
    """
    if (query is None) == (item is None):
        raise InputError("give either a QUERY (image, folder, array or code file) or --item NUMBER")
    Conventions(score=score)  # refuses a wrong one before anything is encoded
    if target.is_dir():
        run = open_run(target)
        index = CodeIndex(stored_part(run, "database"))
    else:
        index = CodeIndex.load(target)
        run = open_run(run_folder) if run_folder is not None else None
    if k is None:
        k = min(DEFAULT_K, len(index))
    if not 1 <= k <= len(index):
        raise InputError(f"--k must lie in 1..{len(index)} (the number of codes in the database), got {k}")
    queries = _queries(target, query, item, run)
    with working("searching"):
        found = index.search(queries, k, score=score)
    score = score or index.file.score
    if as_json:
        for position in range(len(queries)):
            say(
                json.dumps(
                    _answer(
                        queries,
                        index.file,
                        position,
                        found.distances[position],
                        found.indices[position],
                        score,
                    )
                )
            )
        return
    _print(queries, index.file, found.distances, found.indices, score, show)


def _queries(target: Path, query: str | None, item: int | None, run: Run | None) -> CodeFile:
    if item is not None:
        file = stored_part(run, "query") if target.is_dir() else CodeFile.load(target)
        if not 0 <= item < len(file):
            raise InputError(f"--item must lie in 0..{len(file) - 1}, got {item}")
        return _one(file, item)
    if is_code_file(Path(query)):
        return CodeFile.load(query)
    if run is None:
        raise InputError(f"{query}: is no code file; name the run that encodes it with --run RUN")
    return encode_input(run, read_input(query, run))[0]


def _one(file: CodeFile, item: int) -> CodeFile:
    """The same file with one code only."""
    return CodeFile(
        codes=file.codes[item : item + 1],
        n_bits=file.n_bits,
        labels=None if file.labels is None else file.labels[item : item + 1],
        ids=(file.name_of(item),),
        class_names=file.class_names,
        model=file.model,
        score=file.score,
    )


def _print(
    queries: CodeFile, database: CodeFile, distances: np.ndarray, indices: np.ndarray, score: str, show: int
) -> None:
    columns = ("query", "rank", score, "index", "id", "label", "relevant")
    rows = []
    for position in range(min(len(queries), show)):
        for rank, (distance, i) in enumerate(
            zip(distances[position], indices[position], strict=True), start=1
        ):
            row = (queries.name_of(position), rank, distance, i, database.name_of(i), database.label_of(i))
            rows.append(
                (*row, {True: "yes", False: "no", None: ""}[_relevant(queries, position, database, i)])
            )
    table("", columns, rows, numeric="lrrr")
    if len(queries) > show:
        remark(f"{len(queries) - show} more queries not shown; --show N shows more, --json gives all")


def _answer(
    queries: CodeFile,
    database: CodeFile,
    position: int,
    distances: np.ndarray,
    indices: np.ndarray,
    score: str,
) -> dict[str, object]:
    """One line of ``--json``: a query and its results."""
    results = [
        {
            "rank": rank,
            score: int(distance),
            "index": int(i),
            "id": database.name_of(i),
            "label": database.label_of(i),
            "relevant": _relevant(queries, position, database, i),
        }
        for rank, (distance, i) in enumerate(zip(distances, indices, strict=True), start=1)
    ]
    label = queries.label_of(position)
    return {"query": queries.name_of(position), "label": label, "n_bits": database.n_bits, "results": results}


def _relevant(queries: CodeFile, position: int, database: CodeFile, item: int) -> bool | None:
    """Whether a result shares a label with its query; None where either has none or they mean different
    classes.
    """
    if queries.labels is None or database.labels is None or queries.class_names != database.class_names:
        return None
    if queries.labels.shape[1:] != database.labels.shape[1:]:
        return None
    if queries.labels.ndim == 2:
        return bool((queries.labels[position] & database.labels[item]).any())
    return bool(queries.labels[position] == database.labels[item])
