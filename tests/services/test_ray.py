"""Shards on nodes of Ray: the answers of one process, also while nodes and workers are lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import dshc_ok
from ray_nodes import workers_of
from shard_cases import check_answers, make_shards
from training_runs import train

import dshc_fast
from dshc.cluster import Connection, RayHolders, ShardedIndex
from dshc.errors import InputError
from dshc.storage import CodeFile

pytestmark = pytest.mark.services


@pytest.mark.parametrize("n_nodes", [1, 2, 3])
def test_answers(n_nodes: int, nodes: Any, tmp_path: Path) -> None:
    nodes.add(n_nodes)
    shards = make_shards(tmp_path, n_bits=(64, 30, 130)[n_nodes - 1], n_shards=3)
    with ShardedIndex(nodes.address, shards.paths, unique_ids=n_nodes == 2, check=n_nodes == 3) as index:
        assert len(set(index._holders.nodes().values())) == n_nodes
        check_answers(index, shards)


def test_a_node_is_lost(nodes: Any, tmp_path: Path) -> None:
    """While questions are asked: each has its whole answer, and the shards are held elsewhere in the end."""
    first, second, third = nodes.add(3)
    shards = make_shards(tmp_path, n_shards=4)
    want = dshc_fast.hamming_topk(shards.queries.codes, shards.codes, 50)
    with ShardedIndex(nodes.address, shards.paths) as index:
        for lost, left in ((first, {second.node_id, third.node_id}), (second, {third.node_id})):
            assert lost.node_id in index._holders.nodes().values()
            remover = threading.Timer(0.2, nodes.remove, [lost])
            remover.start()
            end = time.monotonic() + 60
            while not set(index._holders.nodes().values()) <= left and time.monotonic() < end:
                found = index.search(shards.queries, 50)
                np.testing.assert_array_equal(found.indices, want.indices)
                np.testing.assert_array_equal(found.distances, want.distances)
            remover.join()
            assert set(index._holders.nodes()) == set(range(4))
            assert set(index._holders.nodes().values()) == left
        check_answers(index, shards)


def test_a_holder_is_killed_while_it_answers(nodes: Any, tmp_path: Path) -> None:
    nodes.add(1)
    shards = make_shards(tmp_path, n_shards=3)

    class Killing(RayHolders):
        def _gathered(self, asked: dict[str, Any], timeout: float) -> list[Any]:
            if not killed and self._facts:
                killed.append(self._ray.kill(self._actors[self.nodes()[1]]))
            return super()._gathered(asked, timeout)

    killed: list[None] = []
    with ShardedIndex(nodes.address, shards.paths) as index:
        index._holders.__class__ = Killing
        check_answers(index, shards)
    assert killed


def test_a_shard_is_gone(nodes: Any, tmp_path: Path) -> None:
    """It is an error that names it; with ``partial`` the answer names it; never is it passed over in silence."""
    nodes.add(2)
    shards = make_shards(tmp_path, n_shards=4)
    gone = Path(shards.paths[2])
    kept = gone.rename(tmp_path / "elsewhere")
    with pytest.raises(
        InputError, match="1 of 4 shards cannot be had.*02.safetensors: no such file or folder on any"
    ):
        ShardedIndex(nodes.address, shards.paths)
    kept.rename(gone)
    want = dshc_fast.hamming_topk(shards.queries.codes, shards.codes, 20)
    with ShardedIndex(nodes.address, shards.paths) as index:
        gone.rename(kept)
        lose_the_holder(index, 2)  # its map outlives the file, its process does not
        with pytest.raises(InputError, match="1 of 4 shards cannot be had.*02.safetensors"):
            index.search(shards.queries, 20)
        with pytest.raises(InputError, match="02.safetensors"):
            index.average_precision(shards.queries)
        index.partial = True
        found = index.search(shards.queries, 20)
        assert found.missing == (str(gone),)
        start, stop = index.starts[2:4]
        assert not ((found.indices >= start) & (found.indices < stop)).any()
        assert "PARTIAL, without" in index.evaluate(shards.queries).line()
        kept.rename(gone)
        found = index.search(shards.queries, 20)
        assert found.missing == ()
        np.testing.assert_array_equal(found.indices, want.indices)
        lose_the_holder(index, 2)
        file = CodeFile.load(gone)
        CodeFile(file.codes[::-1].copy(), file.n_bits, file.labels, file.ids, file.class_names).save(gone)
        index.partial = False
        with pytest.raises(InputError, match="must be what was opened first, its content is another now"):
            index.search(shards.queries, 20)


def test_a_holder_that_hangs(nodes: Any, tmp_path: Path) -> None:
    """It is given some seconds, then its shards are asked elsewhere."""
    nodes.add(2)
    shards = make_shards(tmp_path, n_shards=3)
    want = dshc_fast.hamming_topk(shards.queries.codes, shards.codes, 50)
    with ShardedIndex(nodes.address, shards.paths, timeout=8) as index:
        hanging = workers_of("Holder")[0]
        os.kill(hanging, signal.SIGSTOP)
        try:
            found = index.search(shards.queries, 50)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(hanging, signal.SIGKILL)
        np.testing.assert_array_equal(found.indices, want.indices)
        assert len(set(index._holders.nodes().values())) == 1
    with pytest.raises(InputError, match="threads must be a whole number of at least 1, got 0"):
        ShardedIndex(nodes.address, shards.paths, threads=0)


def test_hedged_requests(nodes: Any, tmp_path: Path) -> None:
    """A holder that is slow is not waited for: the other one of its shards answers, the same; what it says later is
    dropped, and it is asked first again once it keeps up."""
    nodes.add(2)
    shards = make_shards(tmp_path, n_shards=4)
    want = dshc_fast.hamming_topk(shards.queries.codes, shards.codes, 50)
    with ShardedIndex(nodes.address, shards.paths, copies=2, hedge=0.9, timeout=60) as index:
        holders = index._holders
        assert all(len(set(held)) == 2 for held in holders.holders().values())
        check_answers(index, shards)
        for _ in range(20):
            index.search(shards.queries, 50)
        usual = holders.n_hedged
        slow = workers_of("Holder")[0]
        os.kill(slow, signal.SIGSTOP)
        try:
            for _ in range(3):
                start = time.monotonic()
                found = index.search(shards.queries, 50)
                assert time.monotonic() - start < 5, "else it waits for as long as the other one is stopped"
                np.testing.assert_array_equal(found.indices, want.indices)
                np.testing.assert_array_equal(found.distances, want.distances)
            assert holders.n_hedged > usual and holders._late
        finally:
            os.kill(slow, signal.SIGCONT)
        end = time.monotonic() + 30
        while holders._late and time.monotonic() < end:
            found = index.search(shards.queries, 50)
            np.testing.assert_array_equal(found.indices, want.indices)
        assert not holders._late and len(set(holders.nodes().values())) == 2
        os.kill(slow, signal.SIGKILL)
        check_answers(index, shards)
    for more, message in (
        ({"hedge": 0.9}, "copies must be at least 2 where hedge is given, got 1"),
        ({"hedge": 1, "copies": 2}, "hedge must be a quantile between 0 and 1"),
        ({"copies": 0}, "copies must be a whole number of at least 1, got 0"),
    ):
        with pytest.raises(InputError, match=message):
            ShardedIndex(nodes.address, shards.paths, **more)


def test_a_late_answer_that_never_comes(nodes: Any, tmp_path: Path) -> None:
    """Its holder is ended after the time that an answer may take, and its shards are copied elsewhere."""
    nodes.add(3)
    shards = make_shards(tmp_path, n_shards=3)
    with ShardedIndex(nodes.address, shards.paths, copies=2, hedge=0.9, timeout=2) as index:
        for _ in range(20):
            index.search(shards.queries, 50)
        before = index._holders.holders()
        hanging = workers_of("Holder")[0]
        os.kill(hanging, signal.SIGSTOP)
        try:
            end = time.monotonic() + 60
            while index._holders.holders() == before and time.monotonic() < end:
                check_answers(index, shards)
            check_answers(index, shards)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(hanging, signal.SIGKILL)
        after = index._holders.holders()
        assert after != before and all(len(set(held)) == 2 for held in after.values())


def lose_the_holder(index: ShardedIndex, place: int) -> None:
    """Until it is gone: told to end, it may still answer a question."""
    holders = index._holders
    actor = holders._actors[holders.nodes()[place]]
    holders._ray.kill(actor)
    end = time.monotonic() + 30
    with pytest.raises(holders._ray.exceptions.RayError):
        while time.monotonic() < end:
            holders._ray.get(actor.ask.remote("topk", {}, None))


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In seconds, by name: where nothing listens, and where something else does."""
    shards = make_shards(tmp_path, n_shards=1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            start = time.monotonic()
            with pytest.raises(
                ConnectionError, match=f"{address}: must be the address of a Ray cluster, nobody"
            ):
                ShardedIndex(address, shards.paths)
            assert time.monotonic() - start < 15
        listener.listen()
        start = time.monotonic()
        with pytest.raises(ConnectionError, match="what listens there does not answer as one"):
            ShardedIndex(f"127.0.0.1:{port}", shards.paths)
        assert time.monotonic() - start < 60
        for name in ("INITIAL_TIMEOUT_SEC", "MAX_TIMEOUT_SEC"):  # 30 s in all are a wait for nothing here
            monkeypatch.setattr(f"ray.util.client.worker.{name}", 1)
        with pytest.raises(ConnectionError, match=f"ray://127.0.0.1:{port}: .* connection timeout"):
            ShardedIndex(f"ray://127.0.0.1:{port}", shards.paths)


def test_a_process_that_is_in_a_cluster(nodes: Any, tmp_path: Path) -> None:
    import ray

    nodes.add(1)
    shards = make_shards(tmp_path, n_shards=2)
    ray.init(address=nodes.address, log_to_driver=False)
    try:
        with ShardedIndex("auto", shards.paths) as index:
            check_answers(index, shards)
        assert ray.is_initialized()  # it was before
        with pytest.raises(InputError, match="must be 'auto' or that of the cluster that this process is in"):
            Connection("127.0.0.1:6379")
    finally:
        ray.shutdown()


def test_by_the_client_server(nodes: Any, tmp_path: Path) -> None:
    """From a machine that is no node, by ray://."""
    nodes.add(1)
    shards = make_shards(tmp_path, n_shards=2)
    with ShardedIndex(nodes.client_address, shards.paths) as index:
        check_answers(index, shards)


def test_a_client_that_is_refused(nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says why, and the next connection of the process is let in."""
    nodes.add(1)
    shards = make_shards(tmp_path, n_shards=2)

    def refused(*_: object) -> None:
        raise ConnectionAbortedError(
            "Initialization failure from server:\nTraceback\n  a line\nRuntimeError: no room"
        )

    with monkeypatch.context() as patch:
        patch.setattr("ray.util.client.worker.Worker._server_init", refused)
        with pytest.raises(
            ConnectionError, match=r"no Ray cluster lets .*failure from server: RuntimeError: no room\)"
        ):
            ShardedIndex(nodes.client_address, shards.paths)
    for address in (nodes.address, nodes.client_address):
        with ShardedIndex(address, shards.paths) as index:
            check_answers(index, shards)


def test_command_line(nodes: Any, features: Path, tmp_path: Path) -> None:
    """The commands say what those for one file say."""
    nodes.add(1)
    run = train(tmp_path / "run", {"source": str(features), "epochs": 1, "threads": 1})
    out, one = tmp_path / "shards", tmp_path / "one.safetensors"
    cluster = ("--cluster", nodes.address)
    assert "240 codes in 1 shard" in dshc_ok("encode", run.folder, features, *cluster, "--out", out)
    assert "240 codes" in dshc_ok("encode", run.folder, features, "--out", one)
    found, want = (
        [[(one["hamming"], one["index"]) for one in answer["results"]] for answer in json_lines(printed)]
        for printed in (
            dshc_ok("search", out, one, *cluster, "-k", "5", "--json"),
            dshc_ok("search", one, one, "-k", "5", "--json"),
        )
    )
    assert len(found) == 240 and found == want
    assert "query\trank\thamming\tindex\tid\n" in dshc_ok("search", out, one, *cluster, "-k", "2")
    (told,) = json_lines(dshc_ok("evaluate", one, out, *cluster, "--out", tmp_path / "numbers", "--json"))
    (measured,) = json_lines(dshc_ok("evaluate", one, one, "--json"))
    name = "mean_average_precision"
    assert told[name]["value"] == pytest.approx(measured[name]["value"], abs=1e-12)
    assert (tmp_path / "numbers" / "evaluation.json").is_file()
    assert "ties=expected" in dshc_ok("evaluate", one, out, *cluster)


def json_lines(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
