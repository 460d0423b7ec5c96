"""Bodies that cost much, conditions that would get lost, values that JSON or Python lack."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from served_indexes import asked, client_of, index_of_codes, index_with_vectors, png, refused
from small_hashers import a_hasher, items_of

import dshc
from dshc.errors import InputError
from dshc.service import Served
from dshc.service.models import SearchBody
from dshc.service.plain_metadata import plain_columns


@pytest.mark.parametrize(
    "body",
    [
        {"ids": [{}] * 200_000},
        {"vectors": [[[]] * 200_000]},
        {"vectors": [["a"]] * 200_000},
        {"codes": [{}] * 200_000},
        {"codes": [[{}] * 200_000]},
        {"rescore_vectors": [{}] * 200_000},
        {"filter": {"label": [{}] * 10_000}},
        {str(i): i for i in range(200_000)},
        {"filter": {str(i): i for i in range(200_000)}},
    ],
    ids=lambda body: json.dumps(body)[:30],
)
def test_a_wrong_body_ends_at_its_first_error(body: dict[str, Any]) -> None:
    """An error takes a kilobyte, and a body has room for a million."""
    tracemalloc.start()
    try:
        with pytest.raises(ValidationError) as raised:
            SearchBody.model_validate(body)
        assert len(raised.value.errors()) <= 2
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_body_that_does_not_say_that_it_is_json(client) -> None:
    answer = client.post("/search", content=b'{"ids": ["bee/1.png"]}', headers={"content-type": "text/plain"})
    assert refused(answer, 422) == "body: must be JSON that says so (Content-Type: application/json)"


def test_vectors_that_overflow_on_their_way(features_client, tmp_path) -> None:
    wrong = [[3e38] * 12, [3e38] * 6 + [-3e38] * 6]
    with client_of(index_with_vectors(tmp_path / "index", "features")) as with_vectors:
        for one, more in ((features_client, {}), (with_vectors, {}), (with_vectors, {"asymmetric": True})):
            message = refused(one.post("/search", json={"vectors": [[0.5] * 12, *wrong], **more}), 422)
            assert message == "the network must give finite numbers, gave others for query 1"


def test_the_vectors_of_results_are_read_only_to_rescore(tmp_path, monkeypatch) -> None:
    from dshc.index import index_items

    folder = index_with_vectors(tmp_path / "index", "features")

    def read(*_: object) -> None:
        raise AssertionError("vectors were read")

    with client_of(folder) as client:
        monkeypatch.setattr(index_items, "vectors_of", read)
        found = asked(client, ids=["bee/1.png"], k=20, include=["label", "code", "metadata"])
        assert len(found["results"][0]["items"]) == 20
        assert client.get("/item", params={"id": "bee/1.png"}).status_code == 200
    with dshc.HashIndex.open(folder, read_only=True) as index:
        kept = index.get(["bee/1.png"], vectors=False)
        assert kept.vectors is None and kept.labels is not None
        with pytest.raises(AssertionError, match="vectors were read"):
            index.get(["bee/1.png"])


def test_an_index_with_another_hasher_is_not_taken_over(tmp_path) -> None:
    for name, bits in (("index", "a"), ("other", "b")):
        hasher = a_hasher("dshc", "features")
        hasher.about["note"] = bits
        for weight in hasher.parameters():
            weight.data.add_(0.1 * ord(bits))
        with dshc.HashIndex.create(tmp_path / name, hasher=hasher) as index:
            index.add(hasher.encode(items_of("features", 9)))
    served = Served.open(tmp_path / "index")
    (tmp_path / "index").rename(tmp_path / "before")
    (tmp_path / "other").rename(tmp_path / "index")
    assert served.has_changed()
    with pytest.raises(InputError, match="must have the hasher that was opened with it, got another"):
        served.newer()


def test_a_relative_folder(tmp_path, monkeypatch) -> None:
    index_of_codes(tmp_path / "A")
    monkeypatch.chdir(tmp_path / "A")
    with client_of(Path()) as client:
        assert client.get("/info").json()["name"] == "A"
        where = {"ids": ["bee/1.png"], "filter": {"where": "YEAR > 3.5"}}
        assert "got 'YEAR'" in refused(client.post("/search", json=where), 422)


@pytest.mark.parametrize(
    ("kind", "values", "told"),
    [
        (pa.timestamp("s"), [10**12, 0, None], ["33658-09-27T01:46:40", "1970-01-01T00:00:00", None]),
        (pa.timestamp("us"), [2**60], ["38504-08-17T21:30:06.846976"]),
        (
            pa.timestamp("ns"),
            [1714557600123456789, 0],
            ["2024-05-01T10:00:00.123456789", "1970-01-01T00:00:00"],
        ),
        (pa.date32(), [10**7, -(10**7), 0], ["29349-01-26", "-25410-12-06", "1970-01-01"]),
        (pa.time64("ns"), [1, 10**9], ["00:00:00.000000001", "00:00:01"]),
        (pa.duration("s"), [10**18, 1], ["1000000000000000000 s", "0:00:01"]),
        (pa.duration("ns"), [1, 1000], ["1 ns", "0:00:00.000001"]),
    ],
    ids=str,
)
def test_times_that_python_lacks(kind: pa.DataType, values: list[int], told: list[str]) -> None:
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    column = pa.array(values, width).cast(kind)
    assert plain_columns(pa.table({"x": column}))["x"] == told


def test_times_are_told_by_the_service(tmp_path) -> None:
    with dshc.HashIndex.create(tmp_path / "index", bits=8, metadata={"when": "timestamp[s]"}) as index:
        index.add(np.zeros((2, 1), np.uint8), metadata={"when": pa.array([10**12, 0], pa.timestamp("s"))})
    with client_of(tmp_path / "index") as client:
        items = asked(client, ids=[0], include=["metadata"])["results"][0]["items"]
        assert [item["metadata"]["when"] for item in items] == ["33658-09-27T01:46:40", "1970-01-01T00:00:00"]
        assert client.get("/item", params={"id": "0"}).json()["metadata"]["when"] == "33658-09-27T01:46:40"
        only = asked(client, ids=[0], filter={"where": "when > '2020-06-01'"})["results"][0]["items"]
        assert [item["id"] for item in only] == [0]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ([("where", "")], "body.where: must not be empty"),
        ([("where", "year >= 2010"), ("where", "year < 2015")], "body.where: must be given once"),
        ([("k", "3"), ("k", "4")], "body.k: must be given once"),
        ([("radius", "1"), ("radius", "")], "body.radius: must not be empty"),
        ([("label", "")], "body.label: must not be empty"),
        ([("x" * 300, "1")], "xxx...: no such field"),
        ([("request", "1"), ("request", "2")], "body.request: no such field"),
    ],
)
def test_a_condition_of_a_form_is_not_lost(images_client, fields: list[tuple[str, str]], says: str) -> None:
    content = png(items_of("images", 1)[0])
    parts = [("images", ("a.png", content)), *((name, (None, value)) for name, value in fields)]
    assert says in refused(images_client.post("/search/images", files=parts), 422)
    parts = [("images", ("a.png", content)), ("label", (None, "ant")), ("label", (None, "bee"))]
    found = images_client.post("/search/images", files=parts).json()["results"][0]["items"]
    assert {item["label"] for item in found} <= {"ant", "bee"}


def test_an_image_of_floats(images_client) -> None:
    def post(*values: float) -> Any:
        content = b"Pf\n2 2\n-1.0\n" + struct.pack("<4f", *values)
        return images_client.post("/search/images", files={"images": ("a.pfm", content)})

    assert post(0.0, 0.25, 0.5, 1.0).status_code == 200
    assert "must lie in 0 to 1" in refused(post(0.0, 0.25, 0.5, 1e9), 422)
    assert "must lie in 0 to 1" in refused(post(0.0, float("nan"), 0.5, 1.0), 422)


def test_a_picture_that_was_replaced(tmp_path) -> None:
    from dshc.service.pictures import FolderPictures

    (tmp_path / "a.png").write_bytes(png(np.zeros((9, 9, 3), np.uint8)))
    pictures = FolderPictures(tmp_path, 1000)
    before = pictures.picture("a.png")
    assert pictures.picture("a.png") is before
    time.sleep(0.02)
    (tmp_path / "a.png").write_bytes(png(np.full((9, 9, 3), 200, np.uint8)))
    assert pictures.picture("a.png") != before


def test_addresses_for_those_who_watch(tmp_path) -> None:
    with client_of(index_of_codes(tmp_path / "index"), max_concurrency=1) as client:
        for address in ("/", "/health", "/page.js"):
            answer = client.head(address)
            assert answer.status_code == 200 and not answer.content
        assert client.head("/ready").status_code in (200, 503)
        for address in ("/health/", "/item/"):
            answer = client.get(address, follow_redirects=False)
            assert answer.status_code == 404 and "location" not in answer.headers
        gate = client.app.middleware_stack
        while not hasattr(gate, "_n_running"):
            gate = gate.app
        gate._n_running = 1
        refused(client.get("/info"), 503)
        assert client.get("/metrics").status_code == 200
