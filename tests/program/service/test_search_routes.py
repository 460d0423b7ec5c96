"""Searches over HTTP: by id, code, vector and image; their answers are those of the index."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from served_indexes import (
    CLASSES,
    N_ITEMS,
    asked,
    client_of,
    index_of_codes,
    names_of,
    png,
    random_codes,
    refused,
)
from small_hashers import items_of

import dshc


@pytest.fixture(scope="module")
def index(codes_index) -> Any:
    with dshc.HashIndex.open(codes_index, read_only=True) as opened:
        yield opened


def pairs(result: dict[str, Any]) -> list[tuple[Any, int]]:
    return [(item["id"], item["distance"]) for item in result["items"]]


def expected(ids: np.ndarray, distances: np.ndarray) -> list[tuple[Any, int]]:
    return list(zip(ids.tolist(), distances.tolist(), strict=True))


def test_by_id(client, index) -> None:
    names = names_of(N_ITEMS)[3:6]
    found = asked(client, ids=names, k=20)
    right = index.search(index.get(names).codes, k=20)
    assert (found["n_bits"], found["score"], found["k"], found["radius"]) == (29, "hamming", 20, None)
    assert [result["query"] for result in found["results"]] == names
    for row, result in enumerate(found["results"]):
        assert pairs(result) == expected(right.ids[row], right.distances[row])
        assert result["code"] == index.get([names[row]]).codes.tobytes().hex()
        assert result["predicted"] is None and not result["truncated"]


@pytest.mark.parametrize("code_format", ["hex", "base64", "bytes"])
def test_by_code(client, index, code_format: str) -> None:
    codes = random_codes(4, 29, seed=5)
    written = {
        "hex": [code.tobytes().hex() for code in codes],
        "base64": [base64.b64encode(code.tobytes()).decode() for code in codes],
        "bytes": codes.tolist(),
    }[code_format]
    found = asked(client, codes=written, code_format=code_format, k=7)
    right = index.search(codes, k=7)
    assert [result["query"] for result in found["results"]] == [0, 1, 2, 3]
    assert [pairs(result) for result in found["results"]] == [
        expected(*row) for row in zip(right.ids, right.distances, strict=True)
    ]


def test_ten_items_with_their_labels_are_answered_where_nothing_else_is_said(client) -> None:
    items = asked(client, ids=["ant/0.png"])["results"][0]["items"]
    assert len(items) == 10 and all(set(item) == {"id", "distance", "label"} for item in items)


def test_what_is_told_of_items(client, index) -> None:
    items = asked(client, ids=["ant/0.png"], k=N_ITEMS, include=["label", "code", "metadata"])["results"][0][
        "items"
    ]
    assert len(items) == N_ITEMS
    for item in items:
        number = int(item["id"].split("/")[1].removesuffix(".png"))
        assert item["label"] == (None if number % 7 == 0 else CLASSES[number % 5])
        assert item["code"] == index.get([item["id"]]).codes.tobytes().hex()
        year = None if number % 11 == 0 else 2000 + number % 20
        weight = None if number % 13 == 0 else number / 2  # NaN, which JSON lacks
        assert item["metadata"] == {"year": year, "weight": weight}
    assert set(asked(client, ids=["ant/0.png"], k=1, include=[])["results"][0]["items"][0]) == {
        "id",
        "distance",
    }


def test_more_than_the_index_has_are_all(client) -> None:
    assert len(asked(client, ids=["ant/0.png"], k=900)["results"][0]["items"]) == N_ITEMS


@pytest.mark.parametrize("radius", [0, 6, 9, 29, 1000])
def test_within_a_radius(client, index, radius: int) -> None:
    codes = random_codes(3, 29, seed=7)
    found = asked(client, codes=[code.tobytes().hex() for code in codes], radius=radius)
    right = index.radius(codes, min(radius, 29))
    assert found["radius"] == radius and found["k"] is None
    for row, result in enumerate(found["results"]):
        span = slice(right.offsets[row], right.offsets[row + 1])
        assert pairs(result) == expected(right.ids[span], right.distances[span])
        assert not result["truncated"]


def test_fewer_are_allowed_than_are_answered_by_default(codes_index) -> None:
    with client_of(codes_index, max_k=4) as client:
        answer = asked(client, ids=["ant/0.png"])
        assert answer["k"] == 4 and len(answer["results"][0]["items"]) == 4


def test_a_radius_that_holds_more_than_are_answered_says_so(codes_index, index) -> None:
    with client_of(codes_index, max_k=20) as client:
        code = index.get(["ant/0.png"]).codes
        assert len(asked(client, ids=["ant/0.png"])["results"][0]["items"]) == 10
        whole = index.radius(code, 11)
        assert len(whole.ids) > 20
        result = asked(client, ids=["ant/0.png"], radius=11)["results"][0]
        assert result["truncated"] and pairs(result) == expected(whole.ids[:20], whole.distances[:20])
        least = int(whole.distances[20]) - 1  # all of fewer
        count = len(index.radius(code, least).ids)
        result = asked(client, ids=["ant/0.png"], radius=least)["results"][0]
        assert count <= 20 and len(result["items"]) == count and not result["truncated"]


def test_within_a_precision(tmp_path) -> None:
    folder = index_of_codes(tmp_path / "index")
    with client_of(folder) as client:
        message = refused(client.post("/search", json={"ids": ["ant/0.png"], "precision": 0.5}), 422)
        assert "no precision is known yet" in message and str(tmp_path) not in message
    with dshc.HashIndex.open(folder) as index:
        names = [name for i, name in enumerate(names_of(N_ITEMS)) if i % 7]
        index.calibrate(index.get(names).codes, index.get(names).labels)
        radius = index.radius_for(0.5)
    with client_of(folder) as client:
        assert asked(client, ids=["ant/0.png"], precision=0.5)["radius"] == radius
        assert client.get("/info").json()["precision"] is True


def test_filters(client, index) -> None:
    import pyarrow.compute as pc

    code = index.get(["bee/1.png"]).codes
    some = names_of(N_ITEMS)[:9]
    for written, given in (
        ({"ids": [*some, "no such item"]}, {"ids": some}),
        ({"label": ["cat", "dog"]}, {"label": ["cat", "dog"]}),
        ({"label": [2]}, {"label": "cat"}),
        ({"label": ["2"]}, {"label": "cat"}),
        (
            {"where": "year >= 2015 and weight < 100"},
            {"where": (pc.field("year") >= 2015) & (pc.field("weight") < 100)},
        ),
        (
            {"label": ["cat"], "where": "year is not None"},
            {"label": "cat", "where": pc.field("year").is_valid()},
        ),
        ({"ids": []}, {"ids": []}),
    ):
        right = index.search(code, k=40, **given)
        there = [id is not None for id in right.ids[0]]
        found = asked(client, ids=["bee/1.png"], k=40, filter=written)["results"][0]
        assert pairs(found) == expected(right.ids[0][there], right.distances[0][there]), written


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "one of ids, codes and vectors must be given, got none"),
        ({"ids": ["a"], "codes": ["00"]}, "got ids and codes"),
        ({"ids": ["bee/1.png"], "k": 3, "radius": 2}, "one of k, radius and precision"),
        ({"ids": ["bee/1.png"], "k": 1001}, "k must be at most 1000, got 1001"),
        ({"ids": ["bee/1.png"], "k": 0}, "body.k"),
        ({"ids": ["bee/1.png"], "k": 2.5}, "body.k"),
        ({"ids": ["bee/1.png"], "radius": -1}, "body.radius"),
        ({"ids": ["bee/1.png"], "precision": 0}, "body.precision"),
        ({"ids": ["bee/1.png"], "bits": 3}, "body: unknown name 'bits'"),
        ({"ids": []}, "body.ids"),
        ({"ids": ["bee/1.png"] * 65}, "at most 64 queries, got 65"),
        ({"ids": ["bee/1.png"], "include": ["vector"]}, "body.include.0"),
        ({"ids": [True]}, "body.ids.0: Input should be a valid integer or a valid string"),
        ({"ids": ["a" * 5000]}, "body.ids.0: String should have at most 4096 characters"),
        ({"codes": [["a"]], "code_format": "bytes"}, "body.codes.0.0: Input should be a valid integer"),
        ({"ids": ["bee/1.png"], "radius": 1 << 32}, "body.radius: Input should be less than or equal to"),
        ({"ids": ["bee/1.png"], "filter": {"label": ["1" * 30]}}, "label must lie in 0..4"),
        ({"ids": ["bee/1.png"], "x" * 5000: 1}, "unknown name 'xxx"),
        ({"codes": ["0011"]}, "codes[0] must have 4 bytes (29 bits), got 2"),
        ({"codes": ["00112203", "0011220g"]}, "codes[1] must be two hexadecimal digits per byte"),
        ({"codes": ["001122é3"]}, "codes[0] must be two hexadecimal digits"),
        ({"codes": ["001122ff"]}, "padding bits of 0 (from bit 29 on)"),
        ({"codes": [[0, 1, 2, 300]], "code_format": "bytes"}, "integers from 0 to 255"),
        ({"codes": [[0, 1, 2, -1]], "code_format": "bytes"}, "integers from 0 to 255"),
        ({"codes": ["00"], "code_format": "bytes"}, "lists of integers"),
        ({"codes": [[0, 0, 0, 0]]}, "texts"),
        ({"codes": ["*"], "code_format": "base64"}, "base64"),
        ({"codes": ["00"], "code_format": "octal"}, "body.code_format"),
        ({"vectors": [[0.5]]}, "this one has none"),
        (
            {"ids": ["bee/1.png"], "filter": {"label": ["gnu"]}},
            "label must be one of ant, bee, cat, dog, elk",
        ),
        ({"ids": ["bee/1.png"], "filter": {"label": [7]}}, "label must lie in 0..4"),
        ({"ids": ["bee/1.png"], "filter": {"where": "age > 3"}}, "columns of the metadata"),
        ({"ids": ["bee/1.png"], "filter": {"where": "year.real > 3"}}, "must consist of"),
        (
            {"ids": ["bee/1.png"], "filter": {"where": "year > 'x'"}},
            "'year' (int32) with numbers, got 'x'",
        ),
        ({"ids": ["bee/1.png"], "filter": {"where": "year > " + "9" * 1000}}, "body.filter.where"),
        (
            {"ids": ["bee/1.png"], "filter": {"where": "year in (1, 'a')"}},
            "'year' (int32) with numbers, got 'a'",
        ),
        ({"ids": ["bee/1.png"], "filter": {"where": "year" + ".a" * 400}}, "less deeply nested"),
    ],
)
def test_what_is_refused(client, body: dict[str, Any], says: str) -> None:
    assert says in refused(client.post("/search", json=body), 422)


@pytest.mark.parametrize("id", ["no such item", 7, "\ud800", "bee/1.png\0", "../bee/1.png"])
def test_an_item_that_is_not_there(client, id: Any) -> None:
    import json

    answer = client.post(
        "/search", content=json.dumps({"ids": [id]}), headers={"content-type": "application/json"}
    )
    assert answer.status_code in (404, 422)
    assert "ids" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        *((content, 422) for content in (b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe")),
        (b'{"ids": ' + b"[" * 5000, 400),
        (b'{"k": ' + b"9" * 5000 + b"}", 400),
    ],
)
def test_a_body_that_is_no_search(client, content: bytes, status: int) -> None:
    refused(client.post("/search", content=content, headers={"content-type": "application/json"}), status)


def test_nothing_of_a_refused_body_comes_back(client) -> None:
    secret = "s3cret" * 10
    assert secret not in client.post("/search", json={"ids": 3, "key": secret, "codes": secret}).text


def test_numbers_as_ids(tmp_path) -> None:
    with client_of(index_of_codes(tmp_path / "index", ids="int64")) as client:
        found = asked(client, ids=[-30, "27"], k=N_ITEMS)
        assert [result["query"] for result in found["results"]] == [-30, "27"]
        for result, id in zip(found["results"], (-30, 27), strict=True):
            assert result["items"][0] == {"id": id, "distance": 0, "label": result["items"][0]["label"]}
            assert sorted(item["id"] for item in result["items"]) == [3 * i - 30 for i in range(N_ITEMS)]
        only = asked(client, ids=[0], filter={"ids": [-3, "0", "x", 10**30]})["results"][0]["items"]
        assert sorted(item["id"] for item in only) == [-3, 0]
        for id in (1, "x", 10**30, "9" * 30, "-"):
            assert "ids must be in the index" in refused(client.post("/search", json={"ids": [id]}), 404)


def test_several_labels(tmp_path) -> None:
    hot = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], np.uint8)
    with dshc.HashIndex.create(
        tmp_path / "index", bits=8, labels="multi-hot", class_names=("a", "b", "c"), score="overlap"
    ) as index:
        index.add(np.array([[7], [3], [1]], np.uint8), labels=hot)
    with client_of(tmp_path / "index") as client:
        found = asked(client, ids=[0], k=3)
        items = found["results"][0]["items"]
        assert found["score"] == "overlap"
        assert [(item["id"], item["distance"], item["label"]) for item in items] == [
            (0, 3, "a, c"),
            (1, 2, "b"),
            (2, 1, None),
        ]
        assert [item["id"] for item in asked(client, ids=[0], radius=2)["results"][0]["items"]] == [0, 1]
        assert [
            item["id"] for item in asked(client, ids=[0], filter={"label": ["c"]})["results"][0]["items"]
        ] == [0]


def test_an_empty_index_answers_nothing(tmp_path) -> None:
    with client_of(index_of_codes(tmp_path / "index", 0)) as client:
        assert asked(client, codes=["00000000"])["results"][0]["items"] == []
        assert client.get("/random").json() == {"ids": []}
        assert client.get("/info").json()["n_items"] == 0


def test_by_vector(features_client, features_index) -> None:
    vectors = items_of("features", 5, seed=8)
    with dshc.HashIndex.open(features_index, read_only=True) as index:
        codes, predicted = index.hasher.encode_and_predict(vectors)
        right = index.search(codes, k=6)
    found = asked(features_client, vectors=vectors.tolist(), k=6)
    for row, result in enumerate(found["results"]):
        assert result["code"] == codes[row].tobytes().hex()
        assert result["predicted"] == CLASSES[predicted[row]]
        assert pairs(result) == expected(right.ids[row], right.distances[row])


@pytest.mark.parametrize(
    ("vectors", "says"),
    [
        ([[0.5] * 11], "vectors[0] must have 12 numbers, got 11"),
        ([[0.5] * 12, []], "vectors[1] must have 12 numbers, got 0"),
        ([[1e300] * 12], "finite numbers that float32 can hold"),
        ([["x"] * 12], "body.vectors.0.0"),
    ],
)
def test_vectors_that_do_not_fit(features_client, vectors: Any, says: str) -> None:
    assert says in refused(features_client.post("/search", json={"vectors": vectors}), 422)


def test_numbers_that_json_lacks(features_client) -> None:
    content = b'{"vectors": [[NaN' + b", 1" * 11 + b"]]}"
    refused(
        features_client.post("/search", content=content, headers={"content-type": "application/json"}), 422
    )


def test_images_and_vectors_go_where_they_are_accepted(client, images_client, features_client) -> None:
    assert "send images" in refused(images_client.post("/search", json={"vectors": [[0.5]]}), 422)
    upload = [("images", ("a.png", png(items_of("images", 1)[0])))]
    assert "send vectors" in refused(features_client.post("/search/images", files=upload), 422)
    assert "has none" in refused(client.post("/search/images", files=upload), 422)


def test_by_image(images_client, images_index) -> None:
    pictures = items_of("images", 3, seed=9)
    with dshc.HashIndex.open(images_index, read_only=True) as index:
        codes, predicted = index.hasher.encode_and_predict(pictures)
        right = index.search(codes, k=4, label=["ant", "bee"])
    files = [("images", (f"{i}.png", png(picture))) for i, picture in enumerate(pictures)]
    form = {"k": "4", "label": ["ant", "bee"], "include": ["label", "code"]}
    answer = images_client.post("/search/images", files=files, data=form)
    assert answer.status_code == 200, answer.text
    for row, result in enumerate(answer.json()["results"]):
        assert result["query"] == row and result["predicted"] == CLASSES[predicted[row]]
        assert result["code"] == codes[row].tobytes().hex()
        assert pairs(result) == expected(right.ids[row], right.distances[row])
        assert {item["label"] for item in result["items"]} <= {"ant", "bee"}
        assert all("code" in item for item in result["items"])


def test_fields_of_an_upload(images_client) -> None:
    def post(**form: Any) -> Any:
        return images_client.post(
            "/search/images", files=[("images", ("a", png(items_of("images", 1)[0])))], data=form
        )

    assert len(post(ids=["ant/0.png", "bee/1.png"]).json()["results"][0]["items"]) == 2
    assert post(radius="1").json()["radius"] == 1
    assert "metadata" in refused(post(where="year > 3"), 422)
    assert "body.k" in refused(post(k="many"), 422)
    assert "body.precision" in refused(post(precision="2"), 422)
    assert "body.images" in refused(images_client.post("/search/images", data={"k": "3"}), 422)
    refused(
        images_client.post("/search/images", content=b"--", headers={"content-type": "multipart/form-data"}),
        400,
    )
