"""Rescoring, variants of a query and ranking by outputs over HTTP: the answers are those of the index."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from served_indexes import asked, client_of, index_with_vectors, names_of, png, random_codes, refused
from small_hashers import a_hasher, items_of

import dshc
from dshc.data import ImageFit
from dshc.index.rescoring import Rescoring
from dshc.index.sources import backbone_features
from dshc.service.batches import Batches, Job
from dshc.service.conditions import Condition
from dshc.service.variants import decoded, n_variants_of

METRICS = ("inner_product", "cosine", "l2")


@pytest.fixture(scope="module", params=["features", "images"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return index_with_vectors(tmp_path_factory.mktemp("vectors") / "index", kind)


@pytest.fixture(scope="module")
def index(folder: Path) -> Iterator[Any]:
    with dshc.HashIndex.open(folder, read_only=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def vectors_client(folder: Path) -> Iterator[Any]:
    with client_of(folder) as client:
        yield client


def pairs(result: dict[str, Any]) -> list[tuple[Any, float]]:
    return [(item["id"], item["distance"]) for item in result["items"]]


def expected(found: Any, row: int) -> list[tuple[Any, float]]:
    there = [id is not None for id in found.ids[row]]
    return list(zip(found.ids[row][there].tolist(), found.distances[row][there].tolist(), strict=True))


def check(answer: dict[str, Any], right: Any, by: str) -> None:
    assert answer["ranked_by"] == by and len(answer["results"]) == len(right.ids)
    for row, result in enumerate(answer["results"]):
        assert pairs(result) == expected(right, row)


def upload(client: Any, items: np.ndarray, **form: Any) -> Any:
    files = [("images", (f"{i}.png", png(item))) for i, item in enumerate(items)]
    return client.post("/search/images", files=files, data=form)


def hex_of(codes: np.ndarray) -> list[str]:
    return [code.tobytes().hex() for code in codes]


@pytest.mark.parametrize("metric", METRICS)
def test_items_and_codes_are_rescored(vectors_client, index, metric: str) -> None:
    names = names_of(80)[4:9]
    own = index.get(names)
    right = index.search(own.codes, 7, rescore=3, vectors=own.vectors, metric=metric)
    check(asked(vectors_client, ids=names, k=7, rescore=3, metric=metric), right, metric)
    given = {"codes": hex_of(own.codes), "rescore_vectors": own.vectors.tolist()}
    check(asked(vectors_client, **given, k=7, rescore=3, metric=metric), right, metric)


def test_what_is_encoded_is_rescored(vectors_client, index, kind: str) -> None:
    items = items_of(kind, 4, seed=8)
    codes = index.hasher.encode(items)
    vectors = items if kind == "features" else backbone_features(index.hasher, [items])
    right = index.search(codes, 6, rescore=4, vectors=vectors, label=["ant", "cat"])
    if kind == "features":
        narrow = {"label": ["ant", "cat"]}
        answer = asked(vectors_client, vectors=items.tolist(), k=6, rescore=4, filter=narrow)
    else:
        answer = upload(vectors_client, items, k=6, rescore=4, label=["ant", "cat"]).json()
    check(answer, right, "inner_product")
    assert [result["code"] for result in answer["results"]] == hex_of(codes)
    assert all(result["variants"] is None for result in answer["results"])


def test_outputs_rank(vectors_client, index, kind: str) -> None:
    items = items_of(kind, 4, seed=9)
    hasher = index.hasher
    outputs = hasher.outputs(items)
    right = index.search_outputs(hasher.method.transformed(outputs).detach().numpy(), 9)
    plain = index.search(hasher.encode(items), 9)
    if kind == "features":
        answer = asked(vectors_client, vectors=items.tolist(), k=9, asymmetric=True)
    else:
        answer = upload(vectors_client, items, k=9, asymmetric="true").json()
    check(answer, right, "asymmetric")
    assert right.ids.tolist() != plain.ids.tolist(), "another order than that of the codes"
    assert [result["code"] for result in answer["results"]] == hex_of(hasher.encode(items))


def test_outputs_that_are_rotated_rank_as_their_codes_do(tmp_path) -> None:
    """Those of itq have a rotation and a mean of their own; the signs of what ranks are the codes."""
    hasher = a_hasher("itq", "features")
    with dshc.HashIndex.create(tmp_path / "index", hasher=hasher) as index:
        index.add(hasher.encode(items_of("features", 40)))
        items = items_of("features", 3, seed=2)
        real = hasher.method.transformed(hasher.outputs(items)).detach().numpy()
        right = index.search_outputs(real, 5)
        with client_of(tmp_path / "index") as client:
            answer = asked(client, vectors=items.tolist(), k=5, asymmetric=True)
    for row, result in enumerate(answer["results"]):
        assert pairs(result) == list(zip(right.ids[row].tolist(), right.distances[row].tolist(), strict=True))
        assert result["predicted"] is None


def test_several_queries_are_variants_of_one(vectors_client, index) -> None:
    names = names_of(80)[:6]
    own = index.get(names)
    answer = asked(vectors_client, ids=names, k=20, n_variants=3)
    check(answer, index.search(own.codes.reshape(2, 3, -1), 20), "hamming")
    assert [result["query"] for result in answer["results"]] == [names[0], names[3]]
    assert [result["variants"] for result in answer["results"]] == [
        hex_of(own.codes[:3]),
        hex_of(own.codes[3:]),
    ]
    assert len({item["id"] for item in answer["results"][0]["items"]}) == 20, "each once"
    within = index.radius(own.codes.reshape(2, 3, -1), 2)
    for row, result in enumerate(
        asked(vectors_client, codes=hex_of(own.codes), radius=2, n_variants=3)["results"]
    ):
        span = slice(within.offsets[row], within.offsets[row + 1])
        assert pairs(result) == list(
            zip(within.ids[span].tolist(), within.distances[span].tolist(), strict=True)
        )
    rescored = asked(vectors_client, ids=names, k=5, n_variants=3, rescore=2)
    right = index.search(own.codes.reshape(2, 3, -1), 5, rescore=2, vectors=own.vectors[::3])
    check(rescored, right, "inner_product")


@pytest.mark.parametrize(
    "variants", [["flip"], ["rotations"], ["crops"], ["flip", "rotations"], ["crops", "flip", "rotations"]]
)
def test_variants_of_an_image(tmp_path_factory, variants: list[str]) -> None:
    folder = tmp_path_factory.mktemp("variants") / "index"
    index_with_vectors(folder, "images")
    pictures = items_of("images", 2, seed=3)
    with dshc.HashIndex.open(folder, read_only=True) as index, client_of(folder) as client:
        hasher = index.hasher
        seen = np.stack([decoded(png(one), 0, hasher, 10_000, variants) for one in pictures])
        assert seen.shape[:2] == (2, n_variants_of(variants)) and (seen[:, 0] == pictures).all()
        codes = hasher.encode(seen.reshape(-1, *seen.shape[2:])).reshape(2, seen.shape[1], -1)
        answer = upload(client, pictures, k=12, variants=variants).json()
        check(answer, index.search(codes, 12), "hamming")
        for row, result in enumerate(answer["results"]):
            assert result["variants"] == hex_of(codes[row]) and result["code"] == hex_of(codes[row])[0]
            assert result["predicted"] is None, "dpsh predicts nothing"
        vectors = backbone_features(hasher, [pictures])
        right = index.search(codes, 5, rescore=2, vectors=vectors, metric="l2")
        check(upload(client, pictures, k=5, variants=variants, rescore=2, metric="l2").json(), right, "l2")


class _Fits:
    """As much of a hasher as images are decoded for."""

    def __init__(self, height: int, width: int) -> None:
        self.image_fit = ImageFit(height, width)


@pytest.mark.parametrize("size", [(8, 8), (6, 10), (1, 1), (9, 4)])
def test_what_variants_look_like(size: tuple[int, int]) -> None:
    """By Pillow, from the whole picture."""
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    hasher: Any = _Fits(*size)
    found = decoded(buffer.getvalue(), 0, hasher, 10_000, ["rotations", "crops", "flip"])
    turns = [None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270]
    right = [hasher.image_fit.apply(picture if turn is None else picture.transpose(turn)) for turn in turns]
    for mine, theirs in zip(found[:4], right, strict=True):
        # The part that is kept lies half a pixel aside where it cannot lie in the middle.
        assert mine.shape == theirs.shape and np.abs(mine.astype(int) - theirs).mean() < 12
    large = ImageFit(*(-(-side * 4 // 3) for side in size)).apply(picture)
    height, width = size
    assert (found[4] == large[:height, :width]).all() and (found[7] == large[-height:, -width:]).all()
    assert (found[9:] == found[:9, :, ::-1]).all()


def test_fewer_items_than_k(tmp_path, kind: str) -> None:
    """The rest of a row is none, with numbers as ids too, of which one is -1."""
    folder = index_with_vectors(tmp_path / "index", kind, 20, ids="int64")
    narrow = {"ids": [-1, 3, 4]}
    with client_of(folder) as client:
        rescored = asked(client, ids=[0], k=10, rescore=2, filter=narrow)["results"][0]
        assert sorted(item["id"] for item in rescored["items"]) == [-1, 3, 4]
        items = items_of(kind, 1, seed=8)
        if kind == "features":
            found = asked(client, vectors=items.tolist(), k=10, asymmetric=True, filter=narrow)
        else:
            found = upload(client, items, k=10, asymmetric="true", ids=["-1", "3", "4"]).json()
        assert sorted(item["id"] for item in found["results"][0]["items"]) == [-1, 3, 4]
        assert asked(client, ids=[0], k=10, rescore=2, filter={"ids": []})["results"][0]["items"] == []


def test_values_that_json_lacks(tmp_path) -> None:
    """Products that no float32 holds are told as the largest that it holds."""
    with dshc.HashIndex.create(tmp_path / "index", bits=8, vectors="int8", dimensions=2) as index:
        index.add(np.zeros((2, 1), np.uint8), vectors=np.array([[3e38, 3e38], [1, 2]], np.float32))
    with client_of(tmp_path / "index") as client:
        asked_for = {"codes": ["00"], "rescore": 1, "k": 2}
        items = asked(client, **asked_for, rescore_vectors=[[3e38, 3e38]])["results"][0]["items"]
        assert [item["id"] for item in items] == [0, 1]
        assert items[0]["distance"] == float(np.finfo(np.float32).max)


def test_what_is_offered(vectors_client, kind: str, client, images_client, features_client) -> None:
    info = vectors_client.get("/info").json()
    assert info["rescore"] == ["ids", "codes", "vectors" if kind == "features" else "images"]
    assert info["asymmetric"] is True
    assert info["image_variants"] == ([] if kind == "features" else ["flip", "rotations", "crops"])
    for other in (client, images_client, features_client):
        info = other.get("/info").json()
        assert (info["rescore"], info["asymmetric"], info["n_dimensions"]) == ([], False, None)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"ids": ["ant/0.png"], "rescore": 0}, "body.rescore"),
        ({"ids": ["ant/0.png"], "rescore": 101}, "k * rescore must be at most 1000, got 10 * 101"),
        ({"ids": ["ant/0.png"], "rescore": 10**999, "k": 10}, "k * rescore must be at most 1000"),
        ({"ids": ["ant/0.png"], "rescore": 2, "radius": 3}, "rescore must go with k"),
        ({"ids": ["ant/0.png"], "rescore": 2, "metric": "cos"}, "body.metric"),
        ({"ids": ["ant/0.png"], "metric": "cosine"}, "metric must go with rescore"),
        ({"codes": ["0000"], "rescore": 2}, "rescore_vectors must be given with codes and rescore"),
        ({"codes": ["0000"], "rescore": 2, "rescore_vectors": [[1]]}, "rescore_vectors[0] must have"),
        ({"codes": ["0000"], "rescore": 2, "rescore_vectors": [[1]] * 2}, "one for each query, 1, got 2"),
        ({"codes": ["0000"], "rescore_vectors": [[1]]}, "rescore_vectors must go with codes and rescore"),
        ({"ids": ["ant/0.png"], "rescore": 2, "rescore_vectors": [[1]]}, "must go with codes and rescore"),
        ({"ids": ["ant/0.png"], "asymmetric": True}, "images or vectors, got ids, which have no outputs"),
        ({"codes": ["0000"], "asymmetric": True}, "images or vectors, got codes"),
        ({"vectors": [[1.0]], "asymmetric": True, "rescore": 2}, "one of asymmetric and rescore"),
        ({"vectors": [[1.0]] * 2, "asymmetric": True, "n_variants": 2}, "one of asymmetric and variants"),
        ({"vectors": [[1.0]], "asymmetric": True, "radius": 2}, "asymmetric must go with k"),
        ({"vectors": [[1.0]], "asymmetric": 1}, "body.asymmetric"),
        (
            {"ids": ["ant/0.png"] * 3, "n_variants": 2},
            "n_variants must divide the number of queries, got 2 for 3",
        ),
        ({"ids": ["ant/0.png"], "n_variants": 0}, "body.n_variants"),
    ],
)
def test_what_is_refused(vectors_client, kind: str, body: dict[str, Any], says: str) -> None:
    if "vectors" in body and kind == "images" and "rescore" in body:
        says = "rescore must go with vectors whose vectors have"
    assert says in refused(vectors_client.post("/search", json=body), 422)


def test_what_this_index_cannot(client, images_client, features_client, tmp_path) -> None:
    vector = [0.5] * 12
    refusals = (
        (client, {"ids": ["ant/0.png"], "rescore": 2}, "an index that has vectors, this one has none"),
        (client, {"vectors": [vector], "asymmetric": True}, "an index that has a hasher, this one has none"),
        (features_client, {"vectors": [vector], "asymmetric": True}, "signs of its outputs, dshc has others"),
    )
    for who, body, says in refusals:
        assert says in refused(who.post("/search", json=body), 422)
    picture = items_of("images", 1)
    assert "this one has none" in refused(upload(images_client, picture, rescore=2), 422)
    assert "dshc has others" in refused(upload(images_client, picture, asymmetric="yes"), 422)
    assert "body.variants.0" in refused(upload(images_client, picture, variants=["upside down"]), 422)
    many = refused(upload(images_client, items_of("images", 4), variants=["flip", "crops", "rotations"]), 422)
    assert "at most 64 images and variants of them, got 72" in many
    names = ("a", "b", "c")
    with dshc.HashIndex.create(
        tmp_path / "index", bits=8, labels="multi-hot", class_names=names, score="overlap"
    ) as index:
        index.add(np.array([[7], [3]], np.uint8))
    with client_of(tmp_path / "index") as other:
        assert "ranks by overlap" in refused(
            other.post("/search", json={"ids": [0, 1], "n_variants": 2}), 422
        )


def test_vectors_of_another_model(tmp_path) -> None:
    hasher = a_hasher("dpsh", "features")
    items = items_of("features", 5)
    with dshc.HashIndex.create(tmp_path / "index", hasher=hasher, vectors="float16", dimensions=3) as index:
        index.add(hasher.encode(items), vectors=items[:, :3])
    with client_of(tmp_path / "index") as client:
        body = {"vectors": items.tolist(), "rescore": 2, "k": 2}
        says = "vectors whose vectors have 3 dimensions, those of the hasher have 12"
        assert says in refused(client.post("/search", json=body), 422)
        assert asked(client, ids=[0], rescore=2, k=2)["ranked_by"] == "inner_product"


# Batches


def drawn(draw: Any) -> Job:
    n, k = draw(st.integers(1, 3)), draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    condition = draw(st.sampled_from([Condition(), Condition(label=("cat",))]))
    way = draw(st.sampled_from(["codes", "variants", "outputs", "rescored", "both"]))
    if way == "outputs":
        return Job(rng.normal(size=(n, 11)).astype(np.float32), k, condition)
    v = draw(st.integers(2, 3)) if way in ("variants", "both") else 1
    codes = random_codes(n * v, 11, int(rng.integers(99)))
    queries = codes.reshape(n, v, -1) if v > 1 else codes
    if way not in ("rescored", "both"):
        return Job(queries, k, condition)
    factor, metric = draw(st.integers(1, 3)), draw(st.sampled_from(METRICS))
    vectors = rng.normal(size=(n, 12)).astype(np.float32)
    return Job(queries, k, condition, rescoring=Rescoring(factor, vectors, metric))


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = index_with_vectors(tmp_path_factory.mktemp("batches") / "index", "features")
    with dshc.HashIndex.open(folder, read_only=True) as opened:
        yield opened


@given(st.lists(st.composite(drawn)(), min_size=1, max_size=10))
def test_a_job_gets_what_it_would_get_alone(features, jobs: list[Job]) -> None:
    async def run() -> list[Any]:
        batches = Batches(lambda: features)
        batches.start()
        try:
            return await asyncio.gather(*(batches.search(job) for job in jobs))
        finally:
            await batches.stop()

    for job, answer in zip(jobs, asyncio.run(run()), strict=True):
        arguments = job.condition.arguments(features.layout)
        for row, items in enumerate(answer):
            query = job.queries[row : row + 1]
            if query.dtype == np.float32:
                found = features.search_outputs(query, job.k, **arguments)
            elif job.rescoring is None:
                found = features.search(query, job.k, **arguments)
            else:
                factor, vectors = job.rescoring.factor, job.rescoring.vectors[row : row + 1]
                metric = job.rescoring.metric
                found = features.search(
                    query, job.k, rescore=factor, vectors=vectors, metric=metric, **arguments
                )
            assert [(item["id"], item["distance"]) for item in items] == expected(found, 0)


def test_which_jobs_go_together() -> None:
    def rescored(k: int, factor: int = 2, metric: str = "l2") -> Job:
        return Job(np.zeros((1, 2), np.uint8), k, rescoring=Rescoring(factor, np.zeros((1, 3)), metric))

    outputs = [Job(np.zeros((2, 11), np.float32), k) for k in (9, 16)]
    assert outputs[0].kind == outputs[1].kind
    pairs_of = [Job(np.zeros((n, 2, 2), np.uint8), 10) for n in (1, 3)]
    assert pairs_of[0].kind == pairs_of[1].kind and pairs_of[1].n_searched == 6
    codes = Job(np.zeros((1, 2), np.uint8), 10)
    different = [codes, outputs[0], pairs_of[0], Job(np.zeros((1, 3, 2), np.uint8), 10)]
    different += [rescored(10), rescored(9), rescored(10, 3), rescored(10, metric="cosine")]
    assert len({job.kind for job in different}) == len(different)
    assert rescored(10).kind == rescored(10).kind
