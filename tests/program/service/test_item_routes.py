"""What is told of items, of the index and of the service; the page, and what browsers are told with it."""

from __future__ import annotations

import io
import json
import re
import time
from typing import Any

import numpy as np
import pytest
from html_pages import Page
from PIL import Image
from served_indexes import N_ITEMS, Log, asked, client_of, index_of_codes, names_of, refused, write_pictures
from small_hashers import items_of

import dshc_fast
from dshc.service.pictures import SIDE, ArrayPictures, FolderPictures


def test_an_item(client) -> None:
    item = client.get("/item", params={"id": "bee/1.png"}).json()
    assert set(item) == {"id", "label", "code", "metadata"}
    assert (item["id"], item["label"], item["metadata"]) == (
        "bee/1.png",
        "bee",
        {"year": 2001, "weight": 0.5},
    )
    assert item["code"] == asked(client, ids=["bee/1.png"])["results"][0]["code"]
    assert "got 'gnu'" in refused(client.get("/item", params={"id": "gnu"}), 404)
    assert "query.id" in refused(client.get("/item"), 422)


def test_items_at_random(client) -> None:
    names = set(names_of(N_ITEMS))
    several = client.get("/random", params={"n": 40}).json()["ids"]
    assert len(set(several)) == 40 and set(several) <= names
    seen = {client.get("/random").json()["ids"][0] for _ in range(12)}
    assert len(seen) > 1
    assert "query.n" in refused(client.get("/random", params={"n": 0}), 422)


def test_what_is_served(client, images_client, features_client) -> None:
    info = client.get("/info").json()
    assert (info["name"], info["version"]) == ("index", dshc_fast.__version__)
    assert (info["n_items"], info["n_bits"], info["score"]) == (N_ITEMS, 29, "hamming")
    assert info["metadata"] == {"year": "int32", "weight": "float64"}
    assert (info["images"], info["n_features"], info["pictures"]) == (False, None, False)
    info = images_client.get("/info").json()
    assert (info["images"], info["n_features"], info["pictures"]) == (True, None, True)
    info = features_client.get("/info").json()
    assert (info["images"], info["n_features"], info["pictures"]) == (False, 12, False)


def test_health_readiness_and_metrics(codes_index) -> None:
    with client_of(codes_index) as client:
        assert client.get("/health").json() == {"status": "ok"}
        for _ in range(100):
            if (answer := client.get("/ready")).status_code == 200:
                break
            time.sleep(0.05)
        assert answer.json() == {"status": "ready"}
        asked(client, ids=["bee/1.png"])
        client.get("/no-such-thing/" + "x" * 300)
        text = client.get("/metrics").text
        values = dict(re.findall(r"^(\w+(?:\{[^}]*\})?) ([\d.e+]+)$", text, re.MULTILINE))
        assert values["dshc_index_items"] == f"{N_ITEMS}.0"
        assert values['dshc_requests_total{method="POST",path="/search",status="200"}'] == "1.0"
        assert values['dshc_requests_total{method="GET",path="other",status="404"}'] == "1.0"
        assert float(values["dshc_batch_queries_count"]) >= 1
        assert values["dshc_requests_running"] == "1.0"
        service = client.service
    assert not service.is_ready


def test_every_request_is_a_line_of_json(codes_index) -> None:
    log = Log()
    with client_of(codes_index, log=log) as client:
        asked(client, ids=["bee/1.png", "cat/2.png"], k=7)
        client.get("/item", params={"id": "bee/1.png\r\nX: y"})
        client.get("/no%1b%5b31m")
    requests = [event for event in log.events if event["event"] == "request"]
    assert all(
        set(r) == {"time", "event", "method", "path", "status", "ms", "queries", "items"} for r in requests
    )
    assert [(r["method"], r["path"], r["status"], r["queries"], r["items"]) for r in requests] == [
        ("POST", "/search", 200, 2, 14),
        ("GET", "/item", 404, 0, 0),
        ("GET", "/no\x1b[31m", 404, 0, 0),
    ]
    assert "\x1b" not in log.text and log.text.isascii()


def test_a_defect_is_told_to_the_log_only(codes_index, monkeypatch) -> None:
    log = Log()
    with client_of(codes_index, log=log) as client:
        monkeypatch.setattr(client.service, "random", lambda n: 1 / 0)
        assert refused(client.get("/random"), 500) == "the service failed; its log says why"
    (defect,) = (event for event in log.events if event["event"] == "defect")
    assert "division" in defect["error"] and "test_item_routes" in defect["traceback"]


def test_the_map(client) -> None:
    answer = client.get("/map").json()
    for _ in range(600):
        if answer["state"] != "computing":
            break
        time.sleep(0.1)
        answer = client.get("/map").json()
    assert answer["state"] == "ready" and answer["n_looked_at"] == N_ITEMS
    points = answer["points"]
    assert len(points) == answer["n_codes"] and sum(point["n_items"] for point in points) == N_ITEMS
    assert all(0 <= point["x"] <= 1 and 0 <= point["y"] <= 1 for point in points)
    for point in points[:20]:
        assert client.get("/item", params={"id": point["id"]}).json()["code"] == point["code"]


def test_the_page_comes_from_here_alone(client) -> None:
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert sorted(Page(page.text).addresses) == ["#found", "icon.svg", "page.css", "page.js"]
    for name, kind in (
        ("page.css", "text/css"),
        ("page.js", "text/javascript"),
        ("icon.svg", "image/svg+xml"),
    ):
        answer = client.get(f"/{name}")
        assert answer.headers["content-type"].startswith(kind)
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", answer.text), (
            "nothing is loaded from elsewhere"
        )
    script = client.get("/page.js").text
    assert "innerHTML" not in script and "eval(" not in script and "style=" not in page.text
    assert "<script>alert" not in client.get("/", params={"content": "<script>alert(1)</script>"}).text


def test_what_browsers_are_told(client) -> None:
    for address in ("/", "/info", "/no-such-thing", "/random?n=0"):
        headers = client.get(address).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] in ("no-store", "no-cache")


def test_the_description_of_the_interface(client) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {
        "/search", "/search/images", "/item", "/picture", "/random", "/map", "/info", "/health", "/ready", "/metrics",
    }  # fmt: skip
    examples = described["components"]["schemas"]["SearchBody"]["examples"]
    assert {name for example in examples for name in example} >= {
        "ids",
        "codes",
        "vectors",
        "radius",
        "precision",
    }
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404  # they load scripts


# Pictures


def test_pictures_of_items(images_client) -> None:
    answer = images_client.get("/picture", params={"id": "cat/2.png"})
    assert answer.headers["content-type"] == "image/png" and "max-age" in answer.headers["cache-control"]
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    np.testing.assert_array_equal(shown, items_of("images", 60)[2])


@pytest.fixture
def folder(tmp_path) -> Any:
    """A folder of pictures, and around it what must never be seen."""
    (tmp_path / "secret.png").write_bytes((write_pictures(tmp_path / "in", 3) / "ant/0.png").read_bytes())
    inside = tmp_path / "in"
    (inside / "out.png").symlink_to("../secret.png")
    (inside / "also-out").symlink_to("..")
    (inside / "round.png").symlink_to("round.png")
    (inside / "link.png").symlink_to("ant/0.png")
    (inside / "folder.png").mkdir()
    (inside / "text.txt").write_text("secret")
    (inside / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\nabc")
    import os

    os.mkfifo(inside / "pipe.png")
    return inside


@pytest.mark.parametrize(
    "id",
    [
        "", ".", "..", "../secret.png", "ant/../../secret.png", "out.png", "also-out/secret.png", "round.png",
        "folder.png", "text.txt", "pipe.png", "damaged.png", "nothing.png", "ant/0.png\0", "a" * 5000 + ".png",
        "\udcff.png",
    ],
)  # fmt: skip
def test_nothing_outside_of_the_folder_is_shown(folder, id: str) -> None:
    pictures = FolderPictures(folder, 10**6)
    with pytest.raises(LookupError):
        pictures.picture(id)
    with pytest.raises(LookupError):
        pictures.picture(str(folder / "ant/0.png"))


def test_a_link_inside_of_the_folder_is_followed(folder) -> None:
    pictures = FolderPictures(folder, 10**6)
    assert pictures.picture("link.png") == pictures.picture("ant/0.png")


def test_items_of_the_index_alone_have_pictures(folder, codes_index, tmp_path) -> None:
    with client_of(codes_index, images=folder) as client:
        assert client.get("/picture", params={"id": "bee/1.png"}).status_code == 200
        for id in (
            "link.png",
            "cat/7.png",
            "../secret.png",
            "%2e%2e/secret.png",
            str(tmp_path / "secret.png"),
        ):
            assert "got" in refused(client.get("/picture", params={"id": id}), 404)
    with client_of(codes_index) as client:
        refused(client.get("/picture", params={"id": "bee/1.png"}), 404)


def test_photos_become_small(tmp_path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (300, 500, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    Image.fromarray(rng.integers(0, 256, (300, 500), dtype=np.uint8)).save(tmp_path / "grey.png")
    pictures = FolderPictures(tmp_path, 10**6)
    photo, grey = pictures.picture("photo.png"), pictures.picture("grey.png")
    assert (photo.media_type, grey.media_type) == ("image/jpeg", "image/png")
    assert Image.open(io.BytesIO(photo.content)).size == (SIDE, SIDE)
    assert Image.open(io.BytesIO(grey.content)).mode == "L"
    with pytest.raises(LookupError):
        FolderPictures(tmp_path, 1000).picture("photo.png")


def test_pictures_in_memory() -> None:
    images = np.arange(2 * 300 * 8, dtype=np.uint8).reshape(2, 300, 8, 1)
    pictures = ArrayPictures(images, {"a": 0, "b": 1})
    assert Image.open(io.BytesIO(pictures.picture("b").content)).size == (5, SIDE)
    with pytest.raises(LookupError):
        pictures.picture("c")


def test_json_of_metadata() -> None:
    import datetime

    from dshc.service.plain_metadata import plain

    moment = datetime.datetime(2020, 1, 2, 3, 4, 5)
    value = {
        "a": float("inf"),
        "b": [moment, moment.date(), b"\x01"],
        "c": (None, True, 1.5, {1: float("nan")}),
    }
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {
        "a": None,
        "b": ["2020-01-02T03:04:05", "2020-01-02", "01"],
        "c": [None, True, 1.5, {"1": None}],
    }
    assert plain(datetime.timedelta(1)) == "1 day, 0:00:00"


def test_an_index_of_no_folder(tmp_path) -> None:
    from dshc.service import Served

    with pytest.raises(FileNotFoundError, match="no such folder of an index or a run"):
        Served.open(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        Served.open(tmp_path)
    with pytest.raises(ValueError, match="must be a folder of images"):
        Served.open(index_of_codes(tmp_path / "index", 3), images=tmp_path / "nothing")
