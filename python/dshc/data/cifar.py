"""CIFAR-10 and CIFAR-100 from their official python files, which are pickles, without trusting the pickles.

A pickle is a program. The reader here runs it with a vocabulary of three words, all of them needed to rebuild
a numeric array; any other name the file asks for is refused and named, and nothing of the file is ever
called.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from .dataset import Dataset

__all__ = ["load_cifar", "read_plain_pickle"]

_FOLDERS = {
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "cifar100-coarse": "cifar-100-python",
}
# set -> (train files, test file, names file, key of the labels, key of the names)
_LAYOUTS = {
    "cifar10": (
        tuple(f"data_batch_{i}" for i in range(1, 6)),
        "test_batch",
        "batches.meta",
        "labels",
        "label_names",
    ),
    "cifar100": (("train",), "test", "meta", "fine_labels", "fine_label_names"),
    "cifar100-coarse": (("train",), "test", "meta", "coarse_labels", "coarse_label_names"),
}


class _Word:
    """A name a pickle may use. No attributes, so that a pickle cannot change it for the next file."""

    __slots__ = ()


class _Ndarray(_Word):
    """Stands for ``numpy.ndarray``: may be named, not called."""

    __slots__ = ()


class _Reconstruct(_Word):
    """``numpy.core.multiarray._reconstruct``: an empty array whose content follows."""

    __slots__ = ()

    def __call__(self, kind: object, shape: object, typecode: object) -> np.ndarray:
        # Pickles of arrays always start from shape (0,); any other could allocate at will.
        if not isinstance(kind, _Ndarray) or shape != (0,):
            raise pickle.UnpicklingError(f"an array of kind {kind!r} and shape {shape!r}")
        return np.empty(0, np.uint8)


class _Dtype(_Word):
    """``numpy.dtype`` for plain numbers."""

    __slots__ = ()

    def __call__(self, code: object, *_: object) -> np.dtype:
        text = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(text, str) or text.lstrip("<>|=") not in {
            "b1",
            *(k + n for k in "iu" for n in "1248"),
        }:
            raise pickle.UnpicklingError(f"an array of dtype {text!r}")
        # A fresh one: the pickle goes on to set its byte order.
        return np.dtype(text)


class _Latin1(_Word):
    """``_codecs.encode``, by which Python 3 writes bytes into protocol 2, for the one encoding it uses."""

    __slots__ = ()

    def __call__(self, text: object, encoding: object = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise pickle.UnpicklingError(f"text in the encoding {encoding!r}")
        return text.encode("latin1")


class _PlainUnpickler(pickle.Unpickler):
    """Admits arrays of plain numbers, and what pickle builds by itself: containers, text, bytes, numbers."""

    def find_class(self, module: str, name: str) -> _Word:
        match module, name:
            case "numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct":
                return _Reconstruct()
            case "numpy", "ndarray":
                return _Ndarray()
            case "numpy", "dtype":
                return _Dtype()
            case "_codecs", "encode":
                return _Latin1()
        raise pickle.UnpicklingError(f"{module}.{name}, which is neither an array nor a plain container")


def read_plain_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a pickle file of arrays and plain containers, with text keys.

    Files written by Python 2 (as the official ones are) and by Python 3 are both read; text of Python 2 comes
    as bytes. Raises ``ValueError`` naming the file, and the name it asked for if that is why it was refused.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        content = _PlainUnpickler(io.BytesIO(data), encoding="bytes").load()
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path}: refused, the pickle is damaged or asks for {error}") from None
    except Exception as error:  # damaged bytes make the unpickler raise nearly anything
        raise ValueError(f"{path}: damaged or no CIFAR file ({type(error).__name__}: {error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold a dictionary, got a {type(content).__name__}")
    return {_text(key): value for key, value in content.items()}


def load_cifar(name: str, root: Path) -> Dataset:
    """``"cifar10"``, ``"cifar100"`` (fine labels) or ``"cifar100-coarse"`` (20 super-classes) as one set.

    ``root`` is the folder that holds the official ``cifar-10-batches-py`` or ``cifar-100-python``, or that
    folder itself. Items: the training images in official order, then the test images; uint8 ``(60000, 32, 32,
    3)``. Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. Raises
    ``ValueError`` naming the file that is missing, damaged or not of this set.
    """
    train_files, test_file, names_file, label_key, names_key = _LAYOUTS[name]
    folder = _find_folder(root, _FOLDERS[name], (*train_files, test_file, names_file))
    names = read_plain_pickle(folder / names_file).get(names_key)
    if not isinstance(names, list) or not names:
        raise ValueError(f"{folder / names_file}: {names_key!r} must be a list of names, got {names!r:.60}")
    parts = [_read_part(folder / file, label_key, len(names)) for file in (*train_files, test_file)]
    images = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts])
    ids = [id_ for part in parts for id_ in part[2]]
    test_mask = np.zeros(len(labels), bool)
    test_mask[len(labels) - len(parts[-1][1]) :] = True
    return Dataset(
        name,
        "images",
        images,
        labels,
        tuple(_text(n) for n in names),
        test_mask,
        tuple(ids) if len(ids) == len(labels) else None,
    )


def _find_folder(root: Path, folder_name: str, files: tuple[str, ...]) -> Path:
    for folder in (root / folder_name, root):
        missing = [file for file in files if not (folder / file).is_file()]
        if not missing:
            return folder
        if len(missing) < len(files):
            raise ValueError(f"{folder}: the official files {', '.join(missing)} are missing")
    raise ValueError(
        f"{root}: no folder {folder_name} with the official files {', '.join(files)} (root= says where)"
    )


def _read_part(path: Path, label_key: str, n_classes: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images uint8 ``(n, 32, 32, 3)``, class ids int64 ``(n,)`` and file names of one batch file."""
    content = read_plain_pickle(path)
    data, labels = content.get("data"), content.get(label_key)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        came = f"{data.dtype} of shape {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise ValueError(f"{path}: 'data' must be a uint8 array of shape (n, 3072), got {came}")
    wrong: list[object] = [type(labels).__name__]
    if isinstance(labels, list):
        wrong = [repr(label) for label in labels if type(label) is not int or not 0 <= label < n_classes]
    if wrong:
        raise ValueError(
            f"{path}: {label_key!r} must be a list of integers from 0 to {n_classes - 1}, got {wrong[0]}"
        )
    if len(labels) != len(data):
        raise ValueError(f"{path}: {len(labels)} labels for {len(data)} images")
    # Stored as three colour planes an image; one sixth of a well-known preparation came out transposed here.
    images = np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    filenames = content.get("filenames")
    ids = (
        [_text(name) for name in filenames]
        if isinstance(filenames, list) and len(filenames) == len(data)
        else []
    )
    return images, np.array(labels, np.int64), ids


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
