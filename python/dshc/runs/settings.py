"""The settings of a run: the tables of all layers, read from TOML, overridden by name, written into the run folder.

A setting left at None is chosen from data and method when the run starts (:meth:`RunSettings.resolved`), and the
file in the run folder holds what was chosen.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import field_validator

from .. import methods
from ..backbones import EncoderSettings
from ..data import Dataset, available, printable
from ..data.settings import DataSettings
from ..errors import InputError, did_you_mean
from ..methods import MethodSettings
from ..methods.dshc import DSHCSettings
from ..settings import Settings, identity, setting
from ..storage import fingerprint
from ..training.settings import OptimSettings, RuntimeSettings
from .recipes import (
    BY_DATA_SET,
    BY_FINETUNE,
    BY_KIND,
    BY_OPTIMIZER,
    FOR_ALL,
    LEAST_STEPS,
    NOT_AUGMENTED,
)
from .toml import to_toml

__all__ = ["TABLES", "RunSettings", "default_folder", "fields_of", "find", "told_by_toml"]

TABLES = ("data", "encoder", "method", "optim", "runtime")
_PATHS = {"data": ("root", "labels", "pairs", "source"), "encoder": ("weights", "start_from")}


class RunSettings(Settings):
    """Every setting of a run, by table: ``settings.optim.lr``.

    Raises :class:`dshc.errors.InputError` naming the setting, what must hold and what came.

    >>> RunSettings.of(source="digits", bits=20, lr=0.05).optim.lr
    0.05
    """

    out: str | None = setting(None, "run folder (default: runs/ and the name of the data)", result=False)
    data: DataSettings = DataSettings()
    encoder: EncoderSettings = EncoderSettings()
    method: MethodSettings = DSHCSettings()
    optim: OptimSettings = OptimSettings()
    runtime: RuntimeSettings = RuntimeSettings()

    @field_validator("method", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return methods.get(_method_name(value.get("name", "dshc"))).Settings(**value)
        return value

    @field_validator("out")
    @classmethod
    def _is_a_path(cls, value: str | None) -> str | None:
        if value is not None and (not value or "\0" in value):
            raise ValueError(f"out must be the path of a folder, got {value!r}")
        return value

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Settings by their own names (``bits=30``) or with their table (``**{"optim.lr": 0.1}``).

        ``method="itq"`` names the method. Names that two tables share must be given with their table.
        """
        return cls().with_values(**values)

    def with_values(self, **values: Any) -> Self:
        """These settings with some of them changed, by name as in :meth:`of`; None leaves one as it is.

        Another method starts from its own defaults and keeps the code length.
        """
        tables: dict[str, dict[str, Any]] = {name: dict(getattr(self, name).values()) for name in TABLES}
        out, given = self.out, {name: value for name, value in values.items() if value is not None}
        if (name := given.pop("method", given.pop("method.name", None))) is not None:
            if _method_name(name) != self.method.name:
                tables["method"] = {"bits": self.method.bits}
            tables["method"]["name"] = name
        known = fields_of(methods.get(tables["method"]["name"]).Settings)
        for name, value in given.items():
            if name == "out":
                out = os.fspath(value)
                continue
            table, field = find(name, known)
            tables[table][field] = value
        return type(self)(out=out, **tables)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Self:
        """Read a TOML file of tables; unknown names are refused, with the nearest right one.

        The config.toml of a run is one: what it says of the run it is of, [run], is passed over.
        """
        content = read_toml(path)
        content.pop("run", None)
        return cls.from_tables(content, path)

    @classmethod
    def from_tables(cls, content: Mapping[str, Any], path: str | os.PathLike[str]) -> Self:
        """Settings from a TOML file's content; errors name ``path``."""
        _check_tables(content, path)
        try:
            return cls(**content)
        except ValueError as error:
            raise InputError(f"{path}: {error}") from None

    def resolved(self, dataset: Dataset) -> Self:
        """These settings with every None that data and method decide filled in; resolving twice changes nothing.

        Raises :class:`InputError` for augmentation that was asked for where nothing is augmented.
        """
        self.check_augmented(dataset.kind)
        method = methods.get(self.method.name)
        trained = self._trained(dataset)
        chosen = self._recipe(dataset, trained)
        chosen |= {f"method.{n}": v for n, v in method.defaults(self.method, dataset.n_classes).items()}
        # A named set has epochs of its own, for all of its training items.
        whole = self.data.source in available() and self.data.train_per_class is None
        if not whole and "optim.epochs" not in method.recipe:
            batch = self.optim.batch_size or chosen["optim.batch_size"]
            least = LEAST_STEPS[trained or dataset.kind]
            n_items = 0.7 * dataset.n_items  # about so many are trained on
            if self.data.train_per_class is not None and dataset.n_classes:
                n_items = min(
                    n_items, (1 - self.data.validation) * self.data.train_per_class * dataset.n_classes
                )
            chosen["optim.epochs"] = max(chosen["optim.epochs"], _epochs_for(least, n_items, batch))
        asked = self.optim.optimizer
        recipes_rate = chosen["optim.lr"]
        if asked is not None and asked != chosen.get("optim.optimizer"):
            chosen["optim.lr"] = BY_OPTIMIZER[asked]  # a recipe's rate is for the recipe's optimizer
        if "optim.backbone_lr" in chosen:  # the recipe's share of the rate, whatever that is
            rate = self.optim.lr or chosen["optim.lr"]
            chosen["optim.backbone_lr"] *= rate / recipes_rate
        return self.filled(chosen).with_values(out=self.folder, **self.paths())

    def paths(self) -> dict[str, str]:
        """The paths among these settings by ``table.name``, absolute: the run folder may be read from elsewhere.

        Raises :class:`InputError` naming one that is no UTF-8, which TOML cannot hold.
        """
        found = {}
        for table, fields in _PATHS.items():
            for field in fields:
                path = self[f"{table}.{field}"]
                # Named sets, and names on a hub, are no paths.
                named = field in ("source", "start_from") and not os.path.exists(path or "")
                if path is None or named or path in available():
                    continue
                found[f"{table}.{field}"] = whole = os.path.abspath(path)
                if printable(whole) != whole:
                    raise InputError(
                        f"{field} must be a path that is UTF-8, got {printable(whole)}; rename the folder, or give "
                        "the path of a link to it"
                    )
        return found

    def check_augmented(self, kind: str) -> None:
        """Refuse augmentation that was asked for where nothing is augmented; ``kind`` is the data set's.

        A method that is only fitted augments nothing either, and is asked for among others: it passes over them.
        """
        if kind == "images" and self.encoder.finetune != "none":
            return
        for name, value in NOT_AUGMENTED.items():
            if (asked := self[name]) in (None, value):
                continue
            plain, came = (_shown(x) for x in (value, asked))
            why = "a frozen backbone, whose features are computed once" if kind == "images" else "embeddings"
            how = "; --finetune last trains its last blocks on augmented images" if kind == "images" else ""
            raise InputError(f"{name.split('.')[1]} must be {plain} with {why}, got {came}{how}")

    def _trained(self, dataset: Dataset) -> str | None:
        """What of a backbone that brings its own weights is trained; None for one that starts from random ones."""
        encoder = self.encoder
        started = encoder.pretrained or encoder.weights or encoder.start_from
        if not started or dataset.kind != "images" or encoder.timm_name is None:
            return None
        return encoder.finetune or "all"

    def _recipe(self, dataset: Dataset, trained: str | None) -> dict[str, Any]:
        """What None means here, by ``"table.name"``."""
        method = methods.get(self.method.name)
        of_data = {
            **FOR_ALL,
            **BY_KIND[dataset.kind],
            **BY_FINETUNE.get(trained or "", {}),
            **BY_DATA_SET.get(self.data.source, {}),
        }
        recipe = {**of_data, **method.recipe}
        if "optim.backbone_lr" in of_data and "optim.backbone_lr" not in method.recipe:
            # A method's own rate, perhaps of another optimizer, keeps the backbone's share of it.
            recipe["optim.backbone_lr"] *= recipe["optim.lr"] / of_data["optim.lr"]
        # The width of a timm network is that of a layer behind it: only its own recipe has one, and none where nothing
        # would train it (a method that is fitted) or the hasher that the training starts from has none.
        if (self.encoder.backbone or recipe["encoder.backbone"]).startswith("timm:"):
            bare = method.is_fitted() or trained is None or self.encoder.start_from is not None
            recipe["encoder.width"] = None if bare else BY_FINETUNE[trained].get("encoder.width")
        if dataset.kind != "images" or self.encoder.finetune == "none" or method.is_fitted():
            recipe |= NOT_AUGMENTED
        return recipe

    def filled(self, chosen: Mapping[str, Any]) -> Self:
        """These settings with those of ``chosen``, by ``"table.name"``, that are open."""
        return self.with_values(**{name: value for name, value in chosen.items() if self._is_open(name)})

    def _is_open(self, name: str) -> bool:
        """Whether a setting is there, and at None: recipes name some that not every method has."""
        table, field = name.split(".")
        return getattr(getattr(self, table), field, ...) is None

    @property
    def folder(self) -> Path:
        """The run folder: ``out``, or by the name of the data."""
        return Path(self.out or default_folder(self.data.source))

    def __getitem__(self, name: str) -> Any:
        """A setting by table and name: ``settings["optim.lr"]``."""
        table, field = name.split(".")
        return getattr(getattr(self, table), field)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Every setting by ``table.name``, in order."""
        for table in TABLES:
            for name, value in getattr(self, table).values().items():
                yield f"{table}.{name}", value

    def fingerprint(self) -> str:
        """Of every setting that decides what comes out: equal for equal results on the same data."""
        return fingerprint({table: identity(getattr(self, table)) for table in TABLES})

    def to_toml(self, head: Mapping[str, Mapping[str, Any]] | None = None) -> str:
        """As TOML, each setting under its description; settings at None are comments. ``head``: tables before it."""
        return to_toml(self, TABLES, head or {})


def _method_name(value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"method must be one of {', '.join(methods.available())}, got {value!r}")
    return value


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _epochs_for(n_steps: int, n_items: float, batch_size: int) -> int:
    """Epochs over so many training items that come to so many steps."""
    per_epoch = max(1, round(n_items / batch_size))
    return -(-n_steps // per_epoch)


def _check_tables(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    if "dataset" in content:
        raise InputError(
            f"{path}: written by an earlier version, whose settings were no tables; train again, or sort them "
            f"into [{'] ['.join(TABLES)}] (dshc train --help says where each belongs)"
        )
    for name, value in content.items():
        if name not in (*TABLES, "out"):
            hint = did_you_mean(name, TABLES) or f"; it must be one of {', '.join(TABLES)}"
            raise InputError(f"{path}: unknown table {name!r}{hint}")
        if name in TABLES and not isinstance(value, Mapping):
            raise InputError(f"{path}: {name} must be a table, got {value!r}")


def told_by_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a TOML file of settings says, by ``table.name`` and ``out``, without what it leaves open."""
    content = read_toml(path)
    content.pop("run", None)
    _check_tables(content, path)
    told = {f"{table}.{name}": value for table in TABLES for name, value in content.get(table, {}).items()}
    told |= {"out": content["out"]} if content.get("out") is not None else {}
    for name in ("out", "data.source"):  # by which the run is found
        if not isinstance(told.get(name, ""), str):
            raise InputError(f"{path}: {name.rpartition('.')[2]} must be text, got {told[name]!r}")
    return told


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a TOML file; errors name it."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no TOML file ({error})") from None


def default_folder(source: str) -> str:
    """Where a run on a data set goes by default."""
    return f"runs/{printable(Path(source).resolve().stem)}"


def find(name: str, known: Mapping[str, list[str]]) -> tuple[str, str]:
    """Table and field of a setting named alone or with its table; ``known``: tables by field.

    Raises :class:`InputError` with the nearest right name; a setting of another method is told as such.
    """
    table, dot, field = name.rpartition(".")
    if dot:
        tables = known.get(field, [])
        if table in tables:
            return table, field
        if table not in TABLES:
            raise InputError(f"unknown table {table!r} in {name!r}{did_you_mean(table, TABLES)}")
    else:
        tables, field = known.get(name, []), name
        if len(tables) == 1:
            return tables[0], name
        if tables:
            raise InputError(
                f"{name} must be given with its table: {' or '.join(f'{t}.{name}' for t in tables)}"
            )
    if table in ("", "method"):
        owners = [
            method for method in methods.available() if field in methods.get(method).Settings.model_fields
        ]
        if owners:
            raise InputError(f"{name} is a setting of method {', '.join(owners)}, and not of the one chosen")
    raise InputError(
        f"unknown setting {name!r}{did_you_mean(field, known) or '; dshc train --help lists them'}"
    )


def fields_of(method: type[MethodSettings]) -> dict[str, list[str]]:
    """The tables that have a setting, by its name, where the method is this one."""
    models = {table: RunSettings.model_fields[table].annotation for table in TABLES} | {"method": method}
    known: dict[str, list[str]] = {}
    for table, model in models.items():
        for name in model.model_fields:
            known.setdefault(name, []).append(table)
    return known
