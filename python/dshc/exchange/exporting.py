"""The targets, and the one function that exports to any of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, one_of
from ..index import HashIndex
from ..index.manifest import MANIFEST
from ..progress import progress
from ..storage import CodeFile
from . import (
    duckdb_table,
    faiss_file,
    lancedb_table,
    milvus_collection,
    npy_file,
    parquet_file,
    pgvector_table,
    postgres_table,
    usearch_file,
)
from .exported import Exported
from .target import Job, Target, shown_url

__all__ = ["TARGETS", "Written", "export"]

_BOTH = ("hamming", "overlap")
TARGETS: dict[str, Target] = {
    "faiss": Target(faiss_file.write, "a flat binary index of faiss"),
    "pgvector": Target(pgvector_table.write, "a table of PostgreSQL with pgvector", has_tables=True),
    "postgres": Target(postgres_table.write, "a table of PostgreSQL", _BOTH, has_tables=True),
    "milvus": Target(milvus_collection.write, "a collection of Milvus", has_tables=True),
    "lancedb": Target(lancedb_table.write, "a table of LanceDB", has_tables=True),
    "duckdb": Target(duckdb_table.write, "a table of DuckDB", _BOTH, has_tables=True),
    "parquet": Target(parquet_file.write, "a Parquet file", _BOTH),
    "npy": Target(npy_file.write, "an .npy file", _BOTH),
    "usearch": Target(usearch_file.write, "an index of usearch"),
}
"""What can be exported to, by name."""
DEFAULT_TABLE = "codes"


@dataclass(frozen=True)
class Written:
    """What an export wrote: ``where`` (without a password), ``what`` in words, ``search``: how it is asked."""

    where: str
    what: str
    search: str


def export(
    source: Exported | CodeFile | HashIndex | str | os.PathLike[str],
    to: str,
    out: str | os.PathLike[str],
    *,
    table: str | None = None,
    overwrite: bool = False,
) -> Written:
    """Write codes for another program to search: whole, or nothing.

    Args:
        source: an :class:`Exported`, a code file, an index, or the path of one of these two.
        to: a name of :data:`TARGETS`.
        out: the file to write; for databases the file, folder or URL that has the table.
        table: the table or collection, where the target has any; by default ``codes``.
        overwrite: replace a file of the same kind, or the table.

    Returns:
        :class:`Written`.

    Raises:
        InputError, TypeError: a target, ``out``, table or score that cannot be, or something there already; the message
            names it.
        ImportError: the target's library is missing; the message has the line that installs it.
        OSError: a file that cannot be read or written.

    >>> import numpy as np
    >>> codes = Exported(codes=np.array([[5], [9]], np.uint8), n_bits=4)
    >>> export(codes, "npy", "codes.npy").what
    'an .npy file'
    """
    target = check_target(to, table)
    codes = as_exported(source)
    if codes.score not in target.scores:
        able = ", ".join(name for name, one in TARGETS.items() if codes.score in one.scores)
        raise InputError(
            f"score must be {' or '.join(target.scores)} for {to}, got {codes.score}, which {able} can do"
        )
    where = os.fspath(out)
    with progress(f"export to {to}") as update:
        search = target.write(Job(codes, where, table or DEFAULT_TABLE, overwrite, update))
    return Written(shown_url(where), target.what, search)


def check_target(to: str, table: str | None) -> Target:
    """The target of this name. Refuses one that is not known, and a table where it has none."""
    if to not in TARGETS:
        raise one_of("target", to, TARGETS)
    target = TARGETS[to]
    if table is not None and not target.has_tables:
        with_tables = ", ".join(name for name, one in TARGETS.items() if one.has_tables)
        raise InputError(f"a table must go with {with_tables}; {to} writes {target.what}")
    return target


def as_exported(source: Exported | CodeFile | HashIndex | str | os.PathLike[str]) -> Exported:
    """What is to be exported, from whatever holds codes."""
    if isinstance(source, Exported):
        return source
    if isinstance(source, CodeFile):
        return Exported.of_file(source)
    if isinstance(source, HashIndex):
        return Exported.of_index(source)
    path = Path(source)
    if (path / MANIFEST).is_file():
        with HashIndex.open(path, read_only=True) as index:
            return Exported.of_index(index)
    if path.is_dir():
        inside = path / "codes" / "database.safetensors"
        hint = f"; the codes of this run are {inside}" if inside.exists() else ""
        raise InputError(f"{path}: must be a code file or an index, it is another folder{hint}")
    return Exported.of_file(CodeFile.load(path))
