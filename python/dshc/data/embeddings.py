"""Arrays of one's own, embeddings or images with labels: ``.npy``, ``.npz``, ``.safetensors``; no pickle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .dataset import Dataset
from .item_labels import is_plain_integer

__all__ = ["SUFFIXES", "load_arrays", "read_arrays"]

SUFFIXES = (".npy", ".npz", ".safetensors")
_INPUT_KEYS = ("features", "embeddings", "images", "x")
_LABEL_KEYS = ("labels", "y")
_NAME_KEYS = ("class_names", "label_names")


def load_arrays(path: Path, *, labels: Path | None = None) -> Dataset:
    """The set in one array file; without labels its ``labels`` are None.

    * ``.npy``: the inputs alone. * ``.npz``: inputs under ``features``, ``embeddings``, ``images`` or ``x``;
      optional ``labels`` or ``y``, ``class_names`` or ``label_names``, ``ids``, ``n_train`` (items from there
      on are the official test part). Bits packed by ``np.packbits`` along the rows are understood where
      ``n_features`` or ``n_labels`` gives their number. * ``.safetensors``: the same names as tensors;
      ``ids``, ``class_names`` and ``n_train`` in the metadata, as JSON.
    * ``labels``: a file of labels, in place of those inside: ``.npy``, or text with one class name per line.

    Inputs ``(n, d)`` of any real dtype are features and become float32; uint8 ``(n, h, w, c)`` with c 1 or 3,
    or ``(n, h, w)``, are images. Labels: integers or text ``(n,)``, sorted and numbered from 0 unless names
    for 0..C-1 are given, or multi-hot ``(n, L)`` of 0 and 1.

    Raises ``ValueError`` or ``TypeError`` naming the file: missing, damaged, NaN or infinity, labels that do
    not fit.
    """
    content = read_arrays(path)
    where, inputs = _take(content, _INPUT_KEYS, path)
    if inputs is None:
        raise ValueError(
            f"{path}: must hold an array {' | '.join(_INPUT_KEYS)}, got {', '.join(sorted(content)) or 'nothing'}"
        )
    inputs = _unpack(inputs, content.get("n_features"), f"{path}: {where}")
    kind, inputs = _as_inputs(inputs, f"{path}: {where}")
    names = _strings(_take(content, _NAME_KEYS, path)[1], f"{path}: class names")
    if labels is None:
        key, raw = _take(content, _LABEL_KEYS, path)
        origin = f"{path}: {key}"
        raw = None if raw is None else _unpack(raw, content.get("n_labels"), origin)
    else:
        origin, raw = str(labels), _read_labels_file(labels)
    if raw is not None and not raw.ndim:
        raise ValueError(f"{origin}: labels must have shape (n,) or (n, n_labels), got ()")
    if raw is not None and len(raw) != len(inputs):
        raise ValueError(f"{origin}: {len(raw)} labels for {len(inputs)} items")
    label_array, class_names = (None, ()) if raw is None else _as_labels(raw, names, origin)
    test_mask = None
    if (n_train := content.get("n_train")) is not None:
        n_train = _count(n_train, f"{path}: n_train")
        if not 0 < n_train < len(inputs):
            raise ValueError(
                f"{path}: n_train must be 1 to {len(inputs) - 1} for {len(inputs)} items, got {n_train}"
            )
        test_mask = np.arange(len(inputs)) >= n_train
    ids = _strings(content.get("ids"), f"{path}: ids")
    try:
        return Dataset(path.stem, kind, inputs, label_array, class_names, test_mask, ids)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of the file by name; a bare array is called ``x``."""
    try:
        with path.open("rb"):  # so that it can be read
            pass
        if path.suffix.lower() == ".safetensors":
            return _read_safetensors(path)
        with path.open("rb") as file:  # np.load leaves a damaged file open
            if not _is_numpy(file):
                raise ValueError("its first bytes are those of no array of numpy")
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"x": loaded}
            with loaded:
                return {key: loaded[key] for key in loaded.files}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except PermissionError:
        raise
    except Exception as error:  # zip, zlib, header and JSON errors, by the dozen
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path}: must hold plain arrays, got Python objects (a pickle), which are never read"
            ) from None
        raise ValueError(f"{path}: damaged or of another format ({error})") from None


def _is_numpy(file: BinaryIO) -> bool:
    start = file.read(6)
    file.seek(0)
    return (
        start == b"\x93NUMPY" or start[:2] == b"PK" or start[:1] == b"\x80"
    )  # the last is a pickle, refused by name


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    import torch
    from safetensors import safe_open

    content: dict[str, np.ndarray] = {}
    # Through torch, since numpy has no bfloat16.
    with safe_open(path, framework="pt") as file:
        for key in file.keys():
            tensor = file.get_tensor(key)
            content[key] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        metadata = file.metadata() or {}
    for key in ("ids", *_NAME_KEYS, "n_train"):
        if key in metadata and key not in content:
            content[key] = np.array(json.loads(metadata[key]))
    return content


def _read_labels_file(path: Path) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        content = read_arrays(path)
        if "x" not in content or len(content) > 1:
            raise ValueError(f"{path}: a .npy file of labels must hold one array, got an archive")
        return content["x"]
    if suffix not in (".txt", ".csv"):
        raise ValueError(
            f"{path}: a file of labels must be .npy, or .txt or .csv with one class name per line, got {path.suffix!r}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: labels cannot be read ({error})") from None
    lines = [line.strip() for line in text.splitlines()]
    if "" in lines:
        raise ValueError(f"{path}: line {lines.index('') + 1} must be a class name, it is empty")
    if all(is_plain_integer(line) for line in lines):
        return np.array([int(line) for line in lines], np.int64)  # numbers sort as numbers: 10 comes after 9
    return np.array(lines, np.str_)


def _take(content: dict[str, np.ndarray], keys: tuple[str, ...], path: Path) -> tuple[str, np.ndarray | None]:
    """The one array that is there under any of the names."""
    found = [key for key in keys if key in content]
    if len(found) > 1:
        raise ValueError(f"{path}: must have one of {' and '.join(found)}, got both")
    return (found[0], content[found[0]]) if found else (keys[0], None)


def _count(value: np.ndarray, name: str) -> int:
    if value.size != 1 or value.dtype.kind not in "iu":
        raise TypeError(f"{name} must be one integer, got {value.dtype} of shape {value.shape}")
    return int(value.reshape(()))


def _unpack(values: np.ndarray, count: np.ndarray | None, name: str) -> np.ndarray:
    """Rows of ``np.packbits`` back to 0 and 1 where ``count`` says how many they were."""
    if count is None:
        return values
    n = _count(count, f"{name}: number of columns")
    if values.ndim == 2 and values.shape[1] == n:
        return values
    if values.dtype != np.uint8 or values.ndim != 2 or values.shape[1] != (n + 7) // 8:
        raise ValueError(
            f"{name} must have {n} columns, plain or packed in uint8, got dtype {values.dtype} and shape {values.shape}"
        )
    return np.unpackbits(values, axis=1, count=n)


def _as_inputs(values: np.ndarray, name: str) -> tuple[str, np.ndarray]:
    if values.ndim == 3 or values.ndim == 4:
        if values.dtype != np.uint8:
            raise TypeError(
                f"{name} must be uint8 where it has {values.ndim} dimensions (images), got {values.dtype}"
            )
        images = values if values.ndim == 4 else values[..., None]
        if images.shape[3] not in (1, 3):
            raise ValueError(
                f"{name} must have shape (n, h, w, c), c 1 or 3, or (n, h, w) to be images, got {values.shape}"
            )
        return "images", np.ascontiguousarray(images)
    if values.ndim != 2:
        raise ValueError(f"{name} must be features (n, d) or images (n, h, w, c), got shape {values.shape}")
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be real numbers, got {values.dtype}")
    with np.errstate(over="ignore"):  # what overflows float32 becomes infinity and is refused by name
        return "features", np.ascontiguousarray(values, np.float32)


def _as_labels(
    raw: np.ndarray, names: tuple[str, ...] | None, origin: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    if raw.ndim == 2 and raw.shape[1] < 2:
        raise ValueError(f"{origin}: labels must have shape (n,) or (n, L), L at least 2, got {raw.shape}")
    if raw.ndim == 2:
        if raw.dtype.kind not in "biuf" or not np.isin(raw, (0, 1)).all():
            raise ValueError(
                f"{origin}: labels of two dimensions must be multi-hot, 0 and 1 (class ids have shape (n,)), got others"
            )
        names = names or tuple(str(i) for i in range(raw.shape[1]))
        if len(names) != raw.shape[1]:
            raise ValueError(f"{origin}: {len(names)} names for {raw.shape[1]} labels")
        if len(set(names)) < len(names):
            raise ValueError(f"{origin}: class names must differ, got {_repeated(names)!r} more than once")
        return np.ascontiguousarray(raw, np.uint8), names
    if raw.ndim != 1 or raw.dtype.kind not in "iuU":
        raise TypeError(
            f"{origin} must be integers or text (n,), or multi-hot (n, n_labels), got dtype {raw.dtype} and shape "
            f"{raw.shape}"
        )
    if names is not None and len(set(names)) < len(names):
        raise ValueError(f"{origin}: class names must differ, got {_repeated(names)!r} more than once")
    if names is not None and raw.dtype.kind == "U":
        numbers = {name: number for number, name in enumerate(names)}
        if unknown := [str(name) for name in np.unique(raw) if str(name) not in numbers]:
            raise ValueError(f"{origin}: labels must be among the class names, got {unknown[0]!r}")
        return np.array([numbers[str(name)] for name in raw], np.int64), names
    if names is not None:
        if raw.min(initial=0) < 0 or raw.max(initial=0) >= len(names):
            raise ValueError(
                f"{origin}: class ids from {raw.min()} to {raw.max()} for {len(names)} class names"
            )
        return raw.astype(np.int64), names
    values, ids = np.unique(raw, return_inverse=True)
    return ids.astype(np.int64), tuple(str(value) for value in values)


def _repeated(names: Sequence[str]) -> str:
    """The first name that was there before."""
    return next(name for number, name in enumerate(names) if name in names[:number])


def _strings(values: np.ndarray | None, name: str) -> tuple[str, ...] | None:
    if values is None:
        return None
    if values.ndim != 1 or values.dtype.kind not in "Uiu":
        raise TypeError(
            f"{name} must be one-dimensional text, got dtype {values.dtype} and shape {values.shape}"
        )
    return tuple(str(value) for value in values)
