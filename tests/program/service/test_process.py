"""``dshc serve`` as a process: how it begins, what it refuses, and how it ends."""

from __future__ import annotations

import signal
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from cli_runs import dshc_fails, dshc_ok
from served_indexes import index_of_codes, png
from served_process import answered_in_two_parts, served_process

import dshc
from dshc.errors import InputError
from dshc.service import Served, ServiceSettings

httpx2 = pytest.importorskip("httpx2", reason="httpx2 is not installed (extra 'dev')")


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.deep)])
def test_what_runs_is_finished_when_it_is_told_to_end(codes_index, number: int) -> None:
    with served_process(codes_index) as process:
        process.wait_for("ready")
        place = urlsplit(process.address)

        def end() -> None:
            process.tell(number)
            with pytest.raises(OSError):
                for _ in range(200):
                    socket.create_connection((place.hostname, place.port), timeout=5).close()
                    time.sleep(0.05)

        answer = answered_in_two_parts(process, end)
        assert answer.startswith(b"HTTP/1.1 200 OK") and answer.count(b'"distance"') == 5
        assert process.wait() == 0
        assert not process.others, "nothing but JSON"


def test_flags_are_the_settings(codes_index, tmp_path, monkeypatch) -> None:
    from dshc.service import server

    told: list[Any] = []
    monkeypatch.setattr(server, "serve", lambda *given: told.extend(given))
    (tmp_path / "keys").write_text("0123456789abcdef\n")
    values = {
        "host": "0.0.0.0", "port": 81, "max_upload_mib": 0.5, "max_pixels": 7, "max_k": 8, "max_queries": 9,
        "max_concurrency": 10, "max_seconds": 1.5, "batch_ms": 2.5, "poll_seconds": 3.5,
    }  # fmt: skip
    flags = [part for name, value in values.items() for part in (f"--{name.replace('_', '-')}", value)]
    dshc_ok("serve", codes_index, *flags, "--name", "a", "--name", "b", "--api-key-file", tmp_path / "keys")
    served, settings, keys = told
    assert served.name == "index" and keys == ("0123456789abcdef",)
    assert settings == ServiceSettings(**values, names=("a", "b"))
    told.clear()
    dshc_ok("serve", codes_index)
    assert told[1:] == [ServiceSettings(), ()], "the defaults of the flags are those of the settings"


@pytest.mark.deep
def test_a_key_and_limits_by_flags(codes_index, tmp_path) -> None:
    (tmp_path / "keys").write_text("0123456789abcdef\n")
    with served_process(
        codes_index, "--api-key-file", tmp_path / "keys", "--max-k", 3, "--host", "0.0.0.0"
    ) as process:
        address = process.address.replace("0.0.0.0", "127.0.0.1")
        body = {"ids": ["bee/1.png"], "k": 4}
        assert httpx2.post(f"{address}/search", json=body).status_code == 401
        answer = httpx2.post(f"{address}/search", json=body, headers={"x-api-key": "0123456789abcdef"})
        assert answer.status_code == 422 and "at most 3" in answer.text
        assert process.events[0]["keys"] == 1 and "0123456789abcdef" not in str(process.events)


def test_what_is_refused(codes_index, tmp_path) -> None:
    assert "--api-key-file" in dshc_fails("serve", codes_index, "--host", "0.0.0.0")
    assert "no such folder" in dshc_fails("serve", tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "index" in dshc_fails("serve", tmp_path / "empty")
    assert "max_k must be at least 1" in dshc_fails("serve", codes_index, "--max-k", 0)
    assert "must be a folder of images" in dshc_fails("serve", codes_index, "--images", tmp_path / "nothing")
    (tmp_path / "keys").write_text("short\n")
    message = dshc_fails("serve", codes_index, "--api-key-file", tmp_path / "keys")
    assert "at least 16 characters" in message
    with socket.create_server(("127.0.0.1", 0)) as taken:
        message = dshc_fails_at_port(codes_index, taken.getsockname()[1])
    assert "must be free to listen at" in message


def dshc_fails_at_port(index: Any, port: int) -> str:
    from cli_runs import dshc as run

    code, output = run("serve", index, "--port", port)
    assert code == 2, output
    return output.splitlines()[-1]


def test_answers_are_sent_without_delay() -> None:
    """asyncio sets TCP_NODELAY on sockets that say they are TCP; else an answer waits 40 ms for an acknowledgement."""
    from dshc.service.server import _listener

    for host in ("127.0.0.1", "::1", "[::1]", "localhost"):
        with _listener(ServiceSettings(host=host, port=0)) as listener:
            assert (listener.type, listener.proto) == (socket.SOCK_STREAM, socket.IPPROTO_TCP)
    with pytest.raises(InputError, match="must be an address of this machine"):
        _listener(ServiceSettings(host="no.such.host.invalid", port=0))


def test_a_run_is_served_by_its_own_images(finished) -> None:
    """Of a set in memory: the digits."""
    served = Served.open(finished.folder)
    try:
        assert len(served.index) == len(finished.split.database) and served.remarks == ()
        assert served.name == finished.folder.name and served.index.radius_for(0.01) >= 0
        item = int(finished.split.database[5])
        pixels = finished.dataset.inputs[item]
        assert served.pictures.picture(str(item)).content == png(pixels[..., 0])
        codes = served.hasher.encode(pixels[None])
        np.testing.assert_array_equal(served.index.get([str(item)]).codes, codes)
        folder = served.index.path
    finally:
        served.close()
    assert not folder.exists(), "made for the run, removed with the service"


def test_a_run_on_a_folder_of_images(tmp_path) -> None:
    from cli_runs import train_images

    run = train_images(tmp_path)
    served = Served.open(run)
    ids = served.index.ids().tolist()
    assert all(served.pictures.picture(id).media_type == "image/png" for id in ids)
    served.close()
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    served = Served.open(run, images=tmp_path / "elsewhere")
    assert served.pictures.picture(ids[0]).media_type == "image/png"
    served.close()


def test_a_run_on_features_has_no_pictures(features, tmp_path) -> None:
    run = dshc.train(features, out=tmp_path / "run", bits=9, epochs=2, batch_size=32, threads=1, device="cpu")
    served = Served.open(run.folder)
    assert served.pictures is None and served.hasher.kind == "features"
    served.close()


def test_what_is_missing_is_said(monkeypatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.startswith("dshc.service")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    import dshc.service

    with pytest.raises(ImportError, match=r"dshc serve needs fastapi; pip install 'dshc-fast\[serve\]'"):
        _ = dshc.service.create_app


def test_an_index_keeps_its_own_folder(tmp_path) -> None:
    folder = index_of_codes(tmp_path / "index", 5)
    Served.open(folder).close()
    assert folder.is_dir()
