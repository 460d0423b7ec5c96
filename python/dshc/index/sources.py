"""What is added to an index or asked of it, by whatever names it: code files, runs, images, embeddings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..data import IMAGE_SUFFIXES, Dataset, load
from ..data.ahead import ahead
from ..data.image_files import ImageFiles
from ..errors import InputError
from ..runs import Run, load_run
from ..runs.encoding import encode_part, is_code_file, model_name, one_item, stored_part
from ..runs.run_folder import CONFIG
from ..storage import CodeFile
from ..torch_defaults import thread_defaults
from .layout import Layout
from .manifest import MANIFEST

if TYPE_CHECKING:
    from ..hasher import Hasher
    from .hash_index import HashIndex
    from .metadata_files import MetadataRows

__all__ = [
    "Added",
    "Source",
    "add_source",
    "backbone_features",
    "calibrate_by_run",
    "layout_of_run",
    "read_source",
    "vector_length",
]

_INTEGER = re.compile(r"-?[0-9]{1,19}")
BLOCK = 4096
"""Items that are encoded and added at a time: what an interruption costs at most."""


@dataclass(frozen=True)
class Source:
    """Items in their order: codes, or what a hasher makes codes of.

    Fields: ``name``; ``ids``, None where they have none; ``labels`` and ``class_names`` as a
    :class:`dshc.data.Dataset` has them; ``remarks``, what was left out on reading.
    """

    name: str
    n_items: int
    ids: tuple[str, ...] | None
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    remarks: tuple[str, ...]
    inputs: Any
    hasher: Hasher | None

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """Packed codes of these items."""
        return self.inputs[rows] if self.hasher is None else self.hasher.encode(self._batches(rows))

    def vectors(self, rows: np.ndarray, layout: Layout) -> np.ndarray | None:
        """What an index keeps to rescore them: embeddings as they are, of images the features of the backbone.

        None for an index without vectors; :class:`InputError` where there are none, or of another length.
        """
        if layout.vectors == "none":
            return None
        if self.hasher is None:
            raise InputError(f"{self.name}: must have vectors, as the index has, a code file has none")
        is_features = self.hasher.kind == "features"
        vectors = self.inputs[rows] if is_features else backbone_features(self.hasher, self._batches(rows))
        if vectors.shape[1] != layout.n_dimensions:
            raise InputError(
                f"{self.name}: must have vectors of {layout.n_dimensions} dimensions, as the index, got "
                f"{vectors.shape[1]}"
            )
        return vectors

    def _batches(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        from ..hasher.hasher import encoding_batch

        assert self.hasher is not None
        step = encoding_batch(self.hasher.seen_shape)  # whole batches, so that slicing changes none
        slices = (self.inputs[rows[start : start + step]] for start in range(0, len(rows), step))
        return ahead(slices) if isinstance(self.inputs, ImageFiles) else slices


@thread_defaults()
def backbone_features(hasher: Hasher, batches: Iterable[np.ndarray]) -> np.ndarray:
    """What an index of images keeps to rescore them, float32 ``(n, n_features)``, of batches uint8 ``(b, h, w, c)``."""
    import torch

    with torch.no_grad():
        parts = [
            hasher.features(hasher.preprocessing(torch.from_numpy(batch).to(hasher.device))).cpu().numpy()
            for batch in batches
        ]
    return np.concatenate(parts)


class Added(NamedTuple):
    """How many items were added, how many were there already, and what was left out or is worth knowing."""

    n_added: int
    n_there: int
    remarks: tuple[str, ...]


def read_source(
    index: HashIndex, source: str, *, root: str | None = None, labels: str | None = None
) -> Source:
    """The items that ``source`` names.

    A code file; a run (the database of its split, by its own codes); else images or embeddings as
    :func:`dshc.load_data` reads them, which the hasher of the index encodes. Images that cannot be read are left out
    and remarked, but for one that is named by itself.

    Raises :class:`InputError` where lengths, scores or models do not fit the index, or nothing encodes the source.
    """
    path = Path(source)
    if is_code_file(path):
        return _of_codes(CodeFile.load(path), source, index.layout)
    if (path / CONFIG).is_file():
        return _of_run(load_run(path), source, index.layout)
    if (path / MANIFEST).is_file():
        raise InputError(f"{source}: is an index, dshc index merge takes its items over")
    hasher = index.hasher
    images: dict[str, Any] = {}
    if (fit := hasher.image_fit) is not None:
        alone = path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES
        images = {
            "image_size": (fit.height, fit.width),
            "n_channels": fit.n_channels,
            "interpolation": fit.interpolation,
            "skip_unreadable": not alone,
        }
    dataset = one_item(source, hasher) if labels is None and root is None else None
    if dataset is not None and index.layout.ids == "int64":
        dataset = replace(dataset, ids=None)  # the file's name
    if dataset is None:
        dataset = load(source, root=root, labels=labels, require_labels=False, **images)
    if (dataset.kind, dataset.item_shape) != (hasher.kind, hasher.item_shape):
        raise InputError(
            f"{source}: items must be {hasher.kind} of shape {hasher.item_shape}, as the hasher's, got "
            f"{dataset.kind} of shape {dataset.item_shape}"
        )
    return _of_dataset(dataset, source, hasher)


def add_source(
    index: HashIndex,
    source: Source,
    *,
    overwrite: bool = False,
    metadata: MetadataRows | None = None,
    on_items: Any = None,
) -> Added:
    """Add the items of a source, :data:`BLOCK` at a time, each block a change of its own.

    Items whose ids are there already are passed over, so that the same call goes on after an interruption; with
    ``overwrite`` they are encoded anew, and keep their metadata where none is given. Items without ids are always
    added, all in one change: after an interruption none of them is there. ``on_items(done, total)`` is told of the
    progress; ``metadata`` has the metadata of items by their ids.
    """
    layout = index.layout
    if metadata is not None and source.ids is None:
        raise InputError(f"{source.name}: items must have ids to be given metadata, got none")
    ids = _ids_as(source, layout)
    labels, remarks = _labels_as(source, layout)
    if ids is None:
        return _add_counted(index, source, labels, remarks, on_items)
    n_added = n_there = n_without = 0
    for start in range(0, source.n_items, BLOCK):
        rows = np.arange(start, min(start + BLOCK, source.n_items))
        own = [ids[row] for row in rows]
        if not overwrite:
            new = np.flatnonzero(~_are_there(index, own))
            n_there += len(rows) - len(new)
            rows, own = rows[new], [own[i] for i in new]
        if len(rows):
            kept = _kept_metadata(index, own) if overwrite and metadata is None else None
            n_without += 0 if metadata is None else metadata.n_without(own)
            given = {
                "labels": None if labels is None else labels[rows],
                "vectors": source.vectors(rows, layout),
                "metadata": kept if metadata is None else metadata.of(own),
            }
            if not overwrite:
                index.add(source.codes(rows), own, **given)
            else:
                index.update(source.codes(rows), own, missing="add", **given)
            n_added += len(rows)
        if on_items is not None:
            on_items(min(start + BLOCK, source.n_items), source.n_items)
    if metadata is not None and (lacking := metadata.remark(n_without, n_added, layout)):
        remarks = (*remarks, lacking)
    return Added(n_added, n_there, (*source.remarks, *remarks))


def _add_counted(
    index: HashIndex,
    source: Source,
    labels: np.ndarray | None,
    remarks: tuple[str, ...],
    on_items: Any,
) -> Added:
    """Items that have no ids, in one change: a second try could not tell which of them are there."""
    codes, vectors = [], []
    for start in range(0, source.n_items, BLOCK):
        rows = np.arange(start, min(start + BLOCK, source.n_items))
        codes.append(source.codes(rows))
        vectors.append(source.vectors(rows, index.layout))
        if on_items is not None:
            on_items(int(rows[-1]) + 1, source.n_items)
    if not codes:
        return Added(0, 0, (*source.remarks, *remarks))
    known = [part for part in vectors if part is not None]
    numbers = index.add(
        np.concatenate(codes), labels=labels, vectors=np.concatenate(known) if known else None
    )
    counted = (
        f"{source.name}: items without ids were numbered {int(numbers[0])} to {int(numbers[-1])}; added again, they "
        "would be there twice"
    )
    return Added(source.n_items, 0, (*source.remarks, *remarks, counted))


def _are_there(index: HashIndex, ids: Sequence[Any]) -> np.ndarray:
    """Which of these ids the index has, bool ``(n,)``."""
    return index._places(np.array(ids, np.int64) if index.layout.ids == "int64" else ids)[0] >= 0


def _kept_metadata(index: HashIndex, ids: Sequence[Any]) -> Any:
    """The metadata that the index has of these items, null of those that it does not have; None where it has none."""
    if not index.layout.metadata:
        return None
    there = np.flatnonzero(_are_there(index, ids))
    if not len(there):
        return None
    import pyarrow

    rows = np.full(len(ids), -1)
    rows[there] = np.arange(len(there))
    table = index.get([ids[i] for i in there], vectors=False).metadata
    return table.take(pyarrow.array([None if row < 0 else row for row in rows.tolist()], pyarrow.int64()))


def _labels_as(source: Source, layout: Layout) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The labels of a source in the classes of an index, by name where both have names; and what was lost."""
    if layout.labels == "none" or source.labels is None:
        return None, ()
    many = source.labels.ndim == 2
    if many and layout.labels == "ids":
        raise InputError(f"{source.name}: must have one class per item, as the index, got several labels")
    if not source.class_names or not layout.class_names:
        return source.labels, ()
    if not many and len(source.labels) and source.labels.max() >= len(source.class_names):
        raise InputError(
            f"{source.name}: labels must be below {len(source.class_names)}, the number of its class names, got "
            f"{source.labels.max()}"
        )
    known = {name: number for number, name in enumerate(layout.class_names)}
    places = np.array([known.get(name, -1) for name in source.class_names], np.int64)
    lost = [name for name, place in zip(source.class_names, places, strict=True) if place < 0]
    remarks = (
        (f"{source.name}: classes that the index does not know are left out: {', '.join(lost)}",)
        if lost
        else ()
    )
    if layout.labels == "ids":
        return np.where(source.labels >= 0, places[source.labels], -1), remarks
    hot = np.zeros((source.n_items, len(known)), np.uint8)
    if many:
        hot[:, places[places >= 0]] = source.labels[:, places >= 0]
    else:
        rows = np.flatnonzero((source.labels >= 0) & (places[source.labels] >= 0))
        hot[rows, places[source.labels[rows]]] = 1
    return hot, remarks


def _ids_as(source: Source, layout: Layout) -> Sequence[Any] | None:
    """The ids of a source in the kind of the index; None where items are counted on."""
    if source.ids is None:
        return None if layout.ids == "int64" else [str(row) for row in range(source.n_items)]
    if layout.ids == "text":
        return source.ids
    for id in source.ids:
        if not _INTEGER.fullmatch(id) or not -(1 << 63) <= int(id) < 1 << 63:
            raise InputError(
                f"{source.name}: ids must be integers of 64 bits in this index, got {id[:100]!r}"
            )
    return [int(id) for id in source.ids]


def _of_codes(file: CodeFile, name: str, layout: Layout) -> Source:
    if (file.n_bits, file.score) != (layout.n_bits, layout.score):
        raise InputError(
            f"{name}: must hold codes of {layout.n_bits} bits ranked by {layout.score}, as the index, got "
            f"{file.n_bits} bits and {file.score}"
        )
    if file.model and layout.model and file.model != layout.model:
        raise InputError(
            f"{name}: must hold codes of the model {layout.model!r}, as the index, got {file.model!r}"
        )
    return Source(name, len(file), file.ids, file.labels, file.class_names, (), file.codes, None)


def _of_run(run: Run, name: str, layout: Layout) -> Source:
    if layout.vectors == "none":
        return _of_codes(stored_part(run, "database"), name, layout)
    if layout.model and layout.model != model_name(run):
        raise InputError(
            f"{name}: must be the model {layout.model!r}, as the index has, got {model_name(run)!r}"
        )
    found = _of_dataset(run.dataset, name, run.hasher)
    items = run.split.database
    return replace(
        found,
        n_items=len(items),
        ids=tuple(map(str, items)) if found.ids is None else tuple(found.ids[i] for i in items),
        labels=None if found.labels is None else found.labels[items],
        inputs=_Chosen(found.inputs, items),
    )


class _Chosen:
    """Some rows of an array, read as an array is."""

    def __init__(self, inputs: Any, items: np.ndarray) -> None:
        self._inputs, self._items = inputs, items

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self._inputs[self._items[rows]]


def _of_dataset(dataset: Dataset, name: str, hasher: Hasher) -> Source:
    reading = dataset.reading
    remarks = (f"{name}: {reading.line()}",) if reading is not None and not reading.complete else ()
    return Source(
        name,
        dataset.n_items,
        dataset.ids,
        dataset.labels,
        dataset.class_names,
        remarks,
        dataset.inputs,
        hasher,
    )


def layout_of_run(run: Run) -> dict[str, Any]:
    """What :meth:`dshc.HashIndex.create` is told for the codes of a run."""
    kind = run.hasher.method.spec.label_kind
    known = kind in ("ids", "multi-hot")
    return {
        "hasher": run.hasher,
        "ids": "text",
        "labels": kind if known else "none",
        "class_names": run.hasher.class_names if known else None,
        "model": model_name(run),
    }


def vector_length(hasher: Hasher) -> int:
    """Of what :meth:`Source.vectors` gives of items that this hasher encodes."""
    return hasher.item_shape[0] if hasher.kind == "features" else hasher.method.spec.n_features


def calibrate_by_run(index: HashIndex, run: Run) -> np.ndarray | None:
    """Measure precision within each radius by the run's validation items, which are left out of what is searched.

    None where the run has none, or none with labels.
    """
    if not len(run.split.validation) or run.dataset.labels is None:
        return None
    file = encode_part(run, "validation", keep=False)[0]
    return index.calibrate(file.codes, file.labels, ids=file.ids)
