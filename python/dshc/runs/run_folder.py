"""The folder of a run: its files, when a folder may take a run, how one is replaced or continued.

    config.toml                    every setting, with what was chosen for those left open; the run's id
    split.json                     which items are queries, database, training and validation
    metrics.jsonl                  a line per epoch
    best.safetensors               the hasher of the epoch selected by validation mAP
    last.safetensors               the hasher of the last epoch, written when the training is done
    checkpoint/state.safetensors   where to continue from

A folder holds a run as soon as it holds its config.toml, which is written first and removed last; killed in between,
what is left is still known for a run. Every file bears the run's id and the fingerprint of its settings, so that files
of two runs cannot be mixed, nor settings changed behind the weights' back. The fingerprint is of the settings that
config.toml states: one that came into the program later is at its default, and changes no run of before.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data import Split, available
from ..errors import InputError
from ..settings import identity
from ..storage import fingerprint, remove_left_overs, write_whole
from .settings import TABLES, RunSettings, default_folder, read_toml

__all__ = ["CHECKPOINT", "RunFolder", "is_run_file"]

CONFIG = "config.toml"
CHECKPOINT = Path("checkpoint") / "state.safetensors"
# What training, encoding and evaluation write; nothing else in the folder is ever removed.
RUN_FILES = (
    "last.safetensors",
    "best.safetensors",
    "metrics.jsonl",
    "split.json",
    "evaluation.json",
    "report.html",
)
RUN_FOLDERS = (str(CHECKPOINT.parent), "codes", "report")
_OLD_FILES = ("model.safetensors", "codebook.safetensors")  # of the version before: removed with its run
_FORMAT = 2
_PATHS = ("data.source", "data.labels", "data.pairs", "encoder.weights", "encoder.start_from")


@dataclass(frozen=True)
class RunFolder:
    """A folder with a run in it: its path, the run's id, its settings and their fingerprint, which its files bear, and
    :meth:`dshc.data.Dataset.sample_digest` of what it is trained on (empty: not known)."""

    path: Path
    run_id: str
    settings: RunSettings
    fingerprint: str
    inputs: str = ""

    @classmethod
    def read(cls, folder: Path) -> RunFolder:
        """The run in a folder.

        Raises ``FileNotFoundError`` where it holds none, :class:`InputError` where config.toml is damaged, of an
        earlier version, or not what it was when the run was made.
        """
        path = folder / CONFIG
        if not path.is_file():
            raise FileNotFoundError(f"{folder}: holds no run ({CONFIG} is missing)")
        content = read_toml(path)
        about = content.pop("run", None)
        settings = RunSettings.from_tables(content, path)
        stated = {table: list(content.get(table, {})) for table in TABLES}
        if not isinstance(about, dict) or not isinstance(about.get("id"), str):
            raise InputError(f"{path}: damaged, or not of a run (its id is missing)")
        if about.get("format") != _FORMAT:
            raise InputError(
                f"{path}: a run of format {about.get('format')}, this version reads {_FORMAT}; train again"
            )
        known = (_fingerprint(settings, stated), _fingerprint(settings, _with_open(stated, path)))
        if about.get("settings") not in known:
            raise InputError(
                f"{path}: its settings were changed after the run was made; put them back, or train with --config"
            )
        inputs = str(about.get("inputs", ""))
        return cls(folder, about["id"], settings.with_values(out=folder), about["settings"], inputs)

    @classmethod
    def of(cls, out: str | os.PathLike[str] | None, source: str) -> RunFolder:
        """The run in ``out``, or where a run of ``source`` lies by default; raises as :meth:`read` does."""
        return cls.read(Path(default_folder(source) if out is None else out))

    @classmethod
    def check_free(cls, folder: Path, *, overwrite: bool = False) -> None:
        """Refuse a folder that a new run must not take; changes nothing.

        Refused are a run that is not to be replaced, and files of a run's names where there is no run (whose else are
        they?).
        """
        if folder.exists() and not folder.is_dir():
            raise InputError(f"out must be a folder, {folder} is a file")
        if not (folder / CONFIG).exists():
            for name in (*RUN_FILES, *RUN_FOLDERS):
                if (folder / name).exists():
                    raise InputError(
                        f"out: {folder} is no run, but holds {name}, which a run would replace; take another folder"
                    )
        elif not overwrite:
            raise InputError(
                f"out: {folder} holds a run; continue it with --resume, replace it with --overwrite, "
                "or take another folder"
            )
        elif "dataset" not in read_toml(folder / CONFIG):  # a run of an earlier version is replaced, too
            _refuse_strangers(folder / CONFIG)

    @staticmethod
    def check_apart(folder: Path, source: str) -> None:
        """Refuse to write into a folder of images, which would be another data set from then on."""
        data = Path(source).expanduser()
        if not source or source in available() or not data.is_dir():
            return
        here = data.resolve()
        if here in (folder.expanduser().resolve(), *folder.expanduser().resolve().parents):
            raise InputError(
                f"out: {folder} must not lie in the folder of images {source}, whose next reading would meet its "
                "files; take a folder outside of it"
            )

    @staticmethod
    def check_not_started_from(folder: Path, start_from: str | None) -> None:
        """Refuse to replace the hasher that the training starts from: stopped early, neither would be left."""
        if start_from is None or not (folder / CONFIG).is_file():
            return
        started, here = Path(start_from).resolve(), folder.resolve()
        inside = started.relative_to(here).parts[:1] if started.is_relative_to(here) else ("",)
        if not inside or inside[0] in (*RUN_FILES, *RUN_FOLDERS):
            raise InputError(
                f"out: {folder} must not hold what the training starts from ({start_from}), which it would replace; "
                "take another folder"
            )

    @classmethod
    def create(cls, settings: RunSettings, inputs: str = "") -> RunFolder:
        """A new run in a checked folder; an earlier one in it is removed right before."""
        values = {table: getattr(settings, table).values() for table in TABLES}
        stated = {table: [name for name in own if own[name] is not None] for table, own in values.items()}
        folder = cls(settings.folder, uuid.uuid4().hex[:16], settings, _fingerprint(settings, stated), inputs)
        if (folder.path / CONFIG).exists():
            folder._remove_run()
        head = {"run": {"format": _FORMAT, "id": folder.run_id, "settings": folder.fingerprint}}
        if inputs:
            head["run"]["inputs"] = inputs
        write_whole(folder.path / CONFIG, settings.to_toml(head))
        return folder

    def check_inputs(self, inputs: str, source: str) -> None:
        """Refuse other features than the run began with, under the same name and with the same labels."""
        if self.inputs and inputs != self.inputs:
            raise InputError(
                f"{source}: must hold the features that the run in {self.path} began with, got others"
            )

    def keep_split(self, split: Split) -> None:
        """Write the split, or check that it is the one the run has."""
        path = self.path / "split.json"
        if not path.is_file():
            if (self.path / CHECKPOINT).is_file():
                raise FileNotFoundError(
                    f"{path}: no such file, though the run has a checkpoint; put the file back"
                )
            replace(split, run=self.run_id).save(path)
            return
        stored = Split.load(path)
        if stored != split:
            raise InputError(f"{path}: another split than the data and settings give now")
        self.check_owner(path, stored.run)

    def check_owner(self, path: Path, run: str | None, settings: str | None = None) -> None:
        """Refuse a file that bears another run's id, or was made with other settings; names it."""
        if run != self.run_id:
            raise InputError(
                f"{path}: belongs to another run ({run or 'without an id'}) than {CONFIG} beside it ({self.run_id})"
            )
        if settings is not None and settings != self.fingerprint:
            raise InputError(f"{path}: made with other settings than {CONFIG} beside it says")

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Write the history so far as metrics.jsonl."""
        write_whole(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def read_metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, one an epoch."""
        path = self.path / "metrics.jsonl"
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except ValueError as error:
            raise InputError(f"{path}: damaged ({error})") from None
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, dict):
                raise InputError(f"{path}: damaged (line {number} is no JSON object)")
        return rows

    def clear_left_overs(self) -> None:
        """Remove the temporary files that killed writes have left."""
        for name in (CONFIG, *RUN_FILES, CHECKPOINT):
            remove_left_overs(self.path / name)

    def continued_by(self, settings: RunSettings) -> RunFolder:
        """This run, to be continued with the given settings: those that decide no result may differ.

        What decides one and is left open is the run's own, whatever it was chosen by: its recipe may be another by
        now, and what it started from may be gone.
        """
        asked, own = dict(settings.items()), {}
        for name, value in self.settings.items():
            table, field = name.split(".")
            # Which data it is decides the result, though not by its name: equal labels are not the same pixels.
            data = name in ("data.source", "data.labels", "data.pairs")
            if not data and field not in identity(getattr(settings, table)):
                continue
            given = asked[name]
            same = given == value or (name in _PATHS and value == os.path.abspath(given or ""))
            if given is not None and not same:
                raise InputError(f"{field} must be {value!r} as in the run in {self.path}, got {given!r}")
            own[name] = value
        return replace(self, settings=settings.with_values(out=self.path, **own))

    def _remove_run(self) -> None:
        earlier = "dataset" in read_toml(self.path / CONFIG)
        for name in (*RUN_FILES, *(_OLD_FILES if earlier else ())):
            (self.path / name).unlink(missing_ok=True)
        for name in RUN_FOLDERS:
            if (self.path / name).is_dir():
                shutil.rmtree(self.path / name)
        (self.path / CONFIG).unlink()


def is_run_file(path: Path) -> bool:
    """Whether ``path`` is, or would be, a file that a run keeps in its folder."""
    path = path.resolve()
    named = path.name in (CONFIG, *RUN_FILES) and (path.parent / CONFIG).is_file()
    within = path.parent.name in RUN_FOLDERS and (path.parent.parent / CONFIG).is_file()
    return named or within


def _fingerprint(settings: RunSettings, names: Mapping[str, list[str]]) -> str:
    """Of the settings of these names, by table, that decide what comes out."""
    tables = {table: identity(getattr(settings, table)) for table in TABLES}
    return fingerprint(
        {
            table: {name: value for name, value in values.items() if name in names[table]}
            for table, values in tables.items()
        }
    )


def _with_open(names: Mapping[str, list[str]], path: Path) -> dict[str, list[str]]:
    """These names and those that config.toml says are not set: an earlier version had both in its fingerprint."""
    found, table = {table: list(own) for table, own in names.items()}, ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if head := re.fullmatch(r"\[(\w+)\]", line):
            table = head[1]
        elif table in found and (left_open := re.fullmatch(r"# (\w+): not set", line)):
            found[table].append(left_open[1])
    return found


def _refuse_strangers(path: Path) -> None:
    content = read_toml(path)
    if not isinstance(content.pop("run", None), dict):
        raise InputError(f"{path}: not of a run, so that it is not replaced; take another folder")
    RunSettings.from_tables(content, path)
