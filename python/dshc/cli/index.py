"""``dshc index``: make an index, change it, search it, look after it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..index import HashIndex
from ..index.metadata_files import read_metadata
from ..index.predicates import column_types, predicate
from ..index.sources import Source, add_source, calibrate_by_run, layout_of_run, read_source, vector_length
from ..progress import progress
from .console import remark, say, table, working
from .open_run import open_run

__all__ = [
    "add_to_index",
    "check_index",
    "compact_index",
    "create_index",
    "merge_indexes",
    "remove_from_index",
    "search_in_index",
    "show_index",
]

DEFAULT_K, DEFAULT_METRIC = 10, "inner_product"


def create_index(
    path: Path,
    run_folder: Path | None,
    *,
    bits: int | None,
    score: str | None,
    ids: str | None,
    labels: str | None,
    classes: str | None,
    vectors: str | None,
    dimensions: int | None,
    metadata: Sequence[str],
) -> None:
    """Make an empty index, with the model of a run where one is named."""
    columns = {}
    for column in metadata:
        name, equals, kind = column.partition("=")
        if not (name and equals and kind):
            raise InputError(f"--metadata must read NAME=TYPE, such as year=int32, got {column!r}")
        columns[name] = kind
    layout: dict[str, Any] = {"ids": "text"}
    if run_folder is not None:
        run = open_run(run_folder)
        layout = layout_of_run(run)
        if vectors not in (None, "none") and dimensions is None:
            dimensions = vector_length(run.hasher)
    given = {
        "bits": bits,
        "score": score,
        "ids": ids,
        "labels": labels,
        "class_names": None if classes is None else [name.strip() for name in classes.split(",")],
        "vectors": vectors,
        "dimensions": dimensions,
    }
    layout |= {name: value for name, value in given.items() if value is not None}
    if layout.get("labels") == "none":
        layout["class_names"] = None
    with HashIndex.create(path, metadata=columns, **layout) as index:
        say(f"{path}: an empty index of {index.n_bits} bits, {index.score}")


def add_to_index(
    path: Path,
    source: str,
    *,
    overwrite: bool,
    metadata: Path | None,
    root: str | None,
    labels: str | None,
    threads: int | None,
) -> None:
    """Add what ``source`` names; items that are there already are passed over, or replaced."""
    _set_threads(threads)
    with HashIndex.open(path) as index:
        found = read_source(index, source, root=root, labels=labels)
        rows = None if metadata is None else read_metadata(metadata, index.layout)
        with progress(f"adding {found.n_items:,} items") as update:
            added = add_source(index, found, overwrite=overwrite, metadata=rows, on_items=update)
        for text in added.remarks:
            remark(f"dshc: {text}")
        there = f", {added.n_there:,} were there already" if added.n_there else ""
        say(f"{path}: {_items(added.n_added)} added{there}; {len(index):,} in all")
        if (
            (Path(source) / "split.json").is_file()
            and index.layout.labels != "none"
            and index.score == "hamming"
        ):
            if calibrate_by_run(index, open_run(Path(source))) is not None:
                remark("dshc: precision by radius measured with the run's validation items", style="")


def remove_from_index(path: Path, ids: Sequence[str]) -> None:
    """Remove items by the ids that were typed."""
    with HashIndex.open(path) as index:
        n = index.remove(_typed_ids(ids, index))
        say(f"{path}: {_items(n)} removed; {len(index):,} left")


def search_in_index(
    path: Path,
    sources: Sequence[str],
    ids: Sequence[str],
    *,
    k: int | None,
    radius: int | None,
    precision: float | None,
    label: Sequence[str] | None,
    where: str | None,
    rescore: int | None,
    metric: str | None,
    as_json: bool,
    threads: int | None,
) -> None:
    """Search an index for what ``sources`` name and from its own items ``ids``; print what is found."""
    _set_threads(threads)
    if not sources and not ids:
        raise InputError("give a QUERY (code file, image, folder, array) or --id ID, got neither")
    if sum(value is not None for value in (k, radius, precision)) > 1:
        raise InputError("give one of --k, --radius and --precision, got several")
    if metric is not None and rescore is None:
        raise InputError("--metric must go with --rescore, got it without")
    with HashIndex.open(path, read_only=True) as index:
        filters: dict[str, Any] = {}
        if label:
            filters["label"] = [_typed_label(name, index) for name in label]
        if where is not None:
            filters["where"] = predicate(where, column_types(index.layout))
        names, codes, vectors = _queries(index, sources, ids, with_vectors=rescore is not None)
        if precision is not None:
            radius = index.radius_for(precision)
            remark(f"dshc: radius {radius} has a precision of {precision} or more", style="")
        with working("searching"):
            if radius is not None:
                within = index.radius(codes, radius, **filters)
                spans = [slice(a, b) for a, b in zip(within.offsets[:-1], within.offsets[1:], strict=True)]
                found = [(within.distances[span], within.ids[span]) for span in spans]
            else:
                if rescore is not None:
                    filters |= {"rescore": rescore, "vectors": vectors, "metric": metric or DEFAULT_METRIC}
                k = min(DEFAULT_K, len(index)) if k is None else k
                nearest = index.search(codes, k, **filters)
                found = [
                    (distances[_there(row)], row[_there(row)])
                    for distances, row in zip(nearest.distances, nearest.ids, strict=True)
                ]
        _print_found(
            index,
            names,
            found,
            as_json=as_json,
            column=(metric or DEFAULT_METRIC) if rescore is not None else index.score,
        )


def show_index(path: Path, *, as_json: bool) -> None:
    """Print what an index holds."""
    with HashIndex.open(path, read_only=True) as index:
        layout = index.layout
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        facts = {
            "items": len(index),
            "removed": index.n_removed,
            "bits": layout.n_bits,
            "score": layout.score,
            "ids": layout.ids,
            "labels": layout.labels,
            "classes": ", ".join(layout.class_names),
            "vectors": layout.vectors
            if layout.vectors == "none"
            else f"{layout.vectors} x {layout.n_dimensions}",
            "metadata": ", ".join(f"{name}={kind}" for name, kind in layout.metadata),
            "model": layout.model,
            "MiB on disk": round(size / 2**20, 1),
        }
    if as_json:
        say(json.dumps(facts))
    else:
        table("", ("what", "value"), [(name, value) for name, value in facts.items()])


def check_index(path: Path) -> None:
    """Read every file; raises naming the first that is damaged."""
    with HashIndex.open(path, read_only=True) as index, progress(f"checking {path}") as update:
        done, total = 0, index.n_file_bytes

        def count(n: int) -> None:
            nonlocal done
            done += n
            update(done, total)

        index.check(count)
        say(f"{path}: sound, {_items(len(index))} of {index.n_bits} bits")


def compact_index(path: Path) -> None:
    """Write an index as one part."""
    with HashIndex.open(path) as index:
        removed = index.n_removed
        with working("compacting"):
            index.compact()
        say(f"{path}: {_items(len(index))} in one part, the room of {removed:,} removed ones given back")


def merge_indexes(path: Path, other: Path) -> None:
    """Add all items of another index."""
    with HashIndex.open(path) as index, HashIndex.open(other, read_only=True) as more:
        with working("merging"):
            n = index.merge(more)
        say(f"{path}: {_items(n)} added from {other}; {len(index):,} in all")


def _queries(
    index: HashIndex, sources: Sequence[str], ids: Sequence[str], *, with_vectors: bool
) -> tuple[list[str], np.ndarray, np.ndarray | None]:
    """Names, codes and, where asked for, vectors of all queries."""
    names, codes, vectors = [], [], []
    for text in sources:
        source = read_source(index, text)
        for line in source.remarks:
            remark(f"dshc: {line}")
        rows = np.arange(source.n_items)
        names += _names(source)
        codes.append(source.codes(rows))
        if with_vectors:
            vectors.append(source.vectors(rows, index.layout))
    if ids:
        items = index.get(_typed_ids(ids, index))
        names += ids
        codes.append(items.codes)
        vectors.append(items.vectors)
    if any(part is None for part in vectors):
        vectors = []
    return names, np.concatenate(codes), np.concatenate(vectors) if vectors and with_vectors else None


def _names(source: Source) -> list[str]:
    return (
        list(source.ids)
        if source.ids is not None
        else [f"{source.name}[{row}]" for row in range(source.n_items)]
    )


def _there(ids: np.ndarray) -> np.ndarray:
    return np.array([id is not None for id in ids], bool) if ids.dtype == object else ids >= 0


def _print_found(
    index: HashIndex,
    names: Sequence[str],
    found: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    as_json: bool,
    column: str,
) -> None:
    rows = []
    largest = np.finfo(np.float32).max
    for name, (distances, ids) in zip(names, found, strict=True):
        if distances.dtype.kind == "f":  # JSON knows nothing infinite
            distances = np.clip(distances, -largest, largest)
        labels = _label_names(index, ids)
        results = [
            {"rank": rank, column: distance, "id": id, "label": label}
            for rank, (distance, id, label) in enumerate(
                zip(distances.tolist(), ids.tolist(), labels, strict=True), start=1
            )
        ]
        if as_json:
            say(json.dumps({"query": name, "results": results}))
        else:
            rows += [(name, *result.values()) for result in results]
    if not as_json:
        table("", ("query", "rank", column, "id", "label"), rows, numeric="lrr")


def _label_names(index: HashIndex, ids: np.ndarray) -> list[str]:
    from ..storage import describe_label

    if not len(ids) or index.layout.labels == "none":
        return [""] * len(ids)
    labels = index.get(ids.tolist(), metadata=False, vectors=False).labels
    if labels is None:
        return [""] * len(ids)
    names = index.layout.class_names
    return [describe_label(label, names) for label in labels]


def _typed_ids(ids: Sequence[str], index: HashIndex) -> list[Any]:
    if index.layout.ids == "text":
        return list(ids)
    if wrong := [id for id in ids if not re.fullmatch(r"-?[0-9]{1,19}", id)]:
        raise InputError(f"ids must be integers in this index, got {wrong[0]!r}")
    return [int(id) for id in ids]


def _typed_label(name: str, index: HashIndex) -> str | int:
    """A class by its name; by its number where classes have none."""
    return int(name) if not index.layout.class_names and name.isdecimal() else name


def _items(n: int) -> str:
    return "1 item" if n == 1 else f"{n:,} items"


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
