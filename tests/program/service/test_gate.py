"""What every request passes: keys, names, sizes, numbers and time."""

from __future__ import annotations

import asyncio
import hmac
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from served_indexes import asked, client_of, png, refused
from small_hashers import items_of

from dshc.errors import InputError
from dshc.service import ServiceSettings, read_keys
from dshc.service.settings import check_address, has_key, is_local

KEYS = ("0123456789abcdef", "fedcba9876543210")


@pytest.mark.parametrize("header", [{"X-API-Key": KEYS[0]}, {"Authorization": f"Bearer {KEYS[1]}"}])
def test_a_key_opens(codes_index, header: dict[str, str]) -> None:
    with client_of(codes_index, keys=KEYS) as client:
        client.headers.update(header)
        asked(client, ids=["bee/1.png"])
        assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": KEYS[0][:-1]},
        {"X-API-Key": KEYS[0] + "0"},
        {"X-API-Key": ",".join(KEYS)},
        {"Authorization": KEYS[0]},
        {"Authorization": f"Basic {KEYS[0]}"},
        {"X-API-Key": "é".encode()},
    ],
)
def test_without_a_key_nothing_is_told(codes_index, headers: dict[str, Any]) -> None:
    with client_of(codes_index, keys=KEYS) as client:
        for address in (
            "/info",
            "/random",
            "/map",
            "/metrics",
            "/item?id=bee/1.png",
            "/picture?id=bee/1.png",
            "/nothing",
        ):
            answer = client.get(address, headers=headers)
            assert "must show an API key" in refused(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
        refused(client.post("/search", json={"ids": ["bee/1.png"]}, headers=headers), 401)
        for address in ("/health", "/", "/page.js", "/openapi.json"):
            assert client.get(address, headers=headers).status_code == 200


def test_keys_are_compared_in_constant_time(monkeypatch) -> None:
    compared, right = [], hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return right(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert has_key([(b"x-api-key", KEYS[0].encode())], KEYS)
    assert compared == [key.encode() for key in KEYS], "all of them, also once one was the right one"


def test_keys_in_a_file(tmp_path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# ours\n{KEYS[0]}\n\n  {KEYS[1]}  \n")
    assert read_keys(path) == KEYS
    for text, says in (
        ("", "at least one key"),
        ("# none\n", "at least one key"),
        (f"{KEYS[0]}\nshort\n", "line 2 must be a key of at least 16 characters, got 5"),
        ("with a space in it\n", "without spaces"),
        ("schlüsselschlüssel\n", "printable ASCII"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=says) as error:
            read_keys(path)
        assert KEYS[0] not in str(error.value) and "schl" not in str(error.value)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        read_keys(path)
    with pytest.raises(OSError):
        read_keys(tmp_path / "nothing")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"])
def test_a_local_address_needs_no_key(host: str) -> None:
    assert is_local(host)
    check_address(ServiceSettings(host=host), ())


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.7", "10.0.0.1", "example.org", "localhost.example.org", "127.1"]
)
def test_a_public_address_needs_one(host: str) -> None:
    with pytest.raises(InputError, match="must be local.*--api-key-file"):
        check_address(ServiceSettings(host=host), ())
    check_address(ServiceSettings(host=host), KEYS)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "localhost.evil.example"]
)
def test_another_name_of_this_machine_is_not_answered(client, host: str) -> None:
    """A page may have its own name lead here (DNS rebinding)."""
    assert "Host header" in refused(client.get("/info", headers={"host": host}), 421)


def test_names_that_are_answered(codes_index) -> None:
    with client_of(codes_index, names=("Search.example",)) as client:
        for host in (
            "localhost",
            "LOCALHOST:8000",
            "127.0.0.1:8000",
            "[::1]:8000",
            "[::1]",
            "search.example:80",
        ):
            assert client.get("/info", headers={"host": host}).status_code == 200, host
    with client_of(codes_index, keys=KEYS) as client:
        assert client.get("/info", headers={"host": "any.example", "x-api-key": KEYS[0]}).status_code == 200


def test_a_request_that_is_too_large(images_index) -> None:
    with client_of(images_index, max_upload_mib=0.01) as client:
        upload = {"images": ("a.png", bytes(20_000))}
        assert "at most 10485 bytes" in refused(client.post("/search/images", files=upload), 413)
        assert "at most 10485 bytes" in refused(client.post("/search", content=b" " * 20_000), 413)
        kind = {"content-type": "application/json"}
        slow = (b" " * 1000 for _ in range(30))  # without a length that is known before
        assert "at most" in refused(client.post("/search", content=slow, headers=kind), 413)
        form = {"content-type": "multipart/form-data; boundary=x"}
        parts = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
        slow = (chunk for chunk in (parts, *(b"0" * 1000 for _ in range(30)), b"\r\n--x--\r\n"))
        assert "at most" in refused(client.post("/search/images", content=slow, headers=form), 413)
        refused(client.post("/search", content=b"{}", headers={"content-length": "9" * 30}), 413)
        refused(client.post("/search", content=b"{}", headers={"content-length": "many"}), 413)


def test_too_many_images(images_index) -> None:
    with client_of(images_index, max_queries=3) as client:
        content = png(items_of("images", 1)[0])
        upload = [("images", (f"{i}.png", content)) for i in range(4)]
        assert "at most 3 queries, got 4" in refused(client.post("/search/images", files=upload), 422)
        assert len(client.post("/search/images", files=upload[:3]).json()["results"]) == 3


class Slow:
    """A search that takes as long as it is told; it is begun in the thread that searches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from dshc.service import batches

        self.go, self.begun, right = threading.Event(), threading.Event(), batches.answered

        def answered(index: Any, jobs: Any) -> Any:
            self.begun.set()
            self.go.wait(20)
            return right(index, jobs)

        monkeypatch.setattr(batches, "answered", answered)


def test_more_requests_than_are_answered_at_a_time(codes_index, monkeypatch) -> None:
    with client_of(codes_index, max_concurrency=2) as client:
        for _ in range(1000):  # else its first searches would be slow, too, and it not ready
            if client.service.is_ready:
                break
            time.sleep(0.01)
        slow = Slow(monkeypatch)
        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(asked, client, ids=["bee/1.png"]) for _ in range(2)]
            assert slow.begun.wait(10)
            # Nothing is asked before both are there: a third one could take the second's place.
            for _ in range(1000):
                if client.service.metrics.running.collect()[0].samples[0].value == 2:
                    break
                time.sleep(0.01)
            answer = client.get("/random")
            assert "2 requests run already" in refused(answer, 503)
            assert answer.headers["retry-after"] == "1"
            assert client.get("/health").status_code == client.get("/ready").status_code == 200
            slow.go.set()
            assert all(len(one.result()["results"]) == 1 for one in running)
        assert client.get("/random").status_code == 200


def test_an_answer_that_takes_too_long(codes_index, monkeypatch) -> None:
    with client_of(codes_index, max_seconds=0.3) as client:
        asked(client, ids=["bee/1.png"])
        slow = Slow(monkeypatch)
        started = time.perf_counter()
        assert "more than 0.3 s" in refused(client.post("/search", json={"ids": ["bee/1.png"]}), 504)
        assert time.perf_counter() - started < 5
        slow.go.set()
        asked(client, ids=["bee/1.png"])


def test_a_request_that_arrives_too_slowly(codes_index) -> None:
    with client_of(codes_index, max_seconds=0.2) as client:
        sent: list[Any] = []

        async def receive() -> Any:
            await asyncio.sleep(30)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/search", "raw_path": b"/search", "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")], "http_version": "1.1",
            "scheme": "http", "server": ("localhost", 80), "client": ("localhost", 1), "root_path": "",
        }  # fmt: skip
        asyncio.run(client.app(scope, receive, send))
        assert sent[0]["status"] == 408 and b"must arrive within 0.2 s" in sent[1]["body"]


def test_other_protocols_are_passed_over(client) -> None:
    async def never(*_: Any) -> None:
        raise AssertionError

    asyncio.run(client.app.middleware_stack({"type": "websocket", "path": "/"}, never, never))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"port": 70000}, "port must be at least 0 and at most 65535"),
        ({"host": ""}, "host must be an address"),
        ({"max_k": 0}, "max_k must be at least 1"),
        ({"max_seconds": 0.0}, "max_seconds must be more than 0"),
        ({"max_pixles": 3}, "did you mean 'max_pixels'"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        ServiceSettings(**settings)
