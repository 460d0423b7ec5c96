"""A service of shards answers what that of one index with all items answers, byte by byte. The shards are held by this
process here; tests/services has the same over nodes of Ray."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from effort import deep
from served_indexes import Log, asked, client_of, index_of_codes, index_of_items, random_codes, refused
from served_shards import QUESTIONS, WITH_METADATA, cut_index, cut_into_files, replies
from small_hashers import items_of

import dshc
from dshc.cluster import MissingShards, ShardedItems
from dshc.errors import InputError
from dshc.storage import CodeFile


@contextlib.contextmanager
def client_of_shards(path: Path, *, settings: dict[str, Any] | None = None, **opened: Any) -> Iterator[Any]:
    from fastapi.testclient import TestClient

    from dshc.service import ServiceSettings, create_app
    from dshc.service.served_shards import ServedShards, ShardBatches
    from dshc.service.watch import JsonLog

    served = ServedShards.open(None, path, **opened)
    log = Log()
    app = create_app(served, ServiceSettings(**(settings or {})), log=JsonLog(log), batches=ShardBatches)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        client.service, client.log = app.state.service, log
        wait(lambda: client.get("/ready").status_code == 200)
        yield client
    served.close()


def wait(until: Any) -> None:
    import time

    end = time.monotonic() + 30
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("n_shards", [1, 3, *deep(7)])
def test_indexes(tmp_path: Path, n_shards: int) -> None:
    whole, shards = cut_index(tmp_path, n_shards)
    questions = QUESTIONS + WITH_METADATA
    with client_of(whole) as one, client_of_shards(shards) as many:
        wait(lambda: one.get("/ready").status_code == 200)
        for question, want, found in zip(
            questions, replies(one, questions), replies(many, questions), strict=True
        ):
            if b"no precision is known" not in want[1]:  # it names the folder
                assert found == want, question
        info, told = one.get("/info").json(), many.get("/info").json()
        assert {**info, "name": ""} == {**told, "name": ""}
        index, items = one.service.served.index, many.service.served.index
        np.testing.assert_array_equal(items.sample(100, seed=3), index.sample(100, seed=3))
        assert "bee/1.png" in items and "bee/41.png" not in items
        wait(lambda: one.get("/map").json()["state"] == many.get("/map").json()["state"] == "ready")
        assert one.get("/map").content == many.get("/map").content


@pytest.mark.parametrize("with_ids", [True, False])
def test_code_files(tmp_path: Path, with_ids: bool) -> None:
    whole, shards = cut_into_files(tmp_path, 4, with_ids=with_ids)
    more: tuple[tuple[str, str, Any], ...] = (
        ("POST", "/search", {"ids": [17, "170"], "k": 40, "include": ["label", "code", "metadata"]}),
        ("POST", "/search", {"codes": ["00ff0010"], "filter": {"ids": [-1, 3, 299, 300, 170], "label": ["bee"]}}),
        ("POST", "/search", {"ids": [300]}),
        ("GET", "/item?id=299", None),
    )  # fmt: skip
    questions = QUESTIONS if with_ids else more
    with client_of(whole) as one, client_of_shards(shards) as many:
        wait(lambda: one.get("/ready").status_code == 200)
        for question, want, found in zip(
            questions, replies(one, questions), replies(many, questions), strict=True
        ):
            if b"no precision is known" not in want[1]:
                assert found == want, question


def test_an_empty_answer_and_overlap(tmp_path: Path) -> None:
    codes = random_codes(80, 29)
    for place in range(2):
        CodeFile(codes[place * 40 : place * 40 + 40], 29, score="overlap").save(
            tmp_path / "s" / f"{place}.safetensors"
        )
    with dshc.HashIndex.create(tmp_path / "one", bits=29, score="overlap") as index:
        index.add(codes)
    body = {"codes": ["00ff0010"], "k": 79, "radius": None}
    with client_of(tmp_path / "one") as one, client_of_shards(tmp_path / "s") as many:
        assert asked(many, **body) == asked(one, **body)
        body = {"codes": ["00ff0010"], "radius": 6}
        assert asked(many, **body) == asked(one, **body)


def test_shards_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with its name; where answers without it are allowed they say so, and whole ones stay as they are."""
    _, shards = cut_index(tmp_path, 3)
    with client_of_shards(shards) as client:
        index = client.service.served.index
        whole = asked(client, ids=["bee/1.png"], k=480)
        assert "missing_shards" not in whole
        holders = index._holders
        monkeypatch.setitem(holders._unopened, 1, f"{shards}/01: its holder was lost")
        answer = client.post("/search", json={"ids": ["bee/1.png"]})
        message = refused(answer, 503)
        assert "1 of 3 shards cannot be had" in message and str(tmp_path) not in message
        assert answer.headers["retry-after"] == "1" and answer.json()["error"]["code"] == "shards_missing"
        index.partial = True
        found = asked(client, ids=["bee/1.png"], k=480)
        assert found.pop("missing_shards") == ["01"]
        gone = set(dshc.HashIndex.open(shards / "01", read_only=True).ids())
        kept = [item for item in whole["results"][0]["items"] if item["id"] not in gone]
        assert found["results"][0]["items"] == kept and 0 < len(kept) < 480
        assert "01" in refused(client.post("/search", json={"ids": [sorted(gone)[0]]}), 503)
        assert client.get("/random?n=1000").status_code == 200
        monkeypatch.delitem(holders._unopened, 1)
        assert asked(client, ids=["bee/1.png"], k=480) == whole


def test_a_shard_is_lost_after_it_has_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before what it keeps of its items is asked for: an answer without it is found anew, where such are allowed."""
    _, shards = cut_index(tmp_path, 3)
    with client_of_shards(shards, partial=True) as client:
        index = client.service.served.index
        kept = ShardedItems.kept
        code = index.get(["bee/1.png"]).codes[0].tobytes().hex()
        monkeypatch.setitem(index._holders._unopened, 1, f"{shards}/01: its holder was lost")
        want = asked(client, codes=[code], k=480)
        assert want["missing_shards"] == ["01"]

        def lost(self: ShardedItems, *arguments: Any) -> Any:
            monkeypatch.setitem(self._holders._unopened, 1, f"{shards}/01: its holder was lost")
            return kept(self, *arguments)

        monkeypatch.setattr(ShardedItems, "kept", lost)
        for is_partial in (True, False):
            index.partial = is_partial
            monkeypatch.delitem(index._holders._unopened, 1)
            answer = client.post("/search", json={"codes": [code], "k": 480})
            if is_partial:
                assert answer.json() == want
            else:
                assert "01" in refused(answer, 503)


def test_it_becomes_ready_once_it_can_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reason why it cannot yet is logged once."""
    _, shards = cut_index(tmp_path, 2)
    nearest = ShardedItems.nearest
    reasons = [f"{shards}/{name}: lost" for name in ("00", "00", "01", "00")]

    def failing(self: ShardedItems, *arguments: Any) -> Any:
        if reasons:
            raise MissingShards(reasons.pop(0))
        return nearest(self, *arguments)

    monkeypatch.setattr(ShardedItems, "nearest", failing)
    with client_of_shards(shards, settings={"poll_seconds": 0.02}) as client:
        told = [event for event in client.log.events if "ready" in event["event"]]
        assert [event["event"] for event in told] == ["not ready", "not ready", "ready"]
        assert [event["error"] for event in told[:2]] == ["00: lost", "01: lost"]
        assert client.service.not_ready == "" and asked(client, ids=["bee/1.png"], k=1)["results"]


def test_what_was_replaced_is_held_for_a_while(tmp_path: Path) -> None:
    """For as long as a request may take that began with it; then nothing of it is left."""
    import gc
    import weakref

    from dshc.service.served_shards import ServedShards

    _, shards = cut_index(tmp_path, 2)
    served = ServedShards.open(None, shards, max_seconds=45)
    first = served.index
    served.index = served.newer()
    assert [timer.interval for timer in served._retired.values()] == [46]
    assert len(first.sample(3)) == 3
    served.close()
    assert not served._retired
    with pytest.raises(InputError, match="closed"):
        first.sample(3)
    served = ServedShards.open(None, shards)
    served._retire_after = 0.05
    before = weakref.ref(served.index)
    served.index = served.newer()
    wait(lambda: not served._retired)
    wait(lambda: gc.collect() >= 0 and before() is None)
    assert len(served.index.sample(3)) == 3
    served.close()


def test_changes_are_taken_over(tmp_path: Path) -> None:
    _, shards = cut_index(tmp_path, 2)
    with client_of_shards(shards, settings={"poll_seconds": 0.05}) as client:
        before = client.get("/info").json()["n_items"]
        with dshc.HashIndex.open(shards / "01") as index:
            index.add(random_codes(3, 29, 9), ["x", "y", "z"], labels=[1, 2, 3])
        wait(lambda: client.get("/info").json()["n_items"] == before + 3)
        assert asked(client, ids=["x"], k=1)["results"][0]["items"][0]["distance"] == 0
        index_of_codes(shards / "02", 5, bits=28)
        wait(lambda: "refresh failed" in client.log.text)
        assert asked(client, ids=["x"], k=1)["results"]


def test_hashers(tmp_path: Path) -> None:
    """Beside the first index that has one."""
    index_of_items(tmp_path / "s" / "0", "images")
    with client_of_shards(tmp_path / "s") as client:
        from served_indexes import png

        pixels = items_of("images", 3)[2]
        files = [("images", ("a.png", png(pixels)))]
        found = client.post("/search/images", files=files).json()["results"][0]["items"]
        assert found[0]["distance"] == 0


def test_orders_of_one_index_alone(tmp_path: Path) -> None:
    _, shards = cut_index(tmp_path, 2)
    with client_of_shards(shards) as client:
        for body in (
            {"ids": ["bee/1.png"], "rescore": 3},
            {"vectors": [[0.5]], "asymmetric": True},
        ):
            message = refused(client.post("/search", json=body), 422)
            assert "must go with one index, shards are ranked by codes alone" in message


def test_a_run_of_another_model(tmp_path: Path, finished: Any) -> None:
    from dshc.runs.encoding import model_name
    from dshc.service.served_shards import ServedShards

    run = dshc.load_run(finished.folder)
    codes = random_codes(9, run.hasher.n_bits)
    for model, named in (("another model", "another"), (model_name(run), "its_own")):
        shard = CodeFile(codes, run.hasher.n_bits, model=model)
        shard.save(tmp_path / named / "0.safetensors")
    ServedShards.open(None, tmp_path / "its_own", run=finished.folder).close()
    with pytest.raises(InputError, match="must be the model of the shards, another model, got dshc .* bits"):
        ServedShards.open(None, tmp_path / "another", run=finished.folder)


def test_ray_serve_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from dshc.service.by_ray import import_serve

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ImportError, match=r"serving by a cluster needs Ray Serve .*pip install 'dshc-fast\[cluster\]'"
    ):
        import_serve()


def test_what_is_refused(tmp_path: Path, finished: Any) -> None:
    from dshc.service.served_shards import ServedShards

    with pytest.raises(
        InputError, match="must be shards with --cluster .* it is a run; dshc encode RUN INPUT"
    ):
        ServedShards.open(None, finished.folder)
    codes = np.zeros((2, 4), np.uint8)
    for name, more in (("0", {}), ("1", {"ids": ("a", "b")})):
        CodeFile(codes, 29, **more).save(tmp_path / "s" / f"{name}.safetensors")
    with pytest.raises(
        InputError, match="1.safetensors: must have the ids of .*0.safetensors to be served with it"
    ):
        ShardedItems(None, tmp_path / "s")
    with pytest.raises(
        InputError, match="must make codes as the shards have them, 29 bits ranked by hamming, got"
    ):
        (tmp_path / "s" / "1.safetensors").unlink()
        ServedShards.open(None, tmp_path / "s", run=finished.folder)
    with ShardedItems(None, tmp_path / "s") as items:
        with pytest.raises(InputError, match="ids must be in the index, got 7"):
            items.get([0, 7])
        with pytest.raises(InputError, match="n must be at least 0"):
            items.sample(-1)
        assert issubclass(MissingShards, InputError) and len(items.sample(5)) == 2
