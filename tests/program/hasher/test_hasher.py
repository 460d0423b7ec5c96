"""The hasher: what it encodes and predicts, in which mode and precision."""

import threading

import numpy as np
import pytest
import torch
from PIL import Image
from small_hashers import VALUES, a_hasher, items_of
from torch.utils.data import DataLoader, TensorDataset

from dshc.errors import InputError


@pytest.fixture(scope="module")
def of_images():
    return a_hasher(kind="images")


@pytest.fixture(scope="module")
def of_features():
    return a_hasher(kind="features")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of pictures of the hasher's size, whose names sort as their numbers, and their pixels."""
    folder = tmp_path_factory.mktemp("pictures")
    images = items_of("images", 5)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder, images


@pytest.mark.parametrize("kind", ["images", "features"])
@pytest.mark.parametrize("name", VALUES)
def test_codes_and_predictions_are_the_methods_rule_on_the_outputs(name, kind):
    hasher, items = a_hasher(name, kind), items_of(kind)
    with torch.no_grad():
        inputs = torch.from_numpy(items)
        if kind == "images":
            inputs = (inputs.permute(0, 3, 1, 2) / 255 - 0.4) / 0.3
        else:
            inputs = (inputs - 0.4) / 0.3
        expected = hasher.method.head(hasher.backbone(inputs))
    outputs = hasher.outputs(items)
    assert outputs.dtype == torch.float32 and torch.allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    codes, predicted = hasher.encode(items), hasher.predict(items)
    assert codes.dtype == np.uint8 and codes.shape == (9, -(-hasher.n_bits // 8))
    assert np.array_equal(codes, hasher.method.encode(outputs).numpy())
    assert len(np.unique(codes, axis=0)) > 1
    wanted = hasher.method.predict(outputs)
    if wanted is None:
        assert predicted is None
    else:
        assert np.array_equal(predicted, wanted.numpy()) and predicted.dtype == wanted.numpy().dtype
    both = hasher.encode_and_predict(items)
    assert np.array_equal(both[0], codes) and np.array_equal(both[1], predicted)


def test_images_come_as_paths_pictures_arrays_and_tensors(of_images, pictures):
    folder, images = pictures
    codes = of_images.encode(images)
    paths = sorted(folder.iterdir())
    opened = [Image.open(path) for path in paths]
    for items in (
        folder,
        str(folder),
        paths,
        tuple(map(str, paths)),
        opened,
        [paths[0], opened[1], str(paths[2]), *paths[3:]],
        list(images),
        torch.from_numpy(images),
        list(torch.from_numpy(images)),
        images[::-1][::-1],
    ):
        assert np.array_equal(of_images.encode(items), codes), type(items)
    for one in (paths[2], str(paths[2]), opened[2], images[2], torch.from_numpy(images[2])):
        assert np.array_equal(of_images.encode(one), codes[2:3]), type(one)
    assert np.array_equal(of_images.encode(paths[::-1]), codes[::-1])


def test_pictures_of_another_size_or_colour_are_brought_to_the_hashers(of_images, tmp_path):
    Image.new("L", (30, 20), 77).save(tmp_path / "grey.png")
    expected = of_images.encode(np.full((8, 8, 3), 77, np.uint8))
    assert np.array_equal(of_images.encode(tmp_path / "grey.png"), expected)
    assert np.array_equal(of_images.encode(Image.new("L", (5, 9), 77)), expected)


def test_features_come_as_arrays_tensors_and_lists(of_features):
    items = items_of("features")
    codes = of_features.encode(items)
    for same in (
        torch.from_numpy(items),
        items.tolist(),
        list(items),
        list(torch.from_numpy(items)),
        items.astype(np.float64),
        np.asfortranarray(items),
    ):
        assert np.array_equal(of_features.encode(same), codes), type(same)
    for one in (items[3], items[3].tolist(), torch.from_numpy(items[3])):
        assert np.array_equal(of_features.encode(one), codes[3:4]), type(one)
    whole = np.arange(24).reshape(2, 12)
    assert np.array_equal(of_features.encode(whole.tolist()), of_features.encode(whole.astype(np.float32)))
    rounded = torch.from_numpy(items).bfloat16()
    assert np.array_equal(of_features.encode(rounded), of_features.encode(rounded.float()))


@pytest.mark.parametrize("kind", ["images", "features"])
def test_batches_come_from_loaders_with_and_without_labels(kind):
    hasher, items = a_hasher(kind=kind), torch.from_numpy(items_of(kind))
    codes = hasher.encode(items)
    for data in (TensorDataset(items, torch.arange(9)), TensorDataset(items), items):
        for size in (2, 4):
            assert np.array_equal(hasher.encode(DataLoader(data, batch_size=size)), codes)
    assert np.array_equal(hasher.encode([items[:2], items[2:]]), codes)  # a list of batches
    assert np.array_equal(hasher.encode(part for part in (items[:5], items[5:])), codes)


def test_batches_as_lists_lose_no_item(of_features):
    items = items_of("features")
    codes, rows = of_features.encode(items), items.tolist()
    two, three, labels = rows[:2], rows[2:5], [0, 1]
    assert np.array_equal(of_features.encode(part for part in (two,)), codes[:2])  # of two items is no pair
    assert np.array_equal(of_features.encode([three, two]), codes[[2, 3, 4, 0, 1]])
    for first in (two, items[:2], torch.from_numpy(items[:2])):
        for pairs in ([(first, labels), (first, labels)], [(first, torch.tensor(labels))] * 2):
            assert np.array_equal(of_features.encode(pairs), codes[[0, 1, 0, 1]])
            assert np.array_equal(of_features.encode(iter(pairs)), codes[[0, 1, 0, 1]])
    with pytest.raises(InputError, match="items of a sequence must all have one shape, got several"):
        of_features.encode([[1.0, 2.0], [3.0]])


def test_a_loader_of_paths_loses_none(of_images, pictures):
    folder, images = pictures
    codes, paths = of_images.encode(images), sorted(map(str, folder.iterdir()))
    # Two paths a batch are two items; a batch of paths with its labels is a pair.
    assert np.array_equal(of_images.encode(DataLoader(paths, batch_size=2, collate_fn=list)), codes)
    assert np.array_equal(of_images.encode(DataLoader(paths, batch_size=2)), codes)
    labelled = [(path, label) for label, path in enumerate(paths)]
    assert np.array_equal(of_images.encode(DataLoader(labelled, batch_size=2)), codes)
    assert np.array_equal(of_images.encode(iter(paths)), codes)


@pytest.mark.parametrize("name", VALUES)
def test_no_items_give_no_codes(name):
    hasher = a_hasher(name)
    width = -(-hasher.n_bits // 8)
    for nothing in ([], np.zeros((0, 12), np.float32), iter(())):
        assert hasher.encode(nothing).shape == (0, width)
    assert hasher.outputs([]).shape == (0, hasher.method.n_outputs)
    expected = hasher.method.predict(torch.zeros(0, hasher.method.n_outputs))
    for predicted in (hasher.predict([]), hasher.encode_and_predict([])[1]):
        assert (predicted is None) == (expected is None)
        assert expected is None or (predicted.shape, predicted.dtype) == (
            expected.shape,
            expected.numpy().dtype,
        )


@pytest.mark.parametrize(
    ("kind", "items", "message"),
    [
        (
            "images",
            np.zeros((2, 8, 8, 3), np.float32),
            r"images must be uint8 \(pixels 0 to 255\), got float32",
        ),
        (
            "images",
            np.zeros((2, 3, 8, 8), np.uint8),
            r"items must have shape \(n, 8, 8, 3\), got \(2, 3, 8, 8\)",
        ),
        ("images", np.zeros((2, 8, 8), np.uint8), r"items must have shape \(n, 8, 8, 3\), got \(2, 8, 8\)"),
        ("images", np.uint8(3), "items must be a path, a picture, an array, .* got uint8"),
        ("images", 7, "items must be a path, a picture, an array, .* got int"),
        ("images", {"pixels": np.zeros((2, 8, 8, 3), np.uint8)}, "items must be .* got dict"),
        ("images", b"pixels", "items must be .* got bytes"),
        ("images", [None], "items must be paths or pictures, got NoneType"),
        ("images", [np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)], "must all have one shape"),
        ("features", np.zeros((2, 12), np.int64), "features must be floating point, got int64"),
        ("features", np.zeros((2, 11), np.float32), r"items must have shape \(n, 12\), got \(2, 11\)"),
        ("features", np.full((2, 12), np.nan), "features must be finite"),
        ("features", np.full((2, 12), 1e300), "features must be finite"),
        ("features", "a.png", r"items must be an array \(n, d\) of features, got paths or pictures"),
        ("features", ["a.png"], r"items must be an array \(n, d\) of features, got paths or pictures"),
        (
            "features",
            Image.new("L", (8, 8)),
            r"items must be an array \(n, d\) of features, got paths or pictures",
        ),
    ],
)
def test_items_that_do_not_fit_are_refused(of_images, of_features, kind, items, message):
    hasher = of_images if kind == "images" else of_features
    for call in (hasher.encode, hasher.predict, hasher.outputs):
        with pytest.raises(InputError, match=message):
            call(items)


def test_files_that_cannot_be_read_are_named(of_images, pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    good = sorted(pictures[0].iterdir())[0]
    with pytest.raises(ValueError, match=r"broken\.png"):
        of_images.encode([good, tmp_path / "broken.png"])
    with pytest.raises(ValueError, match=r"gone\.png"):
        of_images.encode(tmp_path / "gone.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no images"):
        of_images.encode(tmp_path / "empty")


def test_the_size_of_batches_is_at_least_one(of_features):
    items = items_of("features")
    codes = of_features.encode(items)
    for size in (1, 4, 9, 100):
        assert np.array_equal(of_features.encode(items, batch_size=size), codes)
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        of_features.encode(items, batch_size=0)
    for size in (1.5, "8", True):
        with pytest.raises(TypeError, match="batch_size must be an int, got"):
            of_features.encode(items, batch_size=size)


def test_a_mask_is_not_dropped_in_silence(of_features):
    items = items_of("features")
    masked = np.ma.masked_array(items, np.zeros(items.shape, bool))
    assert np.array_equal(of_features.encode(masked), of_features.encode(items))
    masked.mask[0, 0] = True
    with pytest.raises(InputError, match="items must have no masked entries"):
        of_features.encode(masked)


def test_encoding_is_in_evaluation_mode_and_restores_what_was():
    hasher, items = a_hasher(), items_of("features")
    codes = hasher.encode(items)
    state = {name: tensor.clone() for name, tensor in hasher.state_dict().items()}
    hasher.train()
    hasher.backbone[1].eval()  # a frozen layer
    modes = [module.training for module in hasher.modules()]
    assert np.array_equal(hasher.encode(items), codes)
    with pytest.raises(InputError):
        hasher.encode(items[:, :3])
    assert [module.training for module in hasher.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in hasher.state_dict().items())
    assert not hasher.outputs(items).requires_grad


@pytest.mark.parametrize("kind", ["images", "features"])
def test_bf16_is_encoded_in_bf16(kind):
    items = items_of(kind, 300)
    full, half = a_hasher("hashnet", kind), a_hasher("hashnet", kind, precision="bf16")
    inputs = half.preprocessing(torch.from_numpy(items))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = half.method.head(half.backbone(inputs)).float()
    outputs = half.outputs(items)
    assert outputs.dtype == torch.float32 and torch.equal(outputs, expected)
    assert torch.equal(outputs, outputs.bfloat16().float()) and not torch.equal(outputs, full.outputs(items))
    assert np.array_equal(half.encode(items), half.method.encode(expected).numpy())


def test_it_says_what_it_is(of_images):
    assert repr(of_images) == "Hasher(dshc, 15 bits, images 8 x 8 x 3)"
    assert (of_images.kind, of_images.n_bits, of_images.score) == ("images", 15, "hamming")
    assert of_images.class_names == ("ant", "bee", "cat", "dog", "elk")


def test_threads_share_a_hasher_in_training_mode():
    """The first thread to end must not put it back into training while others encode: batches would be normed by
    themselves, and running means move."""
    hasher, items = a_hasher(kind="images"), items_of("images", 40)
    wanted = hasher.encode(items)
    hasher.train()
    before = {name: value.clone() for name, value in hasher.state_dict().items()}
    found = []

    def work(n):
        for _ in range(12):
            found.append(hasher.encode(items[:n]))

    threads = [threading.Thread(target=work, args=(n,)) for n in (40, 7, 23)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 36 and all(np.array_equal(codes, wanted[: len(codes)]) for codes in found)
    assert hasher.training and all(module.training for module in hasher.modules())
    assert all(torch.equal(value, before[name]) for name, value in hasher.state_dict().items())
