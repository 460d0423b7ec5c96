"""What every target has: how an export is told, what is asked of it, and the errors that all share."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

from ..errors import InputError
from ..storage import check_can_write
from .exported import Exported

__all__ = [
    "OVERWRITE",
    "Job",
    "Target",
    "Writer",
    "check_new_file",
    "check_table",
    "file_path",
    "need",
    "shown_url",
    "starts_with",
    "table_exists",
]

OVERWRITE = "--overwrite (in Python overwrite=True)"
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True)
class Job:
    """One export: what, where to, and whom to tell how far it is (``update(done, total)``)."""

    source: Exported
    out: str
    table: str
    overwrite: bool
    update: Callable[[int, int], None]

    def done(self, rows: int) -> None:
        self.update(rows, len(self.source))


class Writer(Protocol):
    def __call__(self, job: Job) -> str:
        """Write all of it or nothing. Returns how to search in it: an SQL statement or a Python expression."""


@dataclass(frozen=True)
class Target:
    """A row of the table of targets.

    Args:
        write: does it.
        what: what is written, for a line that tells of it.
        scores: the rankings that the target can do.
        has_tables: whether ``out`` holds tables, of which one is named.
    """

    write: Writer
    what: str
    scores: tuple[str, ...] = ("hamming",)
    has_tables: bool = False


def need(module: str, *packages: str) -> ModuleType:
    """A library of a target; ImportError with the line that installs it where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        line = " ".join(map(repr, packages))
        raise ImportError(f"{module} cannot be imported ({error}): pip install {line}") from None


def check_new_file(job: Job, kind: str, is_kind: Callable[[Path], bool], *, by_text: bool = True) -> Path:
    """The path of a job that writes a file. Refuses what is there, unless it is of that kind and to be replaced.

    ``by_text``: a library opens it by its name as text, and has no way to say one that is no UTF-8.
    """
    path = file_path(job.out)
    if by_text and any("\ud800" <= letter <= "\udfff" for letter in str(path)):
        raise InputError(f"out must be a path in UTF-8 for {kind}, got {str(path)!r}")
    if path.is_dir():
        raise InputError(f"{path}: must be a file to write, it is a folder")
    if path.exists():
        if not job.overwrite:
            raise InputError(f"{path}: exists; {OVERWRITE} replaces it")
        if not is_kind(path):
            raise InputError(f"out must name a new file or {kind}, {path} is neither, and is left as it is")
    check_can_write(path)
    return path


def file_path(out: str) -> Path:
    """The path that ``out`` must be."""
    if "://" in out:
        raise InputError(f"out must be the path of a file, got the URL {shown_url(out)}")
    return Path(out)


def starts_with(path: str | os.PathLike[str], magic: bytes) -> bool:
    """Whether a file begins so."""
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def check_table(name: str) -> str:
    """The name of a table, if it is one that needs no quotes anywhere."""
    if not _TABLE.fullmatch(name):
        raise InputError(f"table must be letters, digits and _ (at most 63), no digit first, got {name!r}")
    return name


def table_exists(table: str, where: str) -> InputError:
    return InputError(
        f"{where}: has a table {table!r} already; {OVERWRITE} replaces it, another table name (--table) keeps it"
    )


def shown_url(url: str) -> str:
    """A URL without its password.

    >>> shown_url("postgresql://me:secret@host/db?password=secret&sslmode=require")
    'postgresql://me@host/db?password=...&sslmode=require'
    """
    url = re.sub(r"(//[^:/@]*):[^/]*@", r"\1@", url)
    return re.sub(r"(password|token)=[^&\s]*", r"\1=...", url)
