"""The images behind a few codes of a run: only these are opened, and they are the right ones."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from photos import KINDS, write_photos
from training_runs import train

import dshc.data.gather
import dshc.data.image_files
from dshc import load_run
from dshc.runs.encoding import inputs_of, stored_part

TINY = {"width": 4, "epochs": 1, "batch_size": 8, "threads": 1, "image_size": 8, "pretrained": False}
BAD = ("brick/03.png", "dots/05.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = write_photos(
        tmp_path_factory.mktemp("photos") / "photos", per_kind=8, side=8, suffix=".png", kinds=KINDS[:2]
    )
    for name in BAD:
        (folder / name).write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "photos"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the unreadable ones, the few items
        run = train(out, {**TINY, "source": str(photos)}, skip_unreadable=True)
        stored_part(run, "query")
    return out


@pytest.fixture
def opened(monkeypatch):
    """The names of the images that are opened."""
    names = []

    def watched(source, fit, name):
        names.append(name)
        return decode(source, fit, name)

    decode = dshc.data.gather.decode
    monkeypatch.setattr(dshc.data.gather, "decode", watched)
    monkeypatch.setattr(dshc.data.image_files, "decode", watched)
    return names


def test_of_a_run_that_left_out_unreadable_images(trained, photos, opened):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = load_run(trained)
        expected = whole.dataset.inputs[whole.split.query]
    opened.clear()
    run = load_run(trained)
    rows = np.array([len(expected) - 1, 0])
    found = inputs_of(run, "query", rows)
    assert (found == expected[rows]).all() and found.shape[1:] == (8, 8, 3)
    ids = stored_part(run, "query").ids
    assert sorted(opened) == sorted(str(photos / ids[row]) for row in rows)
    assert (inputs_of(whole, "query", rows) == found).all()  # of a set that was read before


def test_of_a_run_whose_images_were_all_read(photos, tmp_path, opened):
    clean = write_photos(tmp_path / "clean", per_kind=6, side=8, suffix=".png", kinds=KINDS[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = train(tmp_path / "run", {**TINY, "source": str(clean)})
        expected = whole.dataset.inputs[whole.split.query]
    opened.clear()
    run = load_run(tmp_path / "run")
    assert (inputs_of(run, "query", np.array([1])) == expected[[1]]).all() and len(opened) == 1


def test_of_a_run_on_a_matrix_of_pairs_that_left_out_unreadable_images(photos, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        readable = dshc.load_data(str(photos), skip_unreadable=True, image_size=8)
        np.save(tmp_path / "pairs.npy", (readable.labels[:, None] == readable.labels).astype(np.int8))
        run = train(tmp_path / "run", {**TINY, "source": str(photos), "pairs": str(tmp_path / "pairs.npy")},
                    skip_unreadable=True)  # fmt: skip
        stored_part(run, "query")
        expected = run.dataset.inputs[run.split.query]
        assert (inputs_of(load_run(tmp_path / "run"), "query", np.array([0, 1])) == expected[:2]).all()


def test_another_data_set_is_refused(trained, photos):
    run = load_run(trained)
    name = stored_part(run, "query").ids[0]
    image, other = photos / name, photos / ("dots" if name.startswith("brick") else "brick") / "moved.png"
    image.rename(other)
    try:
        with pytest.raises(
            ValueError, match=f"must hold the items that the run was trained on, lacks '{name}'"
        ):
            inputs_of(run, "query", np.array([0]))
    finally:
        other.rename(image)
    (photos / "eel").mkdir()
    (photos / "eel" / "0.png").write_bytes(image.read_bytes())
    try:
        with pytest.raises(ValueError, match="must have the labels that the run was trained on, has others"):
            inputs_of(run, "query", np.array([0]))
    finally:
        (photos / "eel" / "0.png").unlink()
        (photos / "eel").rmdir()
    image_bytes = image.read_bytes()
    image.write_bytes(b"no image any more")
    try:
        with pytest.raises(ValueError, match="not a readable image"):
            inputs_of(run, "query", np.array([0]))
    finally:
        image.write_bytes(image_bytes)
