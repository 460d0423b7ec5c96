"""What a hasher is handed, by the fit that its images were trained with."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dshc.data import ImageFiles, ImageFit, read_images
from dshc.hasher.items import item_batches

SHAPE = (6, 5, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / f"{i}.png")
    (folder / "notes.txt").write_text("")
    return folder


def batches(items, **options):
    return list(item_batches(items, **({"kind": "images", "item_shape": SHAPE, "batch_size": 2} | options)))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_files_and_pictures_come_by_the_fit(interpolation, folder):
    fit = ImageFit(*SHAPE, interpolation)
    paths = sorted(folder.glob("*.png"))
    wanted = read_images(paths, image_size=SHAPE[:2], interpolation=interpolation)
    pictures = [Image.open(path) for path in paths]
    mixed = [paths[0], pictures[1], str(paths[2]), pictures[3], paths[4]]
    for items in (
        folder,
        str(folder),
        paths,
        pictures,
        mixed,
        ImageFiles(paths, fit),
        wanted,
        [wanted[:2], wanted[2:]],
    ):
        found = batches(items, fit=fit)
        assert [len(batch) for batch in found][:2] == [2, 2] and (np.concatenate(found) == wanted).all()
    assert (batches(paths[0], fit=fit)[0] == wanted[:1]).all()
    assert (batches(pictures[0], fit=fit)[0] == wanted[:1]).all()
    default = np.concatenate(batches(paths))
    assert (default == read_images(paths, image_size=SHAPE[:2])).all()


def test_a_batch_is_decoded_when_it_is_reached(folder, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    found = item_batches(
        [*sorted(folder.glob("*.png"))[:2], tmp_path / "bad.png"],
        kind="images",
        item_shape=SHAPE,
        batch_size=2,
    )
    assert next(found).shape == (2, *SHAPE)
    with pytest.raises(ValueError, match=r"bad\.png: not a readable image \(the file is empty\)$"):
        next(found)


def test_wrong_fits_and_pictures(folder):
    with pytest.raises(
        ValueError, match=r"fit must be to the shape of an item, \(6, 5, 3\), got \(5, 6, 3\)"
    ):
        batches(folder, fit=ImageFit(5, 6))
    with pytest.raises(ValueError, match=r"items must have shape \(n, 6, 5, 3\), got \(1, 4, 4, 3\)"):
        batches(ImageFiles([folder / "0.png"], ImageFit(4, 4)))
    odd = Image.fromarray(np.full((4, 4), -1.0, np.float32))
    with pytest.raises(
        ValueError, match="item 0 must be a picture that can be read: numbers without a range"
    ):
        batches(odd)
    with pytest.raises(ValueError, match="items must be an array .* of features, got paths or pictures"):
        batches(ImageFiles([folder / "0.png"], ImageFit(4, 4)), kind="features", item_shape=(3,))
