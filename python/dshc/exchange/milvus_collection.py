"""Milvus: a collection with ``id``, ``code`` (a binary vector) and ``label``, indexed by BIN_FLAT: exact Hamming
distance.

Bytes are stored as they are, so that a query is a packed code as it is; Milvus wants a multiple of 8 bits, which
the zeros of our padding give. ``out`` is the URL of a server, or a ``.db`` file of Milvus Lite: its release
2.5 has binary vectors, 3.2 has none.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..storage import check_can_write, written_whole
from .exported import Exported
from .target import Job, check_table, need, shown_url, table_exists

__all__ = ["write"]

_ROWS = 1 << 13  # one message to the server, of at most 64 MB
_TIMEOUT = 10.0
_MOST_TEXT = 65535  # bytes of a VARCHAR
_LITE = ("milvus-lite>=2.5,<3", "setuptools<81")  # it imports pkg_resources
_LITE_NAME = re.compile(r"[a-zA-Z0-9.\-_]{1,36}")  # milvus_lite/server.py


def write(job: Job) -> str:
    """Fill a new collection. A file of Milvus Lite is written whole; on a server what fails half-way is dropped."""
    table = check_table(job.table)
    pymilvus = need("pymilvus", "pymilvus>=2.5,<3")
    where = shown_url(job.out)
    try:
        with _quiet():
            if "://" in job.out:
                client = pymilvus.MilvusClient(job.out, timeout=_TIMEOUT)
                try:
                    _write_on_server(job, pymilvus, client, table, where)
                finally:
                    client.close()
            else:
                _write_file(job, pymilvus, Path(job.out), table)
    except pymilvus.MilvusException as error:
        raise InputError(f"{where}: {error.message or error}") from None
    return (
        f'MilvusClient({where!r}).search("{table}", data=[query.tobytes()], limit=10, '
        'search_params={"metric_type": "HAMMING"})'
    )


def _write_on_server(job: Job, pymilvus: Any, client: Any, table: str, where: str) -> None:
    there = client.has_collection(table)
    if there and not job.overwrite:
        raise table_exists(table, where)
    name, old = (f"{table}_new", f"{table}_old") if there else (table, "")
    for other in (name, old) if there else ():
        if client.has_collection(other):
            raise InputError(f"{where}: {other!r} must not be there while {table!r} is replaced; drop it")
    try:
        _fill(job, pymilvus, client, name)
        if there:
            _rename(client, table, old, where)
    except BaseException:
        client.drop_collection(name)
        raise
    if there:
        _rename(client, name, table, where)
        client.drop_collection(old)


def _rename(client: Any, name: str, to: str, where: str) -> None:
    try:
        client.rename_collection(name, to)
    except Exception as error:  # of grpc, or of Milvus
        told = getattr(error, "details", lambda: "")() or type(error).__name__
        raise InputError(f"{where}: collection {name!r} could not be renamed to {to!r} ({told})") from None


def _write_file(job: Job, pymilvus: Any, path: Path, table: str) -> None:
    if path.suffix != ".db":
        raise InputError(f"out must be the URL of a server or a .db file of Milvus Lite, got {job.out!r}")
    if path.is_dir():
        raise InputError(f"{path}: must be a .db file of Milvus Lite, it is a folder")
    if not _LITE_NAME.fullmatch(path.name):
        raise InputError(
            f"{path}: the name of a file of Milvus Lite must be letters, digits, '.', '-' and '_', at most 36"
        )
    lite = need("milvus_lite.server_manager", *_LITE).server_manager_instance
    check_can_write(path)
    with written_whole(path) as temporary, _only_user(path, lite):
        if path.exists():
            shutil.copyfile(path, temporary)
        client = pymilvus.MilvusClient(str(temporary), timeout=_TIMEOUT)
        try:
            if client.has_collection(table):
                if not job.overwrite:
                    raise table_exists(table, str(path))
                client.drop_collection(table)
            _fill(job, pymilvus, client, table)
        finally:
            client.close()
            lite.release_server(str(temporary))


@contextlib.contextmanager
def _only_user(path: Path, lite: Any) -> Iterator[None]:
    """Refuses a file that another client has open, which would go on with the old one, by the lock of Milvus Lite."""
    if not path.exists():
        yield
        return
    if str(path.resolve()) in lite._servers:
        raise InputError(f"{path}: must not be open, a MilvusClient of this process has it")
    lock = path.parent / f".{path.name}.lock"
    with open(lock, "a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path}: must not be open, another process has it") from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _fill(job: Job, pymilvus: Any, client: Any, name: str) -> None:
    source = job.source
    client.create_collection(name, schema=_schema(source, pymilvus, client), index_params=_index(client))
    for chunk in source.chunks(_ROWS):
        ids = chunk.ids if isinstance(chunk.ids, list) else chunk.ids.tolist()
        rows: list[dict[str, Any]] = [
            {"id": key, "code": code.tobytes()} for key, code in zip(ids, chunk.codes, strict=True)
        ]
        if (labels := source.label_texts(chunk)) is not None:
            column = "label" if isinstance(labels[0], str) else "labels"
            for row, label in zip(rows, labels, strict=True):
                row[column] = label
        client.insert(name, rows)
        job.done(chunk.stop)
    client.flush(name)


def _schema(source: Exported, pymilvus: Any, client: Any) -> Any:
    kinds = pymilvus.DataType
    schema = client.create_schema(auto_id=False)
    if isinstance(source.ids, tuple):
        longest = max(len(name.encode()) for name in source.ids)
        if longest > _MOST_TEXT:
            raise InputError(f"ids must be at most {_MOST_TEXT} bytes long for Milvus, got {longest}")
        schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=max(1, longest))
    else:
        schema.add_field("id", kinds.INT64, is_primary=True)
    schema.add_field("code", kinds.BINARY_VECTOR, dim=8 * source.codes.shape[1])
    if source.labels is not None:
        if source.labels.ndim == 1:
            schema.add_field("label", kinds.VARCHAR, max_length=_MOST_TEXT)
        else:
            schema.add_field(
                "labels", kinds.ARRAY, element_type=kinds.VARCHAR, max_capacity=4096, max_length=_MOST_TEXT
            )
    return schema


def _index(client: Any) -> Any:
    index = client.prepare_index_params()
    index.add_index("code", index_type="BIN_FLAT", metric_type="HAMMING")
    return index


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """pymilvus logs, with its traceback, every error that it raises."""
    logger = logging.getLogger("pymilvus")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
