"""LanceDB: a table whose column ``code`` is a fixed-size list of uint8, our bytes as they are, searched under
``hamming``.

``out`` is a folder or a URL that ``lancedb.connect`` takes. A table becomes visible with its last step, the
manifest; a replaced one keeps its old version until then.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..storage import check_can_write
from .arrow import fixed_lists, id_field, ids_of, label_fields, labels_as_text, pyarrow
from .target import Job, check_table, need, shown_url, table_exists

__all__ = ["write"]


def write(job: Job) -> str:
    """Write the table chunk by chunk; what was begun and failed is removed."""
    table = check_table(job.table)
    where = shown_url(job.out)
    made = _check_folder(job.out)
    pa = pyarrow()
    lancedb = need("lancedb", "lancedb")
    try:
        database = lancedb.connect(job.out)
        there = table in _tables(database)
    except (RuntimeError, ValueError, OSError) as error:
        _remove(made)
        raise InputError(f"{where}: no database that can be opened ({_line(error)})") from None
    if there and not job.overwrite:
        raise table_exists(table, where)
    source = job.source
    code = pa.field("code", pa.list_(pa.uint8(), source.codes.shape[1]))
    schema = pa.schema([id_field(source), code, *label_fields(source)])
    rows = _Rows(job, schema)
    try:
        database.create_table(table, data=iter(rows), schema=schema, mode="overwrite" if there else "create")
    except BaseException as error:
        if not there:
            database.drop_table(table, ignore_missing=True)
        _remove(made)
        if rows.failure is not None:  # what the source said, which arrives as an error of Arrow
            raise rows.failure from None
        if isinstance(error, (RuntimeError, ValueError, OSError)):
            raise InputError(f"{where}: {_line(error)}") from None
        raise
    opened = f'lancedb.connect({where!r}).open_table("{table}")'
    return f'{opened}.search(query).distance_type("hamming").limit(10).to_list()'


class _Rows:
    """The source as record batches; keeps the error that ended it."""

    def __init__(self, job: Job, schema: Any) -> None:
        self._job, self._schema = job, schema
        self.failure: BaseException | None = None

    def __iter__(self) -> Iterator[Any]:
        pa, source = pyarrow(), self._job.source
        try:
            for chunk in source.chunks():
                columns = [ids_of(source, chunk), fixed_lists(chunk.codes), *labels_as_text(source, chunk)]
                yield pa.RecordBatch.from_arrays(columns, schema=self._schema)
                self._job.done(chunk.stop)
        except GeneratorExit:
            raise
        except BaseException as error:
            self.failure = error
            raise


def _check_folder(out: str) -> list[Path]:
    """Refuse what is no place for a folder. Returns the folders that will be made, the deepest first."""
    if "://" in out:
        return []
    path = Path(out)
    if path.exists() and not path.is_dir():
        raise InputError(f"out must be a folder or a URL for LanceDB, {path} is a file")
    check_can_write(path / "codes.lance")
    return [folder for folder in (path.absolute(), *path.absolute().parents) if not folder.exists()]


def _tables(database: Any) -> list[str]:
    found: list[str] = []
    token = None
    while True:
        page = database.list_tables(page_token=token)
        found += page.tables
        token = page.page_token
        if not token:
            return found


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
