"""``dshc serve --cluster``: Ray Serve over shards on nodes of Ray answers what ``dshc serve`` answers of one index."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cli_runs import dshc_fails
from ray_nodes import workers_of
from served_indexes import client_of
from served_process import ServedProcess, answered_in_two_parts, served_process
from served_shards import QUESTIONS, WITH_METADATA, cut_index, replies

pytestmark = pytest.mark.services


def by_cluster(nodes: Any, shards: Path, *more: object) -> Any:
    return served_process(shards, "--cluster", nodes.address, *more)


@pytest.mark.parametrize("n_nodes", [1, 3])
def test_answers(n_nodes: int, nodes: Any, tmp_path: Path) -> None:
    """Byte by byte; the key, the limits, health, metrics and the page are there; it ends in order."""
    nodes.add(n_nodes)
    whole, shards = cut_index(tmp_path, 5)
    keys = tmp_path / "keys"
    keys.write_text("0123456789abcdef\n")
    shown = {"x-api-key": "0123456789abcdef"}
    questions = QUESTIONS + WITH_METADATA
    flags = ("--api-key-file", keys, "--max-upload-mib", 0.01)
    flags += ("--copies", 2, "--hedge", 0.9) if n_nodes == 3 else ()
    with client_of(whole) as one, by_cluster(nodes, shards, *flags) as many:
        assert many.wait_for("ready")["items"] == 480
        with httpx2.Client(base_url=many.address, headers=shown, timeout=30) as client:
            for question, want, found in zip(
                questions, replies(one, questions), replies(client, questions), strict=True
            ):
                if b"no precision is known" not in want[1]:
                    assert found == want, question
            assert client.get("/page.js").content == one.get("/page.js").content
            assert client.get("/openapi.json").content == one.get("/openapi.json").content
            assert client.get("/").headers["content-security-policy"].startswith("default-src 'none'")
            answer = client.post("/search", json={"ids": ["x" * 20000]})
            assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_large"
            assert 'dshc_requests_total{method="POST"' in client.get("/metrics").text
        with httpx2.Client(base_url=many.address, timeout=30) as client:
            answer = client.post("/search", json={"ids": ["bee/1.png"]})
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "no_key")
            assert client.get("/health").status_code == client.get("/ready").status_code == 200
            assert "0123456789abcdef" not in str(many.events)
        assert many.end(signal.SIGINT) == 0
        assert many.events[-1]["event"] == "ended"
        assert not many.others, "nothing but JSON"
    assert not workers_of("Holder"), "holders end with the service"


def test_it_is_asked_while_a_node_is_lost(nodes: Any, tmp_path: Path) -> None:
    """Every answer is whole, or is none; in the end all are."""
    added = nodes.add(3)
    whole, shards = cut_index(tmp_path, 6)
    body = {"codes": ["00ff0010"], "k": 200, "include": ["code"]}
    with client_of(whole) as one, by_cluster(nodes, shards, "--max-seconds", 60) as many:
        want = one.post("/search", json=body).content
        many.wait_for("ready")
        for lost in added[:2]:
            statuses = []
            remover = threading.Timer(0.3, nodes.remove, [lost])
            remover.start()
            end = time.monotonic() + 90
            with httpx2.Client(base_url=many.address, timeout=90) as client:
                while time.monotonic() < end:
                    answer = client.post("/search", json=body)
                    statuses.append(answer.status_code)
                    assert answer.status_code in (200, 500, 503), answer.text
                    if answer.status_code == 200:
                        assert answer.content == want
                        if not remover.is_alive() and statuses[-20:] == [200] * 20:
                            break
            remover.join()
            assert statuses[-20:] == [200] * 20


def test_shards_that_are_gone(nodes: Any, tmp_path: Path) -> None:
    nodes.add(1)
    whole, shards = cut_index(tmp_path, 3)
    with by_cluster(nodes, shards, "--partial", "--poll-seconds", 1000) as many:
        many.wait_for("ready")
        (shards / "01").rename(tmp_path / "elsewhere")
        for holder in workers_of("Holder"):
            os.kill(holder, signal.SIGKILL)
        body = {"codes": ["00ff0010"], "k": 480}
        answer = httpx2.post(f"{many.address}/search", json=body, timeout=60).json()
        assert answer["missing_shards"] == ["01"] and len(answer["results"][0]["items"]) == 320
        (tmp_path / "elsewhere").rename(shards / "01")
        answer = httpx2.post(f"{many.address}/search", json=body, timeout=60).json()
        assert "missing_shards" not in answer and len(answer["results"][0]["items"]) == 480


def test_many_at_a_time(nodes: Any, tmp_path: Path) -> None:
    """Ray Serve puts searches together: of many at a time there are few searches, each answered as alone. There is one
    such service in a cluster. Told to end, it finishes what runs."""
    nodes.add(1)
    whole, shards = cut_index(tmp_path, 2)
    bodies = [{"codes": [f"{i:06x}1f"], "k": 3 + i % 2} for i in range(48)]
    with client_of(whole) as one, by_cluster(nodes, shards, "--batch-ms", 200) as process:
        process.wait_for("ready")
        want = [one.post("/search", json=body).content for body in bodies]
        with httpx2.Client(base_url=process.address, timeout=60) as client, ThreadPoolExecutor(48) as pool:
            before = batches(client)
            answers = list(pool.map(lambda body: client.post("/search", json=body), bodies))
            assert [answer.content for answer in answers] == want
            searches, queries = (now - then for now, then in zip(batches(client), before, strict=True))
            assert queries == 48 and searches <= 24
        assert "must run no Ray Serve yet" in dshc_fails("serve", shards, "--cluster", nodes.address)
        check_what_runs_is_finished(process)


def batches(client: Any) -> tuple[float, float]:
    """Searches, and queries in them, that the service has run."""
    lines = client.get("/metrics").text.splitlines()
    return tuple(
        float(next(line for line in lines if line.startswith(f"dshc_batch_queries_{what} ")).split()[1])
        for what in ("count", "sum")
    )


def check_what_runs_is_finished(process: ServedProcess) -> None:
    def end() -> None:
        process.tell(signal.SIGTERM)
        time.sleep(0.5)

    answer = answered_in_two_parts(process, end, "Connection: close")
    assert answer.startswith(b"HTTP/1.1 200 OK") and answer.count(b'"distance"') == 5
    assert process.wait() == 0
    assert process.events[-1]["event"] == "ended" and not process.others, "nothing but JSON"


def test_what_is_refused(nodes: Any, tmp_path: Path) -> None:
    nodes.add(1)
    _, shards = cut_index(tmp_path, 2)
    at = ("--cluster", nodes.address)
    assert "--api-key-file" in dshc_fails("serve", shards, "--host", "0.0.0.0", *at)
    assert "no such file or folder" in dshc_fails("serve", tmp_path / "nothing", *at)
    assert "nobody answers there" in dshc_fails("serve", shards, "--cluster", "127.0.0.1:1")
    (tmp_path / "list.json").write_text(json.dumps([str(shards / "00"), str(tmp_path / "unseen")]))
    assert "unseen: no such file or folder on any node" in dshc_fails("serve", tmp_path / "list.json", *at)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "must be free to listen at" in dshc_fails("serve", shards, "--port", port, *at)
