"""An index that is written while it is served: what is new is found soon, and no answer is torn."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served_indexes import CLASSES, Log, asked, client_of, index_of_codes, random_codes, refused

import dshc
from dshc.errors import InputError
from dshc.service import Served

SOON = {"poll_seconds": 0.02}


def until(condition: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def n_items(client: Any) -> int:
    return client.get("/info").json()["n_items"]


def test_what_a_writer_changes_is_seen(tmp_path) -> None:
    log = Log()
    folder = index_of_codes(tmp_path / "index", 50)
    with client_of(folder, log=log, **SOON) as client:
        assert n_items(client) == 50
        with dshc.HashIndex.open(folder) as writer:
            writer.add(random_codes(3, 29, seed=9), ["new-0", "new-1", "new-2"], labels=np.array([0, 1, 2]))
            until(lambda: n_items(client) == 53)
            assert asked(client, ids=["new-1"], k=1)["results"][0]["items"][0]["id"] == "new-1"
            writer.remove(["new-1"])
            until(lambda: n_items(client) == 52)
            refused(client.post("/search", json={"ids": ["new-1"]}), 404)
            writer.compact()
            assert len(asked(client, ids=["new-2"], k=60)["results"][0]["items"]) == 52
    assert {event["event"] for event in log.events} >= {"refreshed"}


def test_answers_are_of_one_state_while_a_writer_is_at_work(tmp_path) -> None:
    """All of a block of items, or none: each is added in one step."""
    folder = index_of_codes(tmp_path / "index", 20)
    block, code = 40, "00000000"
    written = threading.Event()

    def write() -> None:
        with dshc.HashIndex.open(folder) as writer:
            for number in range(15):
                ids = [f"{number}-{i}" for i in range(block)]
                writer.add(np.zeros((block, 4), np.uint8), ids, labels=np.full(block, number % 5))
                if number % 5 == 4:
                    writer.remove([f"{number - 1}-{i}" for i in range(block)])
                    writer.compact()
        written.set()

    with client_of(folder, **SOON) as client:
        thread = threading.Thread(target=write)
        thread.start()
        sizes = set()
        while not written.is_set() or len(sizes) < 2:
            result = asked(client, codes=[code], k=1000, include=["label", "code"])["results"][0]
            own = [item for item in result["items"] if "-" in item["id"]]
            assert len(own) % block == 0, "part of a change was seen"
            for item in own:
                assert item["label"] == CLASSES[int(item["id"].split("-")[0]) % 5] and item["code"] == code
            sizes.add(len(own))
        thread.join()
        until(lambda: n_items(client) == 20 + 12 * block)


def test_a_present_state_stays_as_it_is(tmp_path) -> None:
    """A search that runs while a newer state replaces it ends in its own."""
    folder = index_of_codes(tmp_path / "index", 30)
    served = Served.open(folder)
    before, codes = served.index, random_codes(2, 29, seed=3)
    right = before.search(codes, 30)
    assert not served.has_changed()
    with dshc.HashIndex.open(folder) as writer:
        writer.remove(right.ids[0][:5].tolist())
        writer.compact()
    assert served.has_changed()
    newer = served.newer()
    assert len(newer) == 25 and len(before) == 30
    assert not served.has_changed()
    after = before.search(codes, 30)
    np.testing.assert_array_equal(after.ids, right.ids)
    assert len(newer.search(codes, 25).ids[0]) == 25
    served.close()


def test_a_damaged_index_is_not_taken_over(tmp_path) -> None:
    log = Log()
    folder = index_of_codes(tmp_path / "index", 30)
    with client_of(folder, log=log, **SOON) as client:
        content = (folder / "index.json").read_bytes()
        (folder / "index.json").write_bytes(b"{")
        until(lambda: any(event["event"] == "refresh failed" for event in log.events))
        assert n_items(client) == 30
        asked(client, ids=["ant/0.png"], k=30)
        time.sleep(0.2)
        assert len([event for event in log.events if event["event"] == "refresh failed"]) == 1, "said once"
        (folder / "index.json").write_bytes(content)
        until(lambda: any(event["event"] == "refreshed" for event in log.events))
        with dshc.HashIndex.open(folder) as writer:
            writer.add(random_codes(1, 29), ["new"])
        until(lambda: n_items(client) == 31)
    failed = [event for event in log.events if event["event"] == "refresh failed"]
    assert str(tmp_path) not in "".join(event["error"] for event in failed)


def test_another_index_in_its_place_is_not_taken_over(tmp_path) -> None:
    folder = index_of_codes(tmp_path / "index", 30)
    served = Served.open(folder)
    shutil.rmtree(folder)
    index_of_codes(folder, 30, bits=16)
    with pytest.raises(InputError, match="another layout"):
        served.newer()
    assert len(served.index.search(random_codes(1, 29), 30).ids[0]) == 30
    served.close()


def test_another_index_of_the_same_layout_is_found_in(tmp_path) -> None:
    """Its parts have the names of the first one's: nothing that was prepared of those is used."""
    folder = index_of_codes(tmp_path / "index", 30)
    served = Served.open(folder)
    for _ in range(3):
        served.index.search(random_codes(1, 29), 30)
    shutil.rmtree(folder)
    index_of_codes(folder, 30)
    with dshc.HashIndex.open(folder) as writer:
        writer.update(random_codes(30, 29, seed=8), writer.ids())
        writer.compact()
        right = writer.search(random_codes(4, 29, seed=4), 30)
    newer = served.newer()
    for _ in range(3):
        found = newer.search(random_codes(4, 29, seed=4), 30)
        np.testing.assert_array_equal(found.distances, right.distances)
        np.testing.assert_array_equal(found.ids, right.ids)
    served.close()


def test_an_index_that_is_gone_is_served_on(tmp_path) -> None:
    folder: Path = index_of_codes(tmp_path / "index", 30)
    with client_of(folder, **SOON) as client:
        shutil.rmtree(folder)
        time.sleep(0.1)
        assert len(asked(client, ids=["ant/0.png"], k=30)["results"][0]["items"]) == 30
