"""``dshc dedup``: groups of items whose codes are nearly the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import dshc_fast

from ..data.image_files import ImageFiles
from ..data.image_fit import ImageFit
from ..errors import InputError
from ..index import HashIndex
from ..index.manifest import MANIFEST
from ..index.near_duplicates import groups_of
from ..runs.encoding import encode_input, is_code_file, read_input
from ..runs.run_folder import is_run_file
from ..storage import CodeFile, check_can_write, describe_label
from .console import remark, say, table, working
from .open_run import open_run

__all__ = ["run_dedup"]

MOST_ITEMS = 24
"""A page shows at most so many items of a group, and so many groups of them as come to MOST_PICTURES."""
MOST_PICTURES = 3_000
_SIDE = 192  # pixels of a picture


class _Items(NamedTuple):
    """What is compared: codes with names and labels, and pictures by row where there are any."""

    codes: np.ndarray
    n_bits: int
    name_of: Callable[[int], str]
    label_of: Callable[[int], str]
    pictures: Callable[[np.ndarray], Any] | None


def run_dedup(
    source: str,
    *,
    radius: int,
    run_folder: Path | None,
    images: Path | None,
    gallery: Path | None,
    show: int,
    as_json: bool,
    threads: int | None,
) -> None:
    """Find groups of near-duplicates in an index, a code file, or what a run encodes, and print and draw them."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    if gallery is not None:
        if gallery.suffix.lower() not in (".html", ".htm"):
            raise InputError(f"--gallery must name an .html file, got {gallery}")
        if is_run_file(gallery):
            raise InputError(f"--gallery must not be one of a run's own files, got {gallery}")
        check_can_write(gallery)
    items = _read(source, run_folder, images)
    if not 0 <= radius <= items.n_bits:
        raise InputError(f"--radius must lie in 0..{items.n_bits} (the code length), got {radius}")
    with working("comparing"):
        pairs = dshc_fast.hamming_pairs(items.codes, radius)
        groups = groups_of(pairs)
    n_items = sum(map(len, groups))
    if as_json:
        for group in groups:
            away = _away(items, group)
            members = [
                {"id": items.name_of(i), "label": items.label_of(i), "hamming": distance}
                for i, distance in zip(group.tolist(), away, strict=True)
            ]
            say(json.dumps({"items": members}))
    else:
        rows = [
            (number, items.name_of(i), items.label_of(i), distance)
            for number, group in enumerate(groups[:show], start=1)
            for i, distance in zip(group.tolist(), _away(items, group), strict=True)
        ]
        table("", ("group", "id", "label", "hamming"), rows, numeric="r--r")
        if len(groups) > show:
            remark(f"{len(groups) - show:,} more groups not shown; --show N shows more, --json gives all")
    found = "1 group" if len(groups) == 1 else f"{len(groups):,} groups"
    remark(
        f"{found} of {n_items:,} of {len(items.codes):,} items; {len(pairs.indices):,} pairs within {radius} bits",
        style="",
    )
    if gallery is not None:
        _write_page(gallery, items, groups, radius)


def _read(source: str, run_folder: Path | None, images: Path | None) -> _Items:
    path = Path(source)
    if (path / MANIFEST).is_file():
        if run_folder is not None:
            raise InputError("--run must go with items that are yet to be encoded, got an index")
        return _of_index(path, images)
    if images is not None:
        raise InputError("--images must go with an index, whose ids are paths in that folder")
    if is_code_file(path):
        file = CodeFile.load(path)
        return _Items(file.codes, file.n_bits, file.name_of, file.label_of, None)
    if run_folder is None:
        raise InputError(
            f"{source}: is no index and no code file; name the run that encodes it with --run RUN"
        )
    run = open_run(run_folder)
    dataset = read_input(source, run)
    if dataset.reading is not None and not dataset.reading.complete:
        remark(f"dshc: {dataset.reading.line()}")
    file, _ = encode_input(run, dataset)
    pictures = (lambda rows: dataset.inputs[rows]) if dataset.kind == "images" else None
    return _Items(file.codes, file.n_bits, file.name_of, file.label_of, pictures)


def _of_index(path: Path, images: Path | None) -> _Items:
    with HashIndex.open(path, read_only=True) as index:
        names = [str(id) for id in index.ids()]
        codes, labels, layout = np.array(index.codes()), index.labels(), index.layout

    def label_of(row: int) -> str:
        return "" if labels is None else describe_label(labels[row], layout.class_names)

    pictures = None
    if images is not None:
        files = ImageFiles([images / name for name in names], ImageFit(_SIDE, _SIDE, 3))
        pictures = files.__getitem__
    return _Items(codes, layout.n_bits, names.__getitem__, label_of, pictures)


def _away(items: _Items, group: np.ndarray) -> list[int]:
    """The distance of each item of a group from its first."""
    return dshc_fast.hamming_distance(items.codes[group[:1]], items.codes[group])[0].tolist()


def _write_page(path: Path, items: _Items, groups: Sequence[np.ndarray], radius: int) -> None:
    from ..report.gallery import Item, Row
    from ..report.gallery_page import write_gallery_page

    rows, shown, left_out = [], 0, 0
    for group in groups:
        some = group[:MOST_ITEMS]
        if shown + len(some) > MOST_PICTURES:
            break
        shown += len(some)
        pictures = [None] * len(some) if items.pictures is None else list(items.pictures(some))
        first, *others = (
            Item(items.name_of(i), items.label_of(i), "", picture, distance)
            for i, picture, distance in zip(some.tolist(), pictures, _away(items, some), strict=True)
        )
        rows.append(Row(first, tuple(others), None))
        left_out += len(group) - len(some)
    caption = (
        f"Items of which each is within {radius} of {items.n_bits} bits of another of its group; the first of each "
        "group at the left, with the distances from it."
    )
    notes = [f"{len(groups) - len(rows):,} more groups are not shown"] if len(groups) > len(rows) else []
    if left_out:
        notes.append(f"groups are shown up to {MOST_ITEMS} items; {left_out:,} more are left out")
    write_gallery_page(path, title="Near-duplicates", caption=caption, rows=rows, notes=notes)
    remark(f"gallery: {path}", style="")
