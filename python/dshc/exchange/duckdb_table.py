"""DuckDB: a table in a database file; a code is a ``UBIGINT`` column for each 64 bits, ``code0``, ``code1``, ...

Bit ``j`` is worth ``2 ** (j % 64)`` in ``code{j // 64}``. Distance is ``bit_count(xor(...))``, overlap
``bit_count(... & ...)``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError
from ..storage import check_can_write, written_whole
from .arrow import id_field, ids_of, label_fields, labels_as_text, pyarrow
from .exported import Exported
from .layouts import n_words, words
from .target import Job, check_table, file_path, need, table_exists

__all__ = ["write"]


def write(job: Job) -> str:
    """Add the table to the database, or make one; in one transaction."""
    table = check_table(job.table)
    path = file_path(job.out)
    pyarrow()
    duckdb = need("duckdb", "duckdb")
    if path.is_dir():
        raise InputError(f"{path}: must be a database file, it is a folder")
    check_can_write(path)
    try:
        if path.exists():
            if not starts_with_duck(path):
                raise InputError(
                    f"out must name a new file or a DuckDB database, {path} is neither, and is left as it is"
                )
            _write(job, duckdb, path, table)
        else:
            with written_whole(path) as temporary:
                _write(job, duckdb, temporary, table)
    except duckdb.Error as error:
        raise InputError(f"{path}: {error}") from None
    return _search(job.source, table)


def starts_with_duck(path: Path) -> bool:
    """Whether a file is a database: its first block is a checksum of 8 bytes, then the magic."""
    with open(path, "rb") as file:
        return file.read(12)[8:] == b"DUCK"


def _write(job: Job, duckdb: Any, path: Path, table: str) -> None:
    pa = pyarrow()
    source = job.source
    n_columns = n_words(source.n_bits)
    columns = [pa.field(f"code{i}", pa.uint64(), nullable=False) for i in range(n_columns)]
    schema = pa.schema([id_field(source), *columns, *label_fields(source)])
    kinds = {"id": "VARCHAR" if source.has_names else "BIGINT", "label": "VARCHAR", "labels": "VARCHAR[]"}
    with duckdb.connect(str(path)) as database:
        there = "SELECT count(*) FROM duckdb_tables() WHERE lower(table_name) = lower(?)"
        if not job.overwrite and database.execute(there, [table]).fetchone()[0]:
            raise table_exists(table, str(path))
        database.begin()
        kind = {name: kinds.get(name, "UBIGINT NOT NULL") for name in schema.names}
        database.execute(
            f"CREATE OR REPLACE TABLE {table} ({', '.join(f'{name} {kind[name]}' for name in schema.names)})"
        )
        for chunk in source.chunks():
            codes = words(chunk.codes)
            arrays = [
                ids_of(source, chunk),
                *(pa.array(codes[:, i]) for i in range(n_columns)),
                *labels_as_text(source, chunk),
            ]
            database.register("chunk", pa.Table.from_arrays(arrays, schema=schema))
            database.execute(f"INSERT INTO {table} SELECT * FROM chunk")
            database.unregister("chunk")
            job.done(chunk.stop)
        database.commit()


def _search(source: Exported, table: str) -> str:
    """A statement that takes the words of a query as ``$query0``, ..."""
    pair = "xor(code{0}, $query{0})" if source.score == "hamming" else "code{0} & $query{0}"
    terms = [f"bit_count({pair.format(i)})::INTEGER" for i in range(n_words(source.n_bits))]
    name, order = ("distance", "distance") if source.score == "hamming" else ("overlap", "overlap DESC")
    return f"SELECT id, {' + '.join(terms)} AS {name} FROM {table} ORDER BY {order}, id LIMIT 10"
