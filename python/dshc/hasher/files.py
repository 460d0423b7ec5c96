"""A hasher on disk: one safetensors file that holds weights and description; in a folder, with a model card.

``model.safetensors`` alone is a whole hasher. ``config.json`` says the same description where people and programs look
for it, and is written last: a folder without it is no hasher yet.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, one_of
from ..storage import load_arrays, save_arrays, write_whole

__all__ = ["CONFIG", "WEIGHTS", "find_weights", "read_description", "read_hasher", "write_hasher"]

KIND = "dshc.hasher/1"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"
_OLD_KIND = "dshc.weights/1"
_CHOICES = ("best", "last")


def write_hasher(
    path: str | os.PathLike[str], state: Mapping[str, Tensor], description: dict[str, Any]
) -> Path:
    """Write weights and description as one file; equal content gives equal bytes."""
    arrays = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in state.items()}
    return save_arrays(path, KIND, arrays, {"hasher": json.dumps(description, sort_keys=True)})


def read_hasher(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and description as :func:`write_hasher` took them.

    Raises ``FileNotFoundError`` where there is no such file, ``ValueError`` naming it where it is something else.
    """
    arrays, metadata = load_arrays(path, KIND, earlier=_OLD_KIND)
    try:
        description = json.loads(metadata["hasher"])
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: damaged, its description cannot be read ({error})") from None
    return {name: torch.from_numpy(array) for name, array in arrays.items()}, description


def find_weights(source: str | os.PathLike[str], weights: str | None = None) -> Path:
    """The file of weights that ``source`` means: a file, a saved hasher's folder, a run, or a name on the hub.

    ``weights`` ``"best"`` or ``"last"`` chooses in a run; without it the selected ones are taken where there are
    some. Raises ``FileNotFoundError`` or :class:`InputError` naming what is missing.
    """
    path = Path(source)
    if weights not in (None, *_CHOICES):
        raise one_of("weights", weights, _CHOICES)
    if weights is not None and not path.is_dir():
        raise InputError(f"weights must go with the folder of a run, got {weights!r} and {source}")
    if path.is_file():
        return path
    if not path.is_dir():
        name = os.fspath(source)
        if not path.is_absolute() and name.count("/") == 1 and not name.startswith("."):
            return _from_hub(name)
        raise FileNotFoundError(f"{path}: no such file or folder")
    if weights is not None:
        return path / f"{weights}.safetensors"
    if (path / CONFIG).is_file():
        return path / WEIGHTS
    for name in _CHOICES:
        if (path / f"{name}.safetensors").is_file():
            return path / f"{name}.safetensors"
    raise FileNotFoundError(
        f"{path}: holds no hasher ({CONFIG} and {WEIGHTS}) and no finished run (best.safetensors)"
    )


def read_description(path: Path) -> dict[str, Any] | None:
    """What config.json beside the weights says; None where there is none."""
    config = path.parent / CONFIG
    if path.name != WEIGHTS or not config.is_file():
        return None
    try:
        return json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{config}: damaged, no JSON ({error})") from None


def save_folder(folder: Path, state: Mapping[str, Tensor], description: dict[str, Any], card: str) -> Path:
    """Weights, model card and, last, config.json.

    Raises :class:`InputError` where files of these names are there that are no hasher's.
    """
    for name in (CARD, CONFIG):
        if (folder / name).exists() and not (folder / WEIGHTS).exists():
            raise InputError(f"folder must hold no {name} but that of a saved hasher, got one in {folder}")
    write_hasher(folder / WEIGHTS, state, description)
    write_whole(folder / CARD, card)
    write_whole(folder / CONFIG, json.dumps(description, indent=2, sort_keys=True) + "\n")
    return folder


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise FileNotFoundError(
            f"{name}: no such file or folder; to load it from a hub of that name, pip install huggingface_hub"
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=[WEIGHTS, CONFIG])) / WEIGHTS
    except Exception as error:  # the hub's errors have many types: no network, no such name, no right to it
        raise FileNotFoundError(
            f"{name}: no such file or folder here, nor to be had from the hub ({error})"
        ) from None
