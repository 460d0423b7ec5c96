"""A set of which pairs are known instead of labels: what ``dshc train ITEMS --pairs FILE`` trains on.

A method that learns from pairs gets them as they are. For any other the labels are recovered from them
(:mod:`dshc.data.pair_labels`); labels that the items come with are left aside. What was recovered is kept in the cache,
for it may take minutes, under a fingerprint of the pairs.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import methods
from ..data import Dataset, Reading
from ..data.pair_labels import VERSION, PairLabels, labels_from_pairs
from ..data.pairs import Pairs, read_pairs
from ..errors import InputError
from ..storage import cache_folder, fingerprint, load_arrays, save_arrays
from .settings import RunSettings

__all__ = ["with_pairs"]

_KIND = "dshc.pair-labels/1"


def with_pairs(dataset: Dataset, settings: RunSettings) -> Dataset:
    """The set with the pairs that ``data.pairs`` names, or with labels recovered from them (``data.recover``).

    Items without a label, where each has one, are left out, and the set says so. Raises
    :class:`dshc.errors.InputError` naming what is wrong about the file or its pairs.
    """
    source = settings.data
    assert source.pairs is not None
    pairs = read_pairs(Path(source.pairs), dataset.n_items, dataset.ids)
    known = Reading(dataset.n_items, what="item") if dataset.reading is None else dataset.reading
    if source.recover is None and "pairs" in methods.get(settings.method.name).label_kinds:
        if pairs.n_similar == pairs.n_pairs:  # one code for all items would fit them best
            raise InputError(
                f"{settings.method.name} must be given pairs that are not similar, too, got none in {source.pairs}; "
                "--recover markov finds labels in similar pairs alone"
            )
        note = f"trained on {pairs}"
        return replace(dataset, labels=None, class_names=(), pairs=pairs, reading=_with_note(known, note))
    found = _recovered(pairs, source.recover or "auto")
    kind = "classes" if found.labels.ndim == 1 else "labels"
    note = f"{found.n_classes} {kind} by {found.how} from {pairs}, with which they agree to {found.agreement:.4f}"
    if found.labels.ndim == 1 and found.n_left_out:
        note += f"; {found.n_left_out:,} items without one are left out"
        dataset, labels = _without(dataset, found.labels < 0), found.labels[found.labels >= 0]
    else:
        labels = found.labels
    names = tuple(
        f"{'class' if found.labels.ndim == 1 else 'label'} {number}" for number in range(found.n_classes)
    )
    return replace(dataset, labels=labels, class_names=names, reading=_with_note(known, note))


def _recovered(pairs: Pairs, how: str) -> PairLabels:
    key = fingerprint({"version": VERSION, "pairs": pairs.digest(), "how": how})
    path = cache_folder() / "pair-labels" / f"{key}.safetensors"
    try:
        arrays, about = load_arrays(path, _KIND)
        return PairLabels(
            arrays["labels"], about["how"], float(arrays["agreement"]), int(arrays["n_classes"])
        )
    except (OSError, ValueError, KeyError):
        pass  # not there, or damaged: made anew
    found = labels_from_pairs(pairs, how)  # type: ignore[arg-type]
    numbers = {"agreement": np.float64(found.agreement), "n_classes": np.int64(found.n_classes)}
    arrays = {"labels": found.labels, **{name: np.asarray(value) for name, value in numbers.items()}}
    try:
        save_arrays(path, _KIND, arrays, {"how": found.how})
    except OSError as error:
        warnings.warn(f"labels are not kept for the next time ({path}: {error.strerror})", stacklevel=2)
    return found


def _without(dataset: Dataset, left_out: np.ndarray) -> Dataset:
    """The set without some items, its own labels and published split, and its test part where one of both is empty."""
    kept = np.flatnonzero(~left_out)
    test = None if dataset.test_mask is None else dataset.test_mask[kept]
    if test is not None and (test.all() or not test.any()):
        test = None
    return replace(
        dataset,
        inputs=dataset.inputs[kept] if isinstance(dataset.inputs, np.ndarray) else dataset.inputs.take(kept),
        labels=None,
        class_names=(),
        test_mask=test,
        ids=None if dataset.ids is None else tuple(dataset.ids[item] for item in kept),
        published=None,
    )


def _with_note(reading: Reading, note: str) -> Reading:
    return replace(reading, notes=(*reading.notes, note))
