"""Batches of small images: normalised, cropped and flipped on the device, against a loop over images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from real_sets import real

from dshc.data import load
from dshc.data.image_batches import TensorImages, channel_statistics

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def pictures(n: int = 12, h: int = 6, w: int = 9, c: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, h, w, c), np.uint8)


def plain(images: np.ndarray, **options: object) -> TensorImages:
    """Mean 0 and deviation 1, so that a batch is pixel / 255."""
    c = images.shape[3]
    return TensorImages(images, mean=torch.zeros(c), std=torch.ones(c), **options)


def pixels_of(batch: torch.Tensor) -> np.ndarray:
    """uint8 (b, h, w, c) of an unnormalised batch."""
    return (batch.cpu() * 255).round().byte().permute(0, 2, 3, 1).numpy()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def variants(image: np.ndarray, padding: int, mode: str, flip: bool) -> list[bytes]:
    """Every crop and mirror image that may come out, by numpy's own padding."""
    h, w, _ = image.shape
    padded = np.pad(
        image, ((padding,) * 2, (padding,) * 2, (0, 0)), "reflect" if mode == "reflect" else "constant"
    )
    crops = [padded[y : y + h, x : x + w] for y in range(2 * padding + 1) for x in range(2 * padding + 1)]
    return [v.tobytes() for crop in crops for v in ([crop, crop[:, ::-1]] if flip else [crop])]


# --- without augmentation


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_the_normalised_images(channels, device):
    images = pictures(c=channels)
    train = np.array([0, 2, 4, 6])
    data = TensorImages(images, train_indices=train, device=device)
    scaled = images.astype(np.float64) / 255
    mean, std = scaled[train].mean((0, 1, 2)), scaled[train].std((0, 1, 2))
    np.testing.assert_allclose(data.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(data.std, std, rtol=1e-6)
    picked = [7, 1, 1]
    batch = data.batch(picked)
    assert batch.dtype == torch.float32 and batch.shape == (3, channels, 6, 9) and batch.device.type == device
    expected = ((scaled[picked] - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(batch.cpu(), expected, rtol=1e-5, atol=1e-5)


def test_training_images_have_mean_0_and_deviation_1():
    data = load("digits")
    train = np.arange(0, 1797, 2)
    batch = TensorImages(data.inputs, train_indices=train).batch(train)
    assert abs(batch.double().mean()) < 1e-6 and abs(batch.double().std(correction=0) - 1) < 1e-6


def test_statistics_do_not_depend_on_order_or_threads(threads):
    images, order = pictures(500, 16, 16), np.random.default_rng(1).permutation(500)
    first = channel_statistics(images, np.arange(500))
    torch.set_num_threads(2)
    second = channel_statistics(images, order)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_statistics_of_many_pixels_are_exact():
    """More than one part, and sums beyond float32: half black, half white."""
    images = np.zeros((40, 512, 512, 1), np.uint8)
    images[20:] = 255
    mean, std = channel_statistics(images, np.arange(40))
    assert (mean.item(), std.item()) == (0.5, 0.5)


def test_a_constant_channel_has_deviation_1():
    images = pictures()
    images[..., 1] = 51
    data = TensorImages(images, train_indices=np.arange(12))
    assert data.std[1] == 1 and data.mean[1] == pytest.approx(0.2)
    assert data.batch([0])[0, 1].abs().max() < 1e-6


def test_stored_statistics_give_the_same_batches():
    images = pictures()
    first = TensorImages(images, train_indices=np.arange(5))
    second = TensorImages(images, mean=first.mean.numpy(), std=first.std.numpy())
    assert torch.equal(first.batch(range(12)), second.batch(np.arange(12)))


@pytest.mark.parametrize("train", [False, True])
def test_memory_layout(train):
    for last in (False, True):
        batch = plain(pictures(), channels_last=last, flip=True).batch(
            [1, 2], train=train, generator=generator()
        )
        assert batch.shape == (2, 3, 6, 9)
        assert batch.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    assert len(plain(pictures())) == 12


def test_evaluation_is_never_augmented():
    data = plain(pictures(), padding=2, flip=True)
    state = (g := generator()).get_state()
    assert (pixels_of(data.batch(range(12), generator=g)) == pictures()).all()
    assert torch.equal(g.get_state(), state)


def test_no_augmentation_needs_no_generator():
    data = plain(pictures(), padding=0)
    assert (pixels_of(data.batch(range(12), train=True)) == pictures()).all()


def test_an_empty_batch():
    data = plain(pictures(), flip=True)
    assert data.batch(np.zeros(0, np.int64)).shape == (0, 3, 6, 9)
    assert data.batch(torch.zeros(0, dtype=torch.int64), train=True, generator=generator()).shape == (
        0,
        3,
        6,
        9,
    )


# --- augmentation


@pytest.mark.parametrize("device", DEVICES)
@given(
    padding=st.integers(0, 4),
    mode=st.sampled_from(["reflect", "zero"]),
    flip=st.booleans(),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**32),
)
def test_every_image_is_one_of_its_crops(device, padding, mode, flip, channels, seed):
    images = pictures(8, 6, 9, channels, seed % 1000)
    data = plain(images, padding=padding, padding_mode=mode, flip=flip, device=device)
    picked = torch.randint(8, (20,), generator=generator(seed))
    found = pixels_of(data.batch(picked, train=True, generator=generator(seed)))
    for item, image in zip(picked.tolist(), found, strict=True):
        assert image.tobytes() in variants(images[item], padding, mode, flip)


@pytest.mark.parametrize("mode", ["reflect", "zero"])
def test_every_crop_comes_up_about_as_often(mode):
    """One image 9,000 times: 9 crops times 2 mirrors, 500 each, standard deviation 21.7."""
    image = pictures(1, 4, 5)
    data = plain(image, padding=1, padding_mode=mode, flip=True)
    found = pixels_of(data.batch(np.zeros(9000, np.int64), train=True, generator=generator(3)))
    seen: dict[bytes, int] = {}
    for crop in found:
        seen[crop.tobytes()] = seen.get(crop.tobytes(), 0) + 1
    assert set(seen) == set(variants(image[0], 1, mode, True)) and len(seen) == 18
    assert all(abs(count - 500) < 5 * 21.7 for count in seen.values())


def test_channels_move_together():
    image = np.repeat(pictures(6, c=1), 3, axis=3)
    batch = plain(image, padding=2, flip=True).batch(range(6), train=True, generator=generator())
    assert torch.equal(batch[:, 0], batch[:, 1]) and torch.equal(batch[:, 0], batch[:, 2])


@pytest.mark.parametrize("device", DEVICES)
def test_all_randomness_comes_from_the_generator(device):
    data = plain(pictures(), padding=2, flip=True, device=device)
    before = torch.get_rng_state()
    first = data.batch(range(12), train=True, generator=generator(1))
    torch.manual_seed(99)
    torch.set_rng_state(before)
    again = data.batch(range(12), train=True, generator=generator(1))
    other = data.batch(range(12), train=True, generator=generator(2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    # A generator on the CPU moves images on any device alike.
    assert torch.equal(
        plain(pictures(), padding=2, flip=True).batch(range(12), train=True, generator=generator(1)),
        first.cpu(),
    )


@pytest.mark.parametrize(
    ("size", "padding"),
    [((1, 1), 0), ((2, 9), 1), ((8, 8), 1), ((28, 28), 2), ((32, 40), 2), ((64, 64), 4), ((96, 200), 6)],
)
def test_default_padding(size, padding):
    assert plain(np.zeros((1, *size, 1), np.uint8)).padding == padding


# --- wrong arguments


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"images": pictures().astype(np.float32)}, TypeError, "images must be uint8, got torch.float32"),
        ({"images": pictures()[0]}, ValueError, r"images must have shape .*, got \(6, 9, 3\)"),
        ({"images": pictures()[:0]}, ValueError, r"images must have shape .*, got \(0, 6, 9, 3\)"),
        ({"train_indices": [0]}, ValueError, "either train_indices or both"),
        ({"std": None}, ValueError, "either train_indices or both"),
        ({"mean": None, "std": None}, ValueError, "either train_indices or both"),
        ({"mean": torch.zeros(2)}, ValueError, "mean must be 3 finite numbers"),
        ({"mean": torch.tensor([0, 0, float("nan")])}, ValueError, "mean must be"),
        ({"std": torch.tensor([1.0, 0, 1])}, ValueError, "std must be positive"),
        ({"padding": 6}, ValueError, "padding must be 0 to 5 for 6x9 pixels, got 6"),
        ({"padding": -1}, ValueError, "padding must be .*, got -1"),
        ({"padding": 1.5}, TypeError, "padding must be a number of pixels, got 1.5"),
        ({"padding_mode": "wrap"}, ValueError, "padding_mode must be 'reflect' or 'zero', got 'wrap'"),
    ],
)
def test_wrong_settings_are_named(changes, error, message):
    arguments = {"images": pictures(), "mean": torch.zeros(3), "std": torch.ones(3)} | changes
    with pytest.raises(error, match=message):
        TensorImages(**arguments)


def test_wrong_batches_are_named():
    data = plain(pictures())
    with pytest.raises(TypeError, match="generator must be a torch.Generator with train=True, got None"):
        data.batch([0], train=True)
    for train in (False, True):
        for bad, error, message in [
            ([[0]], ValueError, r"indices must have shape \(b,\), got \(1, 1\)"),
            ([0.5], TypeError, "indices must be integers, got torch.float32"),
            ([True, False], TypeError, "indices must be integers, got torch.bool"),
            ([0, 12], ValueError, "indices must be 0 to 11, got 0 to 12"),
            ([-1, 3], ValueError, "indices must be .*, got -1 to 3"),
        ]:
            with pytest.raises(error, match=message):
                data.batch(bad, train=train, generator=generator())
    with pytest.raises(ValueError, match=r"indices must be .*, got shape \(0,\)"):
        TensorImages(pictures(), train_indices=np.zeros(0, np.int64))


def test_the_real_fashion_mnist_statistics():
    data = load("fashion-mnist", root=real("fashion-mnist"))
    images = TensorImages(data.inputs, train_indices=np.flatnonzero(~data.test_mask))
    assert images.mean.item() == pytest.approx(0.2860, abs=1e-4) and images.std.item() == pytest.approx(
        0.3530, abs=1e-4
    )
