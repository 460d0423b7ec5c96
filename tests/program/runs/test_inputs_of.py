"""The images behind a few codes of a run: only these are opened, and they are the right ones."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pytest
from photos import KINDS, write_photos
from training_runs import train

import dshc.data.gather
import dshc.data.image_files
from dshc import load_run
from dshc.runs.encoding import inputs_of, stored_part
from dshc.storage import CodeFile

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


def test_a_renamed_image_is_not_taken_for_another(photos, tmp_path):
    clean = write_photos(tmp_path / "clean", per_kind=6, side=8, suffix=".png", kinds=KINDS[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = train(tmp_path / "run", {**TINY, "source": str(clean)})
        names = stored_part(whole, "query").ids
        expected = {
            name: whole.dataset.inputs[item] for name, item in zip(names, whole.split.query, strict=True)
        }
    other = sorted(path for path in clean.glob("*/*.png") if str(path.relative_to(clean)) not in names)[0]
    other.rename(other.with_name("zz.png"))  # all behind it move up by one
    found = inputs_of(load_run(tmp_path / "run"), "query", np.arange(len(names)))
    assert all((image == expected[name]).all() for name, image in zip(names, found, strict=True))


def test_damaged_codes_are_found_again(trained, tmp_path):
    trained = shutil.copytree(trained, tmp_path / "copy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = stored_part(load_run(trained), "query").codes
        (trained / "codes" / "query.safetensors").write_bytes(b"half")
        assert (stored_part(load_run(trained), "query").codes == expected).all()
        assert (CodeFile.load(trained / "codes" / "query.safetensors").codes == expected).all()


def test_codes_that_cannot_be_kept_are_of_use_all_the_same(trained, tmp_path, monkeypatch):
    trained = shutil.copytree(trained, tmp_path / "copy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = stored_part(load_run(trained), "query").codes
    (trained / "codes" / "query.safetensors").unlink()

    def refuse(self, path):
        raise PermissionError(13, "Permission denied", str(path))

    with (
        monkeypatch.context() as patch,
        pytest.warns(UserWarning, match="codes are not kept .Permission denied"),
    ):
        patch.setattr(CodeFile, "save", refuse)
        assert (stored_part(load_run(trained), "query").codes == expected).all()


def test_another_data_set_is_refused(trained, photos):
    run = load_run(trained)
    name = stored_part(run, "query").ids[0]
    image, other = photos / name, photos / ("dots" if name.startswith("brick") else "brick") / "moved.png"
    image.rename(other)
    try:
        with pytest.raises(
            ValueError, match=f"must hold the items that the run was trained on, got none called '{name}'"
        ):
            inputs_of(run, "query", np.array([0]))
    finally:
        other.rename(image)
    (photos / "eel").mkdir()
    (photos / "eel" / "0.png").write_bytes(image.read_bytes())
    try:
        with pytest.raises(ValueError, match="must have the labels that the run was trained on, got others"):
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
