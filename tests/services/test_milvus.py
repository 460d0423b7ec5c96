"""Milvus, in its Lite form: its own BIN_FLAT search answers the same, and gives the bytes back."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exchange_cases import CLASS_NAMES, check_answers, exported

from dshc.errors import InputError
from dshc.exchange import Exported, export

pytestmark = pytest.mark.services
N_ITEMS = 20_000


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    from milvus_lite.server_manager import server_manager_instance
    from pymilvus import MilvusClient

    client = MilvusClient(str(path))
    try:
        yield client
    finally:
        client.close()
        server_manager_instance.release_server(str(path))


@pytest.mark.parametrize("ids", ["rows", "names"])
def test_answers(ids: str, n_bits: int, tmp_path: Path) -> None:
    source = exported(N_ITEMS, n_bits, ids=ids)
    written = export(source, "milvus", tmp_path / "codes.db")
    assert [path.name for path in tmp_path.iterdir()] == ["codes.db"]
    with opened(tmp_path / "codes.db") as client:
        assert client.describe_index("codes", "code")["index_type"] == "BIN_FLAT"

        def ask(query: np.ndarray, k: int) -> list[tuple[object, float]]:
            asked = {"MilvusClient": lambda _: client, "query": query}
            (hits,) = eval(written.search.replace("limit=10", f"limit={k}"), asked)
            return [(hit["id"], hit["distance"]) for hit in hits]

        check_answers(source, ask)


@pytest.mark.parametrize("labels", ["classes", "several"])
def test_every_byte_and_label(labels: str, n_bits: int, tmp_path: Path) -> None:
    source = exported(300, n_bits, ids="numbers", labels=labels)
    export(source, "milvus", tmp_path / "codes.db")
    with opened(tmp_path / "codes.db") as client:
        rows = client.query("codes", filter="", limit=1000, output_fields=["*"])
    found = {
        row["id"]: (row["code"][0], row["label"] if labels == "classes" else list(row["labels"]))
        for row in rows
    }
    texts = [
        CLASS_NAMES[label] if labels == "classes" else [CLASS_NAMES[i] for i in np.flatnonzero(label)]
        for label in source.labels
    ]
    assert found == {
        name: (code.tobytes(), text)
        for name, code, text in zip(source.ids.tolist(), source.codes, texts, strict=True)
    }


def test_a_collection_that_exists_and_exports_that_fail(tmp_path: Path) -> None:
    path = tmp_path / "codes.db"
    codes = np.zeros(((1 << 13) + 1, 2), np.uint8)
    codes[-1, 1] = 255
    bad = Exported(codes=codes, n_bits=10)
    with pytest.raises(InputError, match="padding bits"):
        export(bad, "milvus", path)
    assert not list(tmp_path.iterdir())
    export(exported(20, 16), "milvus", path)
    with pytest.raises(InputError, match="has a table 'codes' already"):
        export(exported(30, 16), "milvus", path)
    for table in ("codes", "others"):
        with pytest.raises(InputError, match="padding bits"):
            export(bad, "milvus", path, table=table, overwrite=True)
    export(exported(40, 16), "milvus", path, table="more")
    assert [one.name for one in tmp_path.iterdir()] == ["codes.db"]
    with opened(path) as client:
        assert sorted(client.list_collections()) == ["codes", "more"]
        assert len(client.query("codes", filter="", limit=100, output_fields=["id"])) == 20
    export(exported(30, 24), "milvus", path, overwrite=True)
    with opened(path) as client:
        assert len(client.query("codes", filter="", limit=100, output_fields=["id"])) == 30


def test_a_server(tmp_path: Path) -> None:
    """Milvus Lite behind a port: an export that fails, or a rename, which it cannot do, leaves everything as it was."""
    from milvus_lite.server import Server
    from pymilvus import MilvusClient

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(str(tmp_path / "server.db"), f"127.0.0.1:{port}")
    assert server.init() and server.start()
    try:
        url = f"http://127.0.0.1:{port}"
        codes = np.zeros(((1 << 13) + 1, 2), np.uint8)
        codes[-1, 1] = 255
        client = MilvusClient(url)
        with pytest.raises(InputError, match="padding bits"):
            export(Exported(codes=codes, n_bits=10), "milvus", url)
        assert client.list_collections() == []
        source = exported(500, 30, ids="numbers")
        export(source, "milvus", url)
        asked = {"metric_type": "HAMMING"}

        def ask(query: np.ndarray, k: int) -> list[tuple[object, float]]:
            (hits,) = client.search("codes", data=[query.tobytes()], limit=k, search_params=asked)
            return [(hit["id"], hit["distance"]) for hit in hits]

        check_answers(source, ask)
        with pytest.raises(InputError, match="has a table 'codes' already"):
            export(source, "milvus", url)
        with pytest.raises(InputError, match="'codes' could not be renamed to 'codes_old'"):
            export(exported(30, 24), "milvus", url, overwrite=True)
        assert client.list_collections() == ["codes"]
        check_answers(source, ask)
        client.close()
    finally:
        server.stop()


def test_a_file_that_is_open(tmp_path: Path) -> None:
    path = tmp_path / "codes.db"
    export(exported(20, 16), "milvus", path)
    with opened(path):
        with pytest.raises(InputError, match="a MilvusClient of this process has it"):
            export(exported(30, 16), "milvus", path, table="more")
    other = f"""
import fcntl, sys
file = open({str(tmp_path / ".codes.db.lock")!r}, "a")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", other], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"locked\n"
        with pytest.raises(InputError, match="another process has it"):
            export(exported(30, 16), "milvus", path, table="more")
        holder.communicate(b"")
    export(exported(30, 16), "milvus", path, table="more")


def test_what_is_no_server_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="http://127.0.0.1:9: Fail connecting to server"):
        export(exported(20, 16), "milvus", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"URL of a server or a \.db file"):
        export(exported(20, 16), "milvus", tmp_path / "codes.milvus")
    with pytest.raises(InputError, match="the name of a file of Milvus Lite must be letters"):
        export(exported(20, 16), "milvus", tmp_path / "my codes.db")
    (tmp_path / "thesis.db").write_text("years of work")
    with pytest.raises(InputError, match="thesis.db: "):
        export(exported(20, 16), "milvus", tmp_path / "thesis.db")
    assert (tmp_path / "thesis.db").read_text() == "years of work" and len(list(tmp_path.iterdir())) == 1
