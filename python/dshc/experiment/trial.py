"""One training of a comparison: its settings, its folder, and what is kept of it.

A trial has a folder of its own. ``trial.json`` says what is to be done, ``trained.json`` and ``measured.json`` what
came of it, each written whole and last, so that what is there need not be done again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from ..methods.postprocessing import Postprocessing
from ..runs import RunSettings
from ..storage import fingerprint, write_whole

__all__ = ["POSTPROCESSING", "Measuring", "Trial"]

POSTPROCESSING = get_args(Postprocessing)
_LONGEST = 200  # characters of a label in a folder's name
_TRIAL, _TRAINED, _MEASURED, _FAILED = "trial.json", "trained.json", "measured.json", "failed.json"


@dataclass(frozen=True)
class Measuring:
    """What is measured of a trained run.

    ``k``, ``ks``, ``ties``, ``denominator``, ``empty`` as :class:`dshc.evaluation.Conventions` has them;
    ``postprocessing``: names of :data:`POSTPROCESSING`, each of which gives codes of its own from the same outputs.
    """

    k: int | None = None
    ks: tuple[int, ...] = ()
    ties: str = "expected"
    denominator: str = "retrieved"
    empty: str = "zero"
    postprocessing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trial:
    """A training that is asked for: of which contestant, with which settings (``out`` is the trial's), in which folder.

    ``settings`` are not resolved: what data and method decide is decided when the trial runs.
    """

    contestant: str
    settings: RunSettings
    root: Path
    measuring: Measuring = field(default_factory=Measuring)

    @property
    def name(self) -> str:
        """Readable, and another one for other settings: ``dpsh-32bits-seed0-1f6c0a2b``."""
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", self.contestant).strip("-")
        if len(readable) > _LONGEST:  # what file systems take for a name, with room for the rest
            readable = readable[:_LONGEST].rstrip("-")
        bits, seed = self.settings.method.bits, self.settings.runtime.seed
        return f"{readable}-{bits}bits-seed{seed}-{self.settings.fingerprint()[:8]}"

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def run_folder(self) -> Path:
        """The run, as :func:`dshc.train` writes it."""
        return self.folder / "run"

    def write(self) -> Path:
        """Write ``trial.json``, from which :meth:`read` makes the trial again; returns the folder."""
        tables = {
            table: dict(getattr(self.settings, table).values())
            for table in ("data", "encoder", "method", "optim", "runtime")
        }
        content = {"contestant": self.contestant, "settings": tables, "measuring": vars(self.measuring)}
        write_whole(self.folder / _TRIAL, json.dumps(content, indent=1) + "\n")
        return self.folder

    @classmethod
    def read(cls, folder: Path) -> Trial:
        """The trial whose folder this is."""
        content = json.loads((folder / _TRIAL).read_text(encoding="utf-8"))
        measuring = {n: tuple(v) if isinstance(v, list) else v for n, v in content["measuring"].items()}
        return cls(
            content["contestant"], RunSettings(**content["settings"]), folder.parent, Measuring(**measuring)
        )

    # What came of it

    def trained(self) -> dict[str, Any] | None:
        """What :meth:`keep_trained` wrote; None where the training is not done."""
        return _read(self.folder / _TRAINED, "seconds", "split", "validation_map")

    def keep_trained(self, content: Mapping[str, Any]) -> None:
        write_whole(self.folder / _TRAINED, json.dumps(content, indent=1) + "\n")

    def forget_training(self) -> None:
        """For a training whose weights were removed, and are asked for again."""
        (self.folder / _TRAINED).unlink(missing_ok=True)

    def measured(self) -> dict[str, Any] | None:
        """What :meth:`keep_measured` wrote for the same conventions; None where that is not done."""
        found = _read(self.folder / _MEASURED, "measuring", "rows")
        return found if found is not None and found["measuring"] == self._measuring_key() else None

    def keep_measured(self, rows: list[dict[str, Any]]) -> None:
        content = {"measuring": self._measuring_key(), "rows": rows}
        write_whole(self.folder / _MEASURED, json.dumps(content, indent=1) + "\n")

    def failure(self) -> str | None:
        """Why the last attempt failed; None where it did not."""
        found = _read(self.folder / _FAILED, "error")
        return None if found is None else found["error"]

    def keep_failure(self, error: str) -> None:
        write_whole(self.folder / _FAILED, json.dumps({"error": error}, indent=1) + "\n")

    def forget_failure(self) -> None:
        (self.folder / _FAILED).unlink(missing_ok=True)

    def _measuring_key(self) -> str:
        return fingerprint(vars(self.measuring))


def _read(path: Path, *needed: str) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no file. ``ValueError`` naming one that lacks what is needed."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    if not isinstance(found, dict) or not set(needed) <= found.keys():
        raise ValueError(f"{path}: damaged; remove it, and it is made again")
    return found
