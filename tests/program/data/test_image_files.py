"""Images decoded when asked for: like an array in every way that the program uses, without its memory."""

from __future__ import annotations

import gc
import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dshc.data import ImageFiles, ImageFit, load, read_images
from dshc.data.image_files import in_threads
from dshc.data.image_stores import PackedStore

N = 7


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(N):
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), np.uint8)).save(folder / f"{i}.png")
    return [folder / f"{i}.png" for i in range(N)]


@pytest.fixture(scope="module")
def pair(paths):
    fit = ImageFit(6, 5)
    return ImageFiles(paths, fit), read_images(paths, image_size=(6, 5))


def test_it_looks_like_an_array(pair, paths):
    files, array = pair
    assert (files.shape, files.dtype, files.ndim, len(files)) == (array.shape, array.dtype, 4, N)
    assert files.nbytes == array.nbytes and files.paths == tuple(paths) and files.paths[-1] == paths[-1]
    assert (
        files.paths[1:3] == tuple(paths[1:3]) and repr(files) == "ImageFiles(7 images, 6 x 5 x 3, bilinear)"
    )
    for whole in (files.decoded(), np.asarray(files), files[:], np.stack(list(files))):
        assert whole.dtype == np.uint8 and (whole == array).all()
    assert np.asarray(files, np.float32).dtype == np.float32


items = st.one_of(
    st.integers(-N, N - 1),
    st.slices(N),
    st.lists(st.integers(-N, N - 1), max_size=12),
    st.lists(st.booleans(), min_size=N, max_size=N).map(np.array),
)


@settings(max_examples=60, deadline=None)
@given(items)
def test_it_is_indexed_like_an_array(pair, chosen):
    files, array = pair
    if isinstance(chosen, list):
        for kind in (np.int64, np.int32):
            given_items = np.array(chosen, kind)
            assert (files[given_items] == array[given_items]).all()
        chosen = np.array(chosen, np.int64)
    found = files[chosen]
    assert found.shape == array[chosen].shape and (found == array[chosen]).all()


@pytest.mark.parametrize("wrong", [N, -N - 1, [0, N], [[0, 1]], [0.5], [True, False], "a"])
def test_what_no_array_would_be_indexed_by_is_refused(wrong, pair):
    with pytest.raises(IndexError, match="item"):
        pair[0][wrong]


def test_it_pickles_and_takes(pair):
    files, array = pair
    again = pickle.loads(pickle.dumps(files))
    assert (again[:] == array).all()
    assert (files.take(np.array([4, 1]))[:] == array[[4, 1]]).all()


def test_the_digest_is_of_bytes_order_and_fit(paths, tmp_path):
    fit = ImageFit(6, 5)
    one = ImageFiles(paths, fit).digest()
    copies = []
    for i, path in enumerate(paths):
        copies.append(tmp_path / f"copy {i}.png")
        copies[-1].write_bytes(path.read_bytes())
        os.utime(copies[-1], (1, 1))
    assert ImageFiles(copies, fit).digest() == one
    assert ImageFiles(copies[::-1], fit).digest() != one
    assert ImageFiles(copies, ImageFit(6, 5, 3, "bicubic")).digest() != one
    assert ImageFiles(copies[:-1], fit).digest() != one
    copies[3].write_bytes(copies[3].read_bytes() + b"\0")
    assert ImageFiles(copies, fit).digest() != one
    copies[2].unlink()
    with pytest.raises(ValueError, match=r"copy 2\.png: cannot be read \(No such file"):
        ImageFiles(copies, fit).digest()


def test_images_behind_one_another_in_one_file(paths, pair):
    _, array = pair
    store = PackedStore.write([path.read_bytes() for path in paths], origin="set.parquet")
    files = ImageFiles(store, ImageFit(6, 5))
    kept = store._file.descriptor
    assert (files[:] == array).all() and (files.take(np.array([5, 0]))[:] == array[[5, 0]]).all()
    assert files.digest() == pair[0].digest() and files.paths == ()
    pickled = pickle.dumps(files)
    copy = pickle.loads(pickled)
    assert (copy[:] == array).all() and copy.store._file.descriptor != kept
    del files, store
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kept)
    assert (copy[:] == array).all()  # which holds it, too
    with pytest.raises(ValueError, match="must still be held by the process that kept them"):
        pickle.loads(pickled)
    other = os.open(paths[0], os.O_RDONLY)
    if other == kept:  # another file under the same number
        with pytest.raises(ValueError, match="must still be held"):
            pickle.loads(pickled)
    os.close(other)
    broken = ImageFiles(PackedStore.write([b"x", b""], origin="set.parquet"), ImageFit(6, 5))
    with pytest.raises(ValueError, match=r"set\.parquet: row 1: not a readable image \(the file is empty"):
        broken[1]
    with pytest.raises(ValueError, match=r"set\.parquet: row 0: not a readable image"):
        broken[:]


def test_images_kept_on_disk_have_no_name_that_could_be_left_over(paths, tmp_path, monkeypatch):
    cache, temporary = tmp_path / "cache", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("DSHC_CACHE", str(cache))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    images = [path.read_bytes() for path in paths]
    store = PackedStore.write(images, origin="set.parquet")
    assert cache.is_dir() and not [*cache.iterdir(), *temporary.iterdir()]
    assert os.readlink(f"/proc/self/fd/{store._file.descriptor}").startswith(str(cache))
    assert [store.open(i).read() for i in range(len(images))] == images
    cache.rmdir()
    cache.write_text("no folder")  # as where the home folder may not be written
    store = PackedStore.write(images, origin="set.parquet")
    assert os.readlink(f"/proc/self/fd/{store._file.descriptor}").startswith(str(temporary))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(ValueError, match=r"set\.parquet: its images must be kept on disk .*DSHC_CACHE"):
        PackedStore.write(images, origin="set.parquet")


def test_the_error_of_the_first_item_is_raised():
    done = []

    def work(i: int) -> None:
        done.append(i)
        if i in (3, 300, 600):
            raise ValueError(f"item {i}")

    with pytest.raises(ValueError, match="^item 3$"):
        in_threads(work, 1000)
    assert max(done) < 256  # what comes behind is not begun
    done.clear()
    in_threads(done.append, 1000, "counting")
    assert sorted(done) == list(range(1000))


# --- load, lazily


def lazily(source, **options):
    return load(source, max_memory_mib=0, **options)


def photos(folder: Path, n: int = 4, mode: str = "RGB") -> Path:
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            Image.new(mode, (8, 8), i * 10 if mode == "L" else (i * 10, 0, 0)).save(
                folder / name / f"{i}.png"
            )
    return folder


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_lazy_set_is_the_decoded_one(mode, tmp_path):
    folder = photos(tmp_path / "photos", mode=mode)
    for options in ({}, {"n_channels": 3}, {"n_channels": 1}, {"interpolation": "bicubic"}):
        lazy, whole = lazily(folder, image_size=6, **options), load(folder, image_size=6, **options)
        assert isinstance(lazy.inputs, ImageFiles) and isinstance(whole.inputs, np.ndarray)
        assert lazy.item_shape == whole.item_shape and (lazy.inputs[:] == whole.inputs).all()
        assert (lazy.labels == whole.labels).all() and lazy.ids == whole.ids
        assert (
            lazy.reading == whole.reading
            and lazy.digest() == lazily(folder, image_size=6, **options).digest()
        )


def test_the_limit_is_on_decoded_bytes(tmp_path):
    folder = photos(tmp_path / "photos")
    exactly = 8 * 6 * 6 * 3 / 2**20
    assert isinstance(load(folder, image_size=6, max_memory_mib=exactly).inputs, np.ndarray)
    assert isinstance(load(folder, image_size=6, max_memory_mib=exactly * 0.99).inputs, ImageFiles)


def test_damage_in_a_lazy_set(tmp_path):
    folder = photos(tmp_path / "photos")
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    bad = folder / "b" / "2.png"
    Image.fromarray(noise).save(bad)
    bad.write_bytes(bad.read_bytes()[:5000])
    data = lazily(folder, image_size=8)  # the header is whole
    with pytest.raises(
        ValueError, match=r"b/2\.png: not a readable image .*; skip_unreadable leaves such files out"
    ):
        data.inputs[:]
    with pytest.warns(UserWarning, match=r"1 unreadable images left out: b/2\.png"):
        data = lazily(folder, image_size=8, skip_unreadable=True)
    assert data.n_items == 7 and data.inputs[:].shape == (7, 8, 8, 3) and data.reading.unreadable == 1
    bad.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"b/2\.png: not a readable image"):
        lazily(folder)


def test_memory_is_bounded_by_what_is_asked_for(tmp_path):
    """3,000 images of 192 KiB decoded: 576 MiB as an array, a few MiB as files."""
    first = tmp_path / "photos" / "a" / "0.png"
    first.parent.mkdir(parents=True)
    Image.new("RGB", (4, 4), (9, 8, 7)).save(first)
    for i in range(1, 3000):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        os.link(first, path)
    tracemalloc.start()
    data = load(tmp_path / "photos", image_size=256, max_memory_mib=64)
    assert isinstance(data.inputs, ImageFiles) and data.n_items == 3000
    assert data.inputs.nbytes == 3000 * 256 * 256 * 3 and data.inputs.store._names.__sizeof__() < 300_000
    for start in range(0, 3000, 100):
        assert data.inputs[np.arange(start, start + 20)].shape == (20, 256, 256, 3)
    data.digest()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 2**20
