"""A code index does what a list of items would do: any changes in any order, and every answer that of one array."""

from __future__ import annotations

import doctest
import itertools
from pathlib import Path

import numpy as np
import pytest
from backends import HAS_CUDA
from hypothesis import given
from hypothesis import strategies as st
from index_model import N_BITS, Model, add_random, create, draw_codes
from PIL import Image
from small_hashers import a_hasher, items_of

import dshc
import dshc_fast
from dshc.errors import InputError
from dshc.index import HashIndex, changes, hash_index, id_column, part_search

pa = pytest.importorskip("pyarrow")


def test_the_examples_run() -> None:
    for module in (hash_index, changes):
        found = doctest.testmod(module)
        assert found.failed == 0 < found.attempted
    assert dshc.HashIndex is HashIndex


@pytest.mark.parametrize("ids", ["int64", "text"])
@given(seed=st.integers(0, 2**32 - 1))
def test_any_changes(tmp_path_factory: pytest.TempPathFactory, ids: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("index") / "index"
    index, model = create(path, ids), Model()
    fresh = itertools.count()

    def new_ids(n: int) -> list | None:
        if ids == "text":
            return [f"ä{next(fresh)}{'x' * int(rng.integers(0, 9))}" for _ in range(n)]
        if rng.random() < 0.4:
            return None
        start = 10_000 * (1 + next(fresh))
        return (start + rng.choice(5_000, n, replace=False)).tolist()

    for _ in range(int(rng.integers(1, 14))):
        match rng.choice(["add", "add", "add", "remove", "update", "compact", "open", "merge"]):
            case "add":
                n = int(rng.choice([0, 1, 1, 3, 40]))
                add_random(index, model, rng, n, new_ids(n))
            case "remove" if model.ids:
                gone = rng.permutation(len(model.ids))[: int(rng.choice([1, 5, len(model.ids)]))]
                gone = [model.ids[i] for i in gone]
                assert index.remove(gone) == len(gone)
                model.remove(gone)
            case "update" if model.ids:
                some = [model.ids[i] for i in rng.permutation(len(model.ids))[:4]]
                add_random(index, model, rng, len(some), some, update=True)
            case "compact":
                index.compact()
                assert index.n_removed == 0
            case "open":
                index.close()
                index = HashIndex.open(path)
            case "merge":
                with create(path.parent / f"other{next(fresh)}", ids) as other:
                    theirs = Model()
                    for n in (3, 2):
                        names = new_ids(n)
                        add_random(
                            other,
                            theirs,
                            rng,
                            n,
                            [10**9 + next(fresh) for _ in range(n)] if names is None else names,
                        )
                    other.remove(theirs.ids[1:2])
                    theirs.remove(theirs.ids[1:2])
                    assert index.merge(other) == 4
                model.add(theirs.codes, theirs.ids, theirs.labels, theirs.years, theirs.vectors)
        model.check(index, rng)
    index.check()
    index.close()
    with HashIndex.open(path, read_only=True) as reader:
        model.check(reader, rng)


def test_many_additions_make_few_parts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with HashIndex.create(tmp_path / "index", bits=N_BITS) as index:
        sizes = []
        for n in [1] * 200 + [2000, 1, 900, 5000, 1, 1, 70_000, 3]:
            index.add(draw_codes(rng, n))
            sizes.append(len(index._parts))
        assert max(sizes) <= 16 and len(index) == 78_106
        assert index.ids().tolist() == list(range(len(index)))


@given(
    sizes=st.lists(st.integers(1, 5_000_000), max_size=60),
)
def test_parts_shrink_along_the_index(sizes: list[int]) -> None:
    """So that their number grows as the logarithm of the number of items."""
    parts: list[int] = []
    for size in sizes:
        n = changes.n_swallowed(parts, size)
        parts = [*parts[: len(parts) - n], size + sum(parts[len(parts) - n :])]
        steps = [changes._size(part) for part in parts]
        assert steps == sorted(steps, reverse=True)
        assert all(steps.count(step) < 8 for step in steps)


def test_overlap(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    codes, queries = draw_codes(rng, 900), draw_codes(rng, 5)
    with HashIndex.create(tmp_path / "index", bits=N_BITS, score="overlap") as index:
        index.add(codes[:500])
        index.add(codes[500:])
        want = dshc_fast.hamming_topk(queries, codes, 20, score="overlap")
        found = index.search(queries, 20)
        assert np.array_equal(found.distances, want.distances) and np.array_equal(found.ids, want.indices)
        want = dshc_fast.hamming_radius(queries, codes, 3, score="overlap")
        within = index.radius(queries, 3)
        assert np.array_equal(within.offsets, want.offsets) and np.array_equal(within.ids, want.indices)
        nothing = index.search(queries, 3, ids=[1])
        assert (
            nothing.ids[:, 1:].tolist() == [[-1, -1]] * 5
            and nothing.distances[:, 1:].tolist() == [[-1, -1]] * 5
        )
        with pytest.raises(InputError, match="variants of a query must be ranked by Hamming distance"):
            index.search(queries[:, None], 3)
        with pytest.raises(InputError, match="ranks by overlap"):
            index.calibrate(queries, np.zeros(5, int))


@given(seed=st.integers(0, 2**32 - 1), n_variants=st.integers(1, 4))
def test_variants_of_a_query(tmp_path_factory: pytest.TempPathFactory, seed: int, n_variants: int) -> None:
    rng = np.random.default_rng(seed)
    codes = draw_codes(rng, int(rng.integers(1, 60)))
    queries = draw_codes(rng, 3 * n_variants).reshape(3, n_variants, -1)
    everything = dshc_fast.hamming_distance(queries.reshape(3 * n_variants, -1), codes)
    least = everything.reshape(3, n_variants, -1).min(axis=1)
    order = np.argsort(least, axis=1, kind="stable")
    with HashIndex.create(tmp_path_factory.mktemp("i") / "index", bits=N_BITS) as index:
        half = len(codes) // 2
        index.add(codes[:half])
        index.add(codes[half:])
        k = int(rng.integers(1, len(codes) + 1))
        found = index.search(queries, k)
        assert np.array_equal(found.ids, order[:, :k])
        assert np.array_equal(found.distances, np.take_along_axis(least, order, axis=1)[:, :k])
        allowed = np.flatnonzero(rng.random(len(codes)) < 0.3)
        some = index.search(queries, k, ids=allowed)
        kept = [[i for i in row if i in allowed][:k] for row in order.tolist()]
        assert [[i for i in row if i >= 0] for row in some.ids.tolist()] == kept
        radius = int(rng.integers(0, N_BITS))
        within = index.radius(queries, radius)
        assert np.array_equal(np.diff(within.offsets), (least <= radius).sum(axis=1))
        for query in range(3):
            mine = slice(*within.offsets[query : query + 2].tolist())
            assert within.ids[mine].tolist() == [
                i for i in order[query].tolist() if least[query, i] <= radius
            ]
            assert within.distances[mine].tolist() == sorted(least[query][least[query] <= radius].tolist())


@pytest.mark.parametrize("kind", ["float16", "int8"])
@pytest.mark.parametrize("metric", ["inner_product", "cosine", "l2"])
def test_rescoring(tmp_path: Path, kind: str, metric: str) -> None:
    rng = np.random.default_rng(3)
    codes, vectors = draw_codes(rng, 700), rng.normal(size=(700, 5)).astype(np.float32)
    queries, asked = draw_codes(rng, 6), rng.normal(size=(6, 5)).astype(np.float32)
    with HashIndex.create(tmp_path / "index", bits=N_BITS, vectors=kind, dimensions=5) as index:
        index.add(codes[:400], vectors=vectors[:400])
        index.add(codes[400:], vectors=vectors[400:])
        kept = index.get(np.arange(700)).vectors.astype(np.float64)
        assert np.abs(kept - vectors).max() < (0.02 if kind == "int8" else 0.002)
        found = index.search(queries, 7, rescore=4, vectors=asked, metric=metric)
        near = dshc_fast.hamming_topk(queries, codes, 28).indices
        products = np.einsum("qmd,qd->qm", kept[near], asked.astype(np.float64))
        if metric == "cosine":
            products /= np.linalg.norm(kept[near], axis=2) * np.linalg.norm(asked, axis=1)[:, None]
        if metric == "l2":
            products = -((kept[near] - asked[:, None]) ** 2).sum(axis=2)
        order = np.argsort(-products, axis=1, kind="stable")[:, :7]
        assert np.array_equal(found.ids, np.take_along_axis(near, order, axis=1))
        values = np.take_along_axis(products, order, axis=1) * (-1 if metric == "l2" else 1)
        assert np.allclose(found.distances, values, rtol=1e-6, atol=1e-6)
        # All items as candidates: the exact order of the vectors.
        whole = index.search(queries[:1], 700, rescore=1, vectors=asked[:1])
        assert (np.diff(whole.distances[0]) <= 0).all() and sorted(whole.ids[0].tolist()) == list(range(700))
        few = index.search(queries, 3, rescore=2, vectors=asked, ids=[5], metric=metric)
        assert few.ids.tolist() == [[5, -1, -1]] * 6
        with pytest.raises(InputError, match="rescore must be an int of at least 1, got 0"):
            index.search(queries, 3, rescore=0, vectors=asked)
        with pytest.raises(InputError, match="metric must be one of .* got 'dot'"):
            index.search(queries, 3, rescore=2, vectors=asked, metric="dot")
        with pytest.raises(TypeError, match=r"vectors must be numbers of shape \(6, 5\), got none"):
            index.search(queries, 3, rescore=2)
        with pytest.raises(InputError, match="vectors must go with rescore"):
            index.search(queries, 3, vectors=asked)


def test_by_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `asymmetric_topk` over one array, bit for bit; infinitely far items come before what fills up."""
    rng = np.random.default_rng(9)
    codes = draw_codes(rng, 900)
    outputs = rng.normal(size=(7, N_BITS)).astype(np.float32)
    outputs[3, 2] = np.inf
    with HashIndex.create(tmp_path / "index", bits=N_BITS) as index:
        for start in range(0, 900, 200):
            index.add(codes[start : start + 200])
        monkeypatch.setattr(part_search, "_CHUNK", 300)
        for allowed in (None, rng.random(900) < 0.3):
            want = dshc_fast.asymmetric_topk(outputs, codes, 700, allowed=allowed)
            ids = None if allowed is None else np.flatnonzero(allowed)
            for _ in range(2):
                found = index.search_outputs(outputs, 700, ids=ids)
                assert np.array_equal(found.ids, want.indices) and np.array_equal(
                    found.distances, want.distances
                )
        with pytest.raises(
            InputError, match=r"outputs must be floats of shape \(n, 12\), got float64 \(2, 3\)"
        ):
            index.search_outputs(np.zeros((2, 3)), 1)


def test_multi_hot_labels_and_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    codes, hot = draw_codes(rng, 50), rng.integers(0, 2, (50, 3))
    names = ("sea", "sky", "dog")
    with HashIndex.create(tmp_path / "index", bits=N_BITS, labels="multi-hot", class_names=names) as index:
        index.add(codes, labels=hot)
        index.add(codes[:2])
        for label, columns in (("sky", [1]), (["sea", 2], [0, 2])):
            found = index.search(codes[:1], 52, label=label).ids[0]
            assert sorted(found[found >= 0].tolist()) == np.flatnonzero(hot[:, columns].any(axis=1)).tolist()
        with pytest.raises(
            InputError, match="label must be one of sea, sky, dog, got 'dgo'; did you mean 'dog'"
        ):
            index.search(codes[:1], 1, label="dgo")
        with pytest.raises(InputError, match=r"label must lie in 0..2, got 3"):
            index.search(codes[:1], 1, label=3)


def test_class_numbers_without_names(tmp_path: Path) -> None:
    codes = draw_codes(np.random.default_rng(4), 5)
    with HashIndex.create(tmp_path / "index", bits=N_BITS, labels="ids") as index:
        index.add(codes, labels=[0, 1, 2, 1, 2**40])
        assert index.search(codes[:1], 5, label=[2**40, 2**63 - 1]).ids[0].tolist() == [4, -1, -1, -1, -1]
        for label in (2**63, -(10**30), -1):  # -1 is "not known", no class
            with pytest.raises(InputError, match="label must be an integer of 0 to 2"):
                index.search(codes[:1], 1, label=label)


def test_radius_for_a_precision(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    centers = np.array([[0, 0], [0xFF, 0x0F]], np.uint8)
    classes = rng.integers(0, 2, 400)
    noise = np.packbits(rng.random((400, 16)) < 0.15, axis=1, bitorder="little")
    codes = centers[classes] ^ noise
    codes[:, 1] &= 0x0F
    with HashIndex.create(tmp_path / "index", bits=N_BITS, labels="ids") as index:
        with pytest.raises(InputError, match="no precision is known yet"):
            index.radius_for(0.9)
        index.add(codes[:150], labels=classes[:150])
        index.add(codes[150:300], labels=classes[150:300])
        index.add(codes[:5])  # without labels: they count nowhere
        index.remove([3])
        measured = index.calibrate(codes[300:], classes[300:])
        kept = np.delete(np.arange(300), 3)
        distances = dshc_fast.hamming_distance(codes[300:], codes[kept])
        same = classes[300:, None] == classes[kept]
        for radius in range(N_BITS + 1):
            inside = distances <= radius
            some = inside.any(axis=1)
            shares = (inside & same).sum(axis=1)[some] / inside.sum(axis=1)[some]
            assert np.isclose(measured[radius], shares.mean())
        radius = index.radius_for(0.95)
        assert (measured[: radius + 1] >= 0.95).all() and measured[radius + 1] < 0.95
        with pytest.raises(InputError, match=r"precision must lie in \(0, 1\], got 1.5"):
            index.radius_for(1.5)
    with HashIndex.open(tmp_path / "index", read_only=True) as again:
        assert again.radius_for(0.95) == radius


def test_texts_that_share_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash finds, the text decides."""
    few = lambda ids: np.array([len(text) % 2 for text in ids], np.uint64)  # noqa: E731
    monkeypatch.setattr(id_column, "keys_of_texts", few)
    monkeypatch.setattr("dshc.index.new_items.keys_of_texts", few)
    rng = np.random.default_rng(6)
    names = [f"n{i}" for i in range(40)]
    with HashIndex.create(tmp_path / "index", bits=N_BITS, ids="text") as index:
        codes = draw_codes(rng, 40)
        index.add(codes[:25], names[:25])
        index.remove(names[3:9])
        index.add(codes[25:], names[25:])
        index.add(codes[3:9], names[3:9])
        for name, code in zip(names, codes, strict=True):
            assert np.array_equal(index.get([name]).codes[0], code)
        assert "n40" not in index
        index.compact()
        assert np.array_equal(index.get(names).codes, codes)


def test_with_a_hasher_beside_it(tmp_path: Path) -> None:
    """Features are added and asked for as they are; photos come by name."""
    hasher, features = a_hasher("dshc", "features"), items_of("features", 40)
    options = {"hasher": hasher, "vectors": "float16", "dimensions": 12}
    with HashIndex.create(tmp_path / "features", labels="ids", **options) as index:
        index.add_embeddings(features[:30], labels=np.arange(30) % 5)
        index.add_embeddings(features[30:])
        assert index.layout.class_names == hasher.class_names
        codes = hasher.encode(features)
        want = dshc_fast.hamming_topk(codes[:4], codes, 6)
        found = index.search(features[:4], 6)
        assert np.array_equal(found.ids, want.indices) and np.array_equal(found.distances, want.distances)
        assert index.search(features, 1, rescore=40, metric="l2").ids[:, 0].tolist() == list(range(40))
        assert np.array_equal(index.radius(features[:1], 2).ids, index.radius(codes[:1], 2).ids)
    with HashIndex.open(tmp_path / "features", read_only=True) as again:
        assert np.array_equal(again.search(features[:4], 6).ids, want.indices)

    hasher = a_hasher("dshc", "images")
    for number, image in enumerate(items_of("images", 12)):
        Image.fromarray(image).save(tmp_path / f"{number:02}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    with HashIndex.create(tmp_path / "images", hasher=hasher, ids="text") as index:
        added = index.add_images(tmp_path)
        assert (added.n_added, added.n_there) == (12, 0) and "1 unreadable image left out" in added.remarks[0]
        assert index.add_images(tmp_path).n_there == 12
        assert index.add_images(tmp_path, overwrite=True).n_added == 12
        assert sorted(index.ids()) == [f"{number:02}.png" for number in range(12)]
        assert np.array_equal(index.get(["03.png"]).codes, hasher.encode(tmp_path / "03.png"))


@pytest.mark.skipif(not HAS_CUDA, reason="no CUDA device here")
def test_on_a_cuda_device(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    codes, queries = draw_codes(rng, 9000), draw_codes(rng, 20)
    want = dshc_fast.hamming_topk(queries, codes, 30)
    for memory in (None, 0):
        path = tmp_path / f"index-{memory}"
        with HashIndex.create(path, bits=N_BITS, device="cuda", memory=memory) as index:
            index.add(codes[:4000])
            index.add(codes[4000:])
            for _ in range(2):
                found = index.search(queries, 30)
                assert np.array_equal(found.ids, want.indices) and np.array_equal(
                    found.distances, want.distances
                )
