"""Many items encoded into a code file, so that an interruption costs the last few thousand of them and not all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..data import Dataset
from ..errors import InputError
from ..runs import Run
from ..runs.encoding import encode_input, model_name
from ..storage import CodeFile
from .hash_index import HashIndex
from .manifest import MANIFEST
from .sources import BLOCK, Source

__all__ = ["encode_in_parts"]

_LONGEST_NAME = 255  # bytes, on most file systems


def encode_in_parts(
    run: Run, dataset: Dataset, out: Path, *, on_items: Callable[[int, int], None] | None = None
) -> CodeFile:
    """Write the codes of a set to ``out``, as :func:`dshc.runs.encoding.encode_input` gives them; returns the file.

    More than a few thousand are kept on the way in an index beside ``out`` (``.codes.safetensors.partial``); the same
    call, of the same items and model, goes on with it, and removes it when all are done. ``on_items(done, total)`` is
    told of the progress. Raises :class:`InputError` where something else lies there.
    """
    if dataset.n_items <= BLOCK:
        file = encode_input(run, dataset)[0]
        return replace(file, path=file.save(out))
    model = model_name(run)
    folder = _beside(out)
    source = Source(dataset.name, dataset.n_items, None, None, (), (), dataset.inputs, run.hasher)
    with _partial(folder, run, f"{model}, of {dataset.digest()}") as index:
        for start in range(len(index), dataset.n_items, BLOCK):
            rows = np.arange(start, min(start + BLOCK, dataset.n_items))
            index.add(source.codes(rows))
            if on_items is not None:
                on_items(int(rows[-1]) + 1, dataset.n_items)
        codes = index.get(np.arange(dataset.n_items)).codes
    file = CodeFile(
        codes=codes,
        n_bits=run.hasher.n_bits,
        labels=dataset.labels,
        ids=dataset.ids,
        class_names=dataset.class_names,
        model=model,
        score=run.hasher.score,
        path=out,
    )
    file.save(out)
    shutil.rmtree(folder)
    return file


def _beside(out: Path) -> Path:
    name = f".{out.name}.partial"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(out.name)).hexdigest()}.partial"
    return out.with_name(name)


def _partial(folder: Path, run: Run, model: str) -> HashIndex:
    """The index of what is done; begun anew where it is of other items, or damaged."""
    if folder.exists():
        if not (folder / MANIFEST).is_file() and any(path.name != ".lock" for path in folder.iterdir()):
            raise InputError(f"{folder}: must be what an interrupted encoding left, it is something else")
        try:
            index = HashIndex.open(folder)
        except (ValueError, FileNotFoundError) as error:
            if isinstance(error, InputError):  # another process encodes into the same file
                raise
        else:
            if index.layout.model == model:
                return index
            index.close()
        shutil.rmtree(folder)
    return HashIndex.create(folder, bits=run.hasher.n_bits, score=run.hasher.score, model=model)
