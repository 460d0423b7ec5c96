"""Queries by whatever names them: images, folders, embeddings, code files, items of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from ..data import ARRAY_SUFFIXES, IMAGE_SUFFIXES, available
from ..data.image_files import ImageFiles
from ..data.image_fit import printable
from ..errors import InputError
from ..runs import Run
from ..runs.encoding import (
    encode_files,
    encode_input,
    inputs_of,
    is_code_file,
    read_input,
    stored_part,
)
from ..storage import CodeFile

__all__ = ["Queries", "names_of", "pick_queries", "read_queries"]


@dataclass(frozen=True)
class Queries:
    """Queries in the order they were given, encoded.

    Fields:

    * ``codes``: their codes, with labels and ids where they have any.
    * ``origins``: a name for each that tells it from queries of other sources: its path as it was given.
    * ``predicted``: class ids int64 ``(n,)`` or multi-hot bool ``(n, C)`` by ``classes``; None where nothing predicts.
    * ``pictures``: what they look like, ``pictures[i]`` uint8 ``(h, w, c)``; None for features and bare codes.
    * ``remarks``: what was left out on reading.
    """

    codes: CodeFile
    origins: tuple[str, ...]
    predicted: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    pictures: np.ndarray | ImageFiles | None = None
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.codes)


def read_queries(sources: Sequence[str], run: Run | None) -> list[Queries]:
    """The queries that ``sources`` name, in that order; ``run`` encodes those that are no codes.

    A source is a code file, an image, a folder of images, a named set, or a file of embeddings; for a run on features
    also a folder of files of embeddings and codes. Images that follow each other are encoded together.

    Raises ``ValueError`` or ``OSError`` naming the first source that cannot be read, or that nothing encodes.
    """
    found: list[Queries] = []
    images: list[str] = []
    for source in sources:
        if run is not None and _is_image(source, run):
            images.append(source)
            continue
        if images:
            found.append(_encode_images(images, run))
            images = []
        found += _read(source, run)
    if images:
        found.append(_encode_images(images, run))
    return found


def pick_queries(source: CodeFile | Run, items: Sequence[int], *, name: str = "--item") -> Queries:
    """Codes of a file, or queries of a run's split, by their numbers; ``name`` is what errors call these."""
    run = source if isinstance(source, Run) else None
    file = stored_part(source, "query") if isinstance(source, Run) else source
    for item in items:
        if not 0 <= item < len(file):
            raise InputError(f"{name} must lie in 0..{len(file) - 1}, got {item}")
    rows = np.array(items, np.int64)
    names = tuple(file.name_of(item) for item in items)
    codes = CodeFile(
        codes=file.codes[rows],
        n_bits=file.n_bits,
        labels=None if file.labels is None else file.labels[rows],
        ids=names,
        class_names=file.class_names,
        model=file.model,
        score=file.score,
    )
    if run is None:
        return Queries(codes, names)
    try:
        inputs = inputs_of(run, "query", rows)
    except (
        ImportError,
        OSError,
        ValueError,
    ):  # the data are gone; codes and weights are all that a search needs
        return Queries(codes, names)
    predicted = run.hasher.encode_and_predict(inputs)[1]
    pictures = inputs if run.hasher.kind == "images" else None
    return Queries(codes, names, predicted, run.hasher.class_names, pictures)


def names_of(queries: Sequence[Queries]) -> list[tuple[str, ...]]:
    """A name for each query: its id, or its origin where that tells apart queries that share an id."""
    own = [tuple(part.codes.name_of(i) for i in range(len(part))) for part in queries]
    origins: dict[str, set[str]] = {}
    for names, part in zip(own, queries, strict=True):
        for name, origin in zip(names, part.origins, strict=True):
            origins.setdefault(name, set()).add(origin)
    return [
        tuple(
            origin if len(origins[name]) > 1 else name
            for name, origin in zip(names, part.origins, strict=True)
        )
        for names, part in zip(own, queries, strict=True)
    ]


def _read(source: str, run: Run | None) -> list[Queries]:
    path = Path(source)
    if is_code_file(path):
        codes = CodeFile.load(path)
        return [Queries(codes, _origins(f"{source}: ", codes))]
    if run is None:
        raise InputError(f"{source}: is no code file; name the run that encodes it with --run RUN")
    if path.is_dir() and run.hasher.kind == "features" and source not in available():
        return list(chain.from_iterable(_read(str(file), run) for file in _array_files(path)))
    dataset = read_input(source, run)
    codes, predicted = encode_input(run, dataset)
    reading = dataset.reading
    remarks = (f"{source}: {reading.line()}",) if reading is not None and not reading.complete else ()
    origins = _origins(f"{source.rstrip(os.sep)}{os.sep}" if path.is_dir() else f"{source}: ", codes)
    pictures = dataset.inputs if dataset.kind == "images" else None
    return [Queries(codes, origins, predicted, run.hasher.class_names, pictures, remarks)]


def _array_files(folder: Path) -> list[Path]:
    """Files of embeddings and codes in a folder, in sorted order."""
    files = [file for file in sorted(folder.iterdir()) if not file.name.startswith(".") and file.is_file()]
    found = [file for file in files if file.suffix.lower() in ARRAY_SUFFIXES]
    if not found:
        raise InputError(f"{folder}: must hold files of embeddings ({', '.join(ARRAY_SUFFIXES)}), got none")
    return found


def _is_image(source: str, run: Run) -> bool:
    path = Path(source)
    if source in available() or path.suffix.lower() not in IMAGE_SUFFIXES or path.is_dir():
        return False
    return run.hasher.kind == "images"


def _encode_images(paths: Sequence[str], run: Run) -> Queries:
    codes, predicted, images = encode_files(run, paths)
    origins = tuple(map(printable, paths))
    return Queries(codes, origins, predicted, run.hasher.class_names, images)


def _origins(prefix: str, codes: CodeFile) -> tuple[str, ...]:
    return tuple(f"{prefix}{codes.name_of(i)}" for i in range(len(codes)))
