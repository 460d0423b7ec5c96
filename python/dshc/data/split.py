"""Which items are queries, database, training and validation: a frozen, checksummed record."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ..storage.whole_files import write_whole
from .dataset import Dataset

__all__ = ["Split"]

_SCHEMA = "dshc.split/1"
NO_LABELS = "no labels"
_PAIRS = "pairs "  # and their digest: of items of which pairs are known
_PARTS = ("query", "database", "train", "validation")


@dataclass(frozen=True, eq=False)
class Split:
    """A protocol applied to a set. Made by :func:`dshc.data.make_split`; equal where the checksums are equal.

    Fields:

    * ``protocol``, ``seed``: what made it.
    * ``query``, ``database``, ``train``, ``validation``: int64, rising item numbers of the set. No query is
      in any other part; train and validation share no item; where the protocol's database is the training
      set, it is both of them.
    * ``n_items``: size of the set. ``dropped``: items chosen as queries and left out of everything, for they
      have no label.
    * ``labels_digest``: SHA-256 of the set's labels, or of its pairs.
    * ``checksum``: the first 16 hexadecimal digits of the SHA-256 over all of the above. Two runs that print
      the same one used the same items, in the same order and with the same labels, in the same roles (the
      pixels are not in it).
    * ``run``: the id of the run whose file this is; None outside of runs. Not in the checksum.

    Raises ``ValueError`` where the parts break these rules or the checksum is not theirs.
    """

    protocol: str
    seed: int
    query: np.ndarray
    database: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    n_items: int
    dropped: int
    labels_digest: str
    checksum: str
    run: str | None = None

    def __post_init__(self) -> None:
        for name in _PARTS:
            part = getattr(self, name)
            if part.dtype != np.int64 or part.ndim != 1:
                raise ValueError(f"{name} must be int64 (n,), got {part.dtype} of shape {part.shape}")
            if len(part) and (part[0] < 0 or part[-1] >= self.n_items or (np.diff(part) <= 0).any()):
                raise ValueError(f"{name} does not hold rising item numbers below {self.n_items}")
        labelled = self.labels_digest != NO_LABELS and not self.labels_digest.startswith(_PAIRS)
        for name in ("query", "database", "train") if labelled else ("database", "train"):
            if not len(getattr(self, name)):
                raise ValueError(f"{name} is empty")
        for name in ("database", "train", "validation"):
            if shared := len(np.intersect1d(self.query, getattr(self, name), assume_unique=True)):
                raise ValueError(f"{shared} queries are in {name} too")
        if shared := len(np.intersect1d(self.train, self.validation, assume_unique=True)):
            raise ValueError(f"{shared} items are in both train and validation")
        found = _checksum(
            *(getattr(self, field.name) for field in fields(self) if field.name not in ("checksum", "run"))
        )
        if self.checksum != found:
            raise ValueError(f"the checksum must be {found}, got {self.checksum}")

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        protocol: str,
        seed: int,
        *,
        query: np.ndarray,
        database: np.ndarray,
        train: np.ndarray,
        validation: np.ndarray,
        dropped: int = 0,
    ) -> Split:
        """A split of ``dataset`` from item numbers in any order; computes the checksum."""
        parts = [np.sort(np.asarray(part, np.int64)) for part in (query, database, train, validation)]
        values = (protocol, seed, *parts, dataset.n_items, dropped, labels_digest(dataset))
        return cls(*values, checksum=_checksum(*values))

    def __eq__(self, other: object) -> bool:
        return self.checksum == other.checksum if isinstance(other, Split) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.checksum)

    def check(self, dataset: Dataset) -> None:
        """Raise ``ValueError`` unless this split was made for exactly these labels."""
        if self.n_items != dataset.n_items:
            raise ValueError(
                f"{dataset.name}: must have {self.n_items} items as split {self.checksum} has, got {dataset.n_items}"
            )
        if self.labels_digest != labels_digest(dataset):
            raise ValueError(f"split {self.checksum} was made for other labels than those of {dataset.name}")

    def summary(self) -> str:
        """One line to print: the protocol, the seed, the sizes and the checksum."""
        sizes = f"{len(self.query)} queries, {len(self.database)} database"
        sizes += f", {len(self.train)} train, {len(self.validation)} validation"
        dropped = f", {self.dropped} queries without a label dropped" if self.dropped else ""
        return f"protocol {self.protocol}, seed {self.seed}, split {self.checksum}: {sizes}{dropped}"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the split as JSON (schema ``dshc.split/1``), whole or not at all; returns the path."""
        content = {"schema": _SCHEMA} | {field.name: getattr(self, field.name) for field in fields(self)}
        content |= {name: getattr(self, name).tolist() for name in _PARTS}
        if self.run is None:
            del content["run"]
        return write_whole(path, json.dumps(content, separators=(",", ":")) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str], dataset: Dataset | None = None) -> Split:
        """Read what ``save`` wrote and check it; with ``dataset`` also that it was made for its labels.

        Raises ``ValueError`` naming the file where it is missing, damaged, changed or for another set.
        """
        try:
            content = json.loads(Path(path).read_bytes())
        except OSError as error:
            raise ValueError(f"{path}: the split cannot be read ({error.strerror})") from None
        except ValueError as error:  # JSON and UTF-8 errors
            raise ValueError(f"{path}: damaged, no split file ({error})") from None
        try:
            split = cls._from_json(content)
            if dataset is not None:
                split.check(dataset)
        except ValueError as error:
            raise ValueError(f"{path}: refused as a split, {error}") from None
        return split

    @classmethod
    def _from_json(cls, content: object) -> Split:
        if not isinstance(content, dict) or content.get("schema") != _SCHEMA:
            found = content.get("schema") if isinstance(content, dict) else type(content).__name__
            raise ValueError(f"the schema must be {_SCHEMA!r}, got {found!r}")
        kinds = {field.name: str for field in fields(cls) if field.name != "run" or "run" in content}
        kinds |= dict.fromkeys(_PARTS, list) | dict.fromkeys(("seed", "n_items", "dropped"), int)
        if unequal := set(content) ^ {"schema", *kinds}:
            raise ValueError(f"the fields {', '.join(sorted(unequal))} are missing or unknown")
        values = {name: content[name] for name in kinds}
        for name, kind in kinds.items():
            if type(values[name]) is not kind:
                raise ValueError(f"{name} must be {kind.__name__}, got {type(values[name]).__name__}")
        for name in _PARTS:
            if not all(type(item) is int and 0 <= item < 2**63 for item in values[name]):
                raise ValueError(f"{name} holds something else than item numbers")
            values[name] = np.array(values[name], np.int64)
        return cls(**values)


def _checksum(
    protocol: str,
    seed: int,
    query: np.ndarray,
    database: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    n_items: int,
    dropped: int,
    labels_digest: str,
) -> str:
    digest = hashlib.sha256(json.dumps([_SCHEMA, protocol, seed, n_items, dropped, labels_digest]).encode())
    for name, part in zip(_PARTS, (query, database, train, validation), strict=True):
        digest.update(f"\n{name} {len(part)}\n".encode())
        digest.update(part.astype("<i8").tobytes())
    return digest.hexdigest()[:16]


def labels_digest(dataset: Dataset) -> str:
    """SHA-256, hexadecimal, over shape and values of the labels (or over pairs), the same on every platform."""
    if dataset.labels is None:
        return NO_LABELS if dataset.pairs is None else f"{_PAIRS}{dataset.pairs.digest()}"
    kind = "<i8" if dataset.labels.ndim == 1 else "u1"
    digest = hashlib.sha256(f"{kind} {dataset.labels.shape}\n".encode())
    digest.update(np.ascontiguousarray(dataset.labels, kind).tobytes())
    return digest.hexdigest()
