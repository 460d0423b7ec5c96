"""The settings of a training run: one dataclass, read from TOML, overridden by flags, written into the run
folder.

A setting left at None is chosen from the data when the run starts (:meth:`Config.resolved`), and the file in
the run folder holds what was chosen.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import tomllib
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .choices import MAX_THREADS
from .codebooks import DEFAULT_STEPS, constructions, default_bits
from .data import Dataset, available
from .files import write_whole

__all__ = ["RECIPES", "Config", "default_folder"]


def _setting(default: Any, text: str, choices: tuple[str, ...] = ()) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, "choices": choices})


RECIPES: dict[str, dict[str, Any]] = {
    "features": {
        "backbone": "mlp",
        "width": 512,
        "epochs": 40,
        "batch_size": 128,
        "optimizer": "adamw",
        "lr": 2e-3,
    },
    "images": {
        "backbone": "small_net",
        "width": 64,
        "epochs": 30,
        "batch_size": 128,
        "optimizer": "sgd",
        "lr": 0.1,
    },
    "digits": {"width": 32, "epochs": 30, "batch_size": 64},
    "mnist": {"width": 32, "epochs": 8},
    # Without crops the training images, which are the database, are classified nearly all right; mAP is about the
    # product of query and database accuracy, so that this is worth more than the last tenths on the queries.
    "fashion-mnist": {"width": 48, "epochs": 12, "flip": True, "augment": False},
    "cifar10": {"flip": True},
    "cifar100": {"flip": True},
    "cifar100-coarse": {"flip": True},
}
"""What None means, by kind of input and then by data set."""


@dataclass(frozen=True)
class Config:
    """Every setting of a run.

    Raises ``ValueError`` or ``TypeError`` naming the setting, what came and what is taken.
    """

    dataset: str = _setting("digits", "a named set, a folder of class folders, or a file of embeddings")
    root: str | None = _setting(None, "folder of the official files of a named set")
    labels: str | None = _setting(None, "file of labels for embeddings that hold none")
    image_size: int | None = _setting(None, "side to which images of a folder are brought")
    n_channels: int | None = _setting(None, "1 or 3: take images of a folder as grey or RGB")
    skip_unreadable: bool = _setting(False, "leave out images that cannot be read, with a warning")
    protocol: str = _setting("default", "which items are queries, database and training")
    validation: float = _setting(0.1, "share of the training items kept for selecting the model")
    seed: int = _setting(0, "seed of split, codebook, weights, order and augmentation")

    method: str = _setting("dshc", "hashing method")
    bits: int | None = _setting(
        None, "code length; None: 3 bits a class (separated: as few as separate; multi-label: one a label)"
    )
    construction: str = _setting("cpbc", "how codes are laid out", constructions())
    threshold: int = _setting(3, "kbc: least distance of a sub-code to the centers of other classes")
    radius: int = _setting(1, "sub-codes of a class are those within this distance of its center")
    sub_codes: int | None = _setting(None, "most sub-codes a class, the nearest to its center; None: all")
    search_steps: int = _setting(DEFAULT_STEPS, "separated: steps of each search for a better code")
    per_class: int | None = _setting(None, "sub-codes of a class that are used, those far apart; None: all")
    subclass: str = _setting(
        "uniform", "what a sub-class means: nothing (the paper's loss) or learned", ("uniform", "learned")
    )
    assignment: str = _setting(
        "kmeans", "learned: how items are assigned to sub-classes of their class", ("kmeans", "sinkhorn")
    )
    assigned_share: float = _setting(0.5, "learned: share of the target on the assigned sub-class")
    queue: int = _setting(0, "learned by sinkhorn: recent rows a class that are balanced with the batch")
    topk: int = _setting(1, "sub-classes whose codes are averaged; 0: the center of the likeliest class")
    weighting: str = _setting("mean", "weights of that average", ("mean", "probability"))
    target: str = _setting(
        "normalized", "weight of a sub-class in the loss: 1/m_c or the paper's 1/H", ("normalized", "paper")
    )
    label_threshold: float = _setting(0.0, "multi-label: logit above which a label is predicted")

    backbone: str | None = _setting(None, "small_net, mlp or timm:NAME")
    width: int | None = _setting(None, "channels of small_net's first stage, units of mlp's layers")
    weights: str | None = _setting(None, "timm:NAME: file of weights to start from (.safetensors, .pth)")

    epochs: int | None = _setting(None, "passes over the training items")
    batch_size: int | None = _setting(None, "items a step")
    optimizer: str | None = _setting(None, "optimizer", ("sgd", "adamw"))
    lr: float | None = _setting(None, "peak learning rate")
    weight_decay: float = _setting(5e-4, "weight decay; not on biases and normalisation")
    schedule: str = _setting("cosine", "learning rate over time", ("cosine", "onecycle"))
    augment: bool | None = _setting(None, "random crops of training images")
    flip: bool | None = _setting(None, "random mirroring of training images")

    precision: str = _setting("fp32", "arithmetic", ("fp32", "bf16"))
    device: str = _setting("auto", "where to run", ("auto", "cpu", "cuda"))
    threads: int | None = _setting(None, "CPU threads; None: as torch has it")
    checkpoint_every: int | None = _setting(None, "steps between checkpoints; None: once an epoch")
    out: str | None = _setting(None, "run folder; None: runs/ and the name of the data")

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for setting in dataclasses.fields(self):
            value = _as_type(setting.name, getattr(self, setting.name), hints[setting.name])
            object.__setattr__(self, setting.name, value)
            choices = setting.metadata["choices"]
            if choices and value is not None and value not in choices:
                raise ValueError(f"{setting.name}: got {value!r}, expected one of {', '.join(choices)}")
        for name in ("seed", "threshold", "radius", "search_steps", "queue", "topk", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected at least 0")
        for name in (
            "bits", "sub_codes", "per_class", "image_size", "width", "epochs", "batch_size", "threads",
            "checkpoint_every",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: got {value}, expected at least 1")
        for name, most in (("seed", 2**63 - 1), ("threads", MAX_THREADS)):
            value = getattr(self, name)
            if value is not None and value > most:
                raise ValueError(f"{name}: got {value}, expected at most {most}")
        if self.lr is not None and not 0 < self.lr:
            raise ValueError(f"lr: got {self.lr}, expected more than 0")
        if not 0 < self.assigned_share <= 1:
            raise ValueError(
                f"assigned_share: got {self.assigned_share}, expected a share of more than 0 and at most 1"
            )
        if not 0 <= self.validation < 1:
            raise ValueError(
                f"validation: got {self.validation}, expected a share of at least 0 and less than 1"
            )

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], **overrides: Any) -> Config:
        """Read a TOML file and override it (see :meth:`override`); unknown keys are refused by name."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        try:
            settings = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: no TOML file ({error})") from None
        try:
            return cls.from_dict(settings).override(**overrides)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{path}: {error}") from None

    @classmethod
    def from_run(cls, folder: str | os.PathLike[str]) -> Config:
        """The config of a run folder, in which nothing is left open.

        Raises ``FileNotFoundError`` where the folder holds no run, ``ValueError`` where the file is damaged.
        """
        path = Path(folder) / "config.toml"
        if not path.is_file():
            raise FileNotFoundError(f"{folder}: holds no run (config.toml is missing)")
        config = cls.from_toml(path)
        for name in ("bits", *RECIPES["images"]):
            if getattr(config, name) is None:
                raise ValueError(f"{path}: damaged, or not of a run ({name} is missing)")
        return config

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Config:
        """A config from a mapping; unknown keys are refused by name."""
        known = [setting.name for setting in dataclasses.fields(cls)]
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
                raise ValueError(f"unknown setting {name!r}{hint}")
        return cls(**settings)

    def override(self, **flags: Any) -> Config:
        """This config with the given flags; a flag of None leaves the setting as it is."""
        given = {name: value for name, value in flags.items() if value is not None}
        return self.from_dict({**dataclasses.asdict(self), **given})

    def resolved(self, dataset: Dataset) -> Config:
        """This config with every None that the data decide filled in; resolving twice changes nothing."""
        recipe = {**RECIPES[dataset.kind], **RECIPES.get(self.dataset, {})}
        chosen = {name: value for name, value in recipe.items() if getattr(self, name) is None}
        for name in ("root", "labels", "weights", "dataset"):  # the run folder may be read from elsewhere
            path = getattr(self, name)
            if path is not None and (name != "dataset" or os.path.exists(path) and path not in available()):
                chosen[name] = os.path.abspath(path)
        if self.bits is None:
            chosen["bits"] = (
                dataset.n_classes
                if dataset.multilabel
                else default_bits(dataset.n_classes, self.construction, self.radius)
            )
        if self.out is None:
            chosen["out"] = default_folder(self.dataset)
        if self.flip is None:
            chosen.setdefault("flip", False)
        if self.augment is None:
            chosen.setdefault("augment", True)
        return dataclasses.replace(self, **chosen)

    def to_toml(self) -> str:
        """The config as TOML, each setting under its description; settings at None are comments."""
        lines = []
        for setting in dataclasses.fields(self):
            value = getattr(self, setting.name)
            choices = setting.metadata["choices"]
            lines.append(f"# {setting.metadata['help']}" + (f" ({' | '.join(choices)})" if choices else ""))
            lines.append(
                f"# {setting.name}: not set" if value is None else f"{setting.name} = {_toml(value)}"
            )
        return "\n".join(lines) + "\n"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the config as TOML, whole or not at all."""
        return write_whole(path, self.to_toml())


def default_folder(dataset: str) -> str:
    """Where a run on a data set goes by default."""
    return f"runs/{Path(dataset).resolve().stem}"


def _as_type(name: str, value: Any, hint: Any) -> Any:
    """``value`` where it is of the annotated type; whole numbers are taken for floats, paths for strings."""
    union = isinstance(hint, types.UnionType)
    taken = typing.get_args(hint) if union else (hint,)
    if value is None and type(None) in taken:
        return None
    kind = taken[0]
    if kind is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise TypeError(f"{name}: got {value!r}, expected {kind.__name__}{' or nothing' if union else ''}")
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{name}: got {value}, expected a finite number")
    return value


def _toml(value: str | bool | int | float) -> str:
    if isinstance(
        value, str
    ):  # a JSON string is a TOML string, the one control character JSON lets through aside
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
