"""One image to one array: orientation, transparency, number ranges, formats, and what is refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

import dshc.data.image_fit as image_fit
from dshc.data import IMAGE_SUFFIXES, ImageFit, image_suffixes, read_images
from dshc.data.image_fit import decode

FIT = ImageFit(4, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 0}, "height must be .* 1 to 4096, got 0"),
        ({"width": 4097}, "width must be .*got 4097"),
        ({"width": 2.0}, "width must be .*got 2.0"),
        ({"height": True}, "height must be .*got True"),
        ({"n_channels": 4}, r"n_channels must be 1 \(grey\) or 3 \(RGB\), got 4"),
        ({"interpolation": "bicubik"}, "interpolation must be one of .*did you mean 'bicubic'"),
    ],
)
def test_a_fit_refuses_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        ImageFit(**({"height": 4, "width": 4} | changes))


def quadrants() -> np.ndarray:
    """Four different corners, so that no two orientations look alike."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, :4], pixels[:4, 4:], pixels[4:, :4], pixels[4:, 4:] = 40, 90, 140, 190
    return pixels


# EXIF 2.32, 4.6.4.A: where the first row and the first column of the file lie in what was seen.
SEEN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(orientation, suffix, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    lossy = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    Image.fromarray(quadrants()).save(path, exif=exif, **lossy)
    pixels = ImageFit(8, 8).read(path).astype(int)
    assert np.abs(pixels - SEEN[orientation](quadrants()).astype(int)).max() <= 2


def test_a_damaged_exif_block_says_nothing(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8), (200, 10, 10)).save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert ImageFit(8, 8).read(path)[0, 0, 0] > 190


def half_clear(mode: str) -> Image.Image:
    """Left half red (or dark) and opaque, right half of the same colour and clear."""
    colour = Image.new("RGBA", (8, 8), (200, 0, 0, 255))
    colour.paste((200, 0, 0, 0), (4, 0, 8, 8))
    if mode == "RGBA":
        return colour
    if mode == "LA":
        return colour.convert("LA")
    assert mode == "P"
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    palette.paste(0, (4, 0, 8, 8))
    palette.info["transparency"] = 0
    return palette


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_transparent_pixels_are_white(mode, n_channels, tmp_path):
    half_clear(mode).save(tmp_path / "a.png")
    pixels = ImageFit(8, 8, n_channels).read(tmp_path / "a.png")
    assert (pixels[:, 4:] == 255).all() and pixels[0, 0, -1] in (0, 60)  # 60: the luma of (200, 0, 0)
    assert (ImageFit(8, 8, n_channels).apply(half_clear(mode)) == pixels).all()


def test_a_half_transparent_pixel_is_half_white():
    assert ImageFit(2, 2).apply(Image.new("RGBA", (2, 2), (0, 0, 0, 128)))[0, 0].tolist() == [127] * 3


def test_a_transparent_colour_of_a_png_without_alpha(tmp_path):
    grey = Image.new("L", (8, 8), 9)
    grey.paste(7, (4, 0, 8, 8))
    grey.save(tmp_path / "grey.png", transparency=7)
    assert ImageFit(8, 8, 1).read(tmp_path / "grey.png")[0, [0, 7], 0].tolist() == [9, 255]
    deep = np.full((8, 8), 0x1234, np.uint16)
    deep[:, 4:] = 0x1200  # the same upper byte: only the lower tells them apart
    Image.fromarray(deep).save(tmp_path / "deep.png", transparency=0x1200)
    assert ImageFit(8, 8, 1).read(tmp_path / "deep.png")[0, [0, 7], 0].tolist() == [0x12, 255]


def sixteen_bit_png(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits per channel, which Pillow does not write in colour."""
    import struct
    import zlib

    height, width, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("pixel", "wanted"),
    [
        ([0x1234], [0x12] * 3),
        ([0x12FF, 0xFFFF], [0x12] * 3),
        ([0x1234, 0x5678, 0x9ABC], [0x12, 0x56, 0x9A]),
        ([0x1234, 0x5678, 0x9ABC, 0xFFFF], [0x12, 0x56, 0x9A]),
        ([0x1234, 0x5678, 0x9ABC, 0], [255] * 3),
        ([0x1234, 0], [255] * 3),
    ],
)
def test_sixteen_bits_keep_the_upper_eight(pixel, wanted, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(sixteen_bit_png(np.full((4, 4, len(pixel)), pixel, np.uint16)))
    assert FIT.read(path)[0, 0].tolist() == wanted


def test_sixteen_bits_in_other_formats(tmp_path):
    Image.fromarray(np.full((4, 4), 0xABCD, np.uint16)).save(tmp_path / "a.tif")
    (tmp_path / "a.pgm").write_bytes(b"P5 4 4 65535\n" + b"\xab\xcd" * 16)
    (tmp_path / "dark.pgm").write_bytes(b"P5 4 4 65535\n" + b"\x00\x30" * 16)  # 48 of 65,535 is black
    (tmp_path / "twelve.pgm").write_bytes(b"P5 4 4 4095\n" + b"\x0f\xff" * 16)
    assert [FIT.read(tmp_path / name)[0, 0, 0] for name in ("a.tif", "a.pgm", "dark.pgm", "twelve.pgm")] == [
        0xAB,
        0xAB,
        0,
        255,
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ((0, 1), (0, 255)),
        ((0, 255), (0, 255)),
        ((17, 100), (17, 100)),
        ((256, 65535), (1, 255)),
        ((0, 0), (0, 0)),
    ],
)
def test_numbers_of_a_plain_range_are_scaled(dtype, values, wanted, tmp_path):
    pixels = np.empty((4, 4), dtype)
    pixels[:2], pixels[2:] = values
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    read = ImageFit(4, 4, 1).read(tmp_path / "a.tif")
    assert read[[0, 3], 0, 0].tolist() == list(wanted)


def test_fractions_lie_in_0_to_1(tmp_path):
    ramp = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    Image.fromarray(ramp).save(tmp_path / "a.tif")
    assert (ImageFit(4, 4, 1).read(tmp_path / "a.tif")[..., 0] == np.rint(ramp * 255)).all()


@pytest.mark.parametrize(
    "values",
    [
        (0, 1.5),
        (-1, 1),
        (-0.001, 0.5),
        (0.5, 200.25),
        (0, 65536),
        (0, 1e30),
        (0, np.nan),
        (0, np.inf),
        (-np.inf, 0),
    ],
)
def test_numbers_without_a_plain_range_are_refused(values, tmp_path):
    pixels = np.empty((4, 4), np.float32)
    pixels[:2], pixels[2:] = values
    Image.fromarray(pixels).save(tmp_path / "odd.tif")
    with pytest.raises(
        ValueError, match=r"odd\.tif: .*must lie in 0 to 1, or be whole numbers.*these go from"
    ):
        FIT.read(tmp_path / "odd.tif")


def test_negative_integers_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), -5, np.int32)).save(tmp_path / "odd.tif")
    with pytest.raises(ValueError, match="these go from -5 to -5"):
        FIT.read(tmp_path / "odd.tif")


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "CMYK", "YCbCr"])
def test_colour_spaces_become_grey_or_rgb(mode, tmp_path):
    image = Image.new("RGB", (8, 8), (250, 250, 250)).convert(mode)
    image.save(tmp_path / "a.tif")
    if mode in ("CMYK", "L", "RGB"):
        image.save(tmp_path / "a.jpg")
    for path in tmp_path.iterdir():
        for channels in (1, 3):
            assert ImageFit(4, 4, channels).read(path).min() >= 248


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_the_first_picture_of_several_counts(suffix, tmp_path):
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    pictures[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pictures[1:])
    pixel = FIT.read(tmp_path / f"a.{suffix}")[0, 0]
    assert pixel[0] > 240 and pixel[1:].max() < 15


@pytest.mark.parametrize("suffix", ["avif", "heic", "webp", "jp2"])
def test_newer_formats_where_this_machine_has_them(suffix, tmp_path):
    if f".{suffix}" not in image_suffixes():
        pytest.skip(f"this machine reads no .{suffix}")
    if suffix == "heic":
        import pillow_heif

        pillow_heif.from_pillow(Image.new("RGB", (64, 64), (200, 30, 30))).save(tmp_path / "a.heic")
    else:
        Image.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / f"a.{suffix}")
    for data in (tmp_path / f"a.{suffix}", io.BytesIO((tmp_path / f"a.{suffix}").read_bytes())):
        pixels, grey = image_fit.decode(data, FIT, "a")
        assert np.abs(pixels[0, 0].astype(int) - [200, 30, 30]).max() <= 12 and not grey


def test_what_is_read_follows_what_is_installed(monkeypatch):
    assert image_suffixes() == IMAGE_SUFFIXES == tuple(sorted(IMAGE_SUFFIXES))
    assert (".avif" in IMAGE_SUFFIXES) == features.check("avif")
    monkeypatch.setattr(image_fit.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(image_fit.features, "check", lambda name: False)
    bare = image_suffixes()
    assert not {".heic", ".avif", ".webp", ".jp2"} & set(bare) and {".jpg", ".png", ".tif"} <= set(bare)


def test_an_image_that_could_be_a_bomb_is_refused(monkeypatch, tmp_path):
    Image.new("L", (100, 60)).save(tmp_path / "large.png")
    for limit in (5_000, 2_000):  # Pillow itself warns of the first and refuses the second
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.warns() if limit == 5_000 else nothing():
            with pytest.raises(ValueError, match=rf"large\.png: .* {limit:,} pixels.*MAX_IMAGE_PIXELS"):
                FIT.read(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6_000)
    assert FIT.read(tmp_path / "large.png").shape == (4, 4, 3)


def nothing():
    import contextlib

    return contextlib.nullcontext()


def test_what_is_wrong_with_a_file_is_said(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("<html>")
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)).save(whole, "jpeg")
    (tmp_path / "cut.jpg").write_bytes(whole.getvalue()[:-1500])
    for name, reason in (
        ("empty.png", "the file is empty"),
        ("text.jpg", "no image format"),
        ("cut.jpg", "truncated"),
        ("gone.jpg", "No such file"),
    ):
        with pytest.raises(ValueError, match=rf"{name}: not a readable image \(.*{reason}"):
            FIT.read(tmp_path / name)


def test_interpolation_is_pillows(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for name, method in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
        wanted = np.asarray(Image.fromarray(pixels).resize((16, 16), method))
        assert (ImageFit(16, 16, 3, name).read(tmp_path / "a.png") == wanted).all()
        read = read_images([tmp_path / "a.png"], image_size=16, interpolation=name)
        assert (read[0] == wanted).all()


def test_a_large_jpeg_is_decoded_small_and_right(tmp_path):
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (8, 8, 3), np.uint8), np.ones((100, 100, 1), np.uint8))
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        whole = ImageFit(8, 8).apply(image).astype(int)
    assert np.abs(ImageFit(8, 8).read(tmp_path / "a.jpg").astype(int) - whole).max() <= 8


@pytest.mark.parametrize(("tag", "value", "message"), [(262, 0, "got 0 for white"), (258, 12, "got 12 bits")])
def test_tiffs_whose_numbers_mean_something_else_are_refused(tag, value, message, tmp_path):
    image = Image.fromarray(np.full((4, 4), 60_000, np.uint16))
    image.save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as opened:
        opened.load()
        opened.tag_v2[tag] = value
        with pytest.raises(ValueError, match=f"must have 16 and 0 for black, {message}"):
            FIT.apply(opened)


def test_a_turned_image_keeps_its_format():
    image = Image.new("I", (4, 4), 200)
    image.format, image.getexif()[0x112] = "PNG", 6
    assert FIT.apply(image)[0, 0, 0] == 0  # of 65,535


def test_what_else_may_be_asked_of_a_file() -> None:
    """A number of pixels, looked at before they are decoded, and formats, of which this Pillow may lack some."""
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20)).save(buffer, format="PNG")
    fit = ImageFit(4, 4)

    def read(**asked: Any) -> Any:
        return decode(io.BytesIO(buffer.getvalue()), fit, "a", **asked)[0]

    assert read(most_pixels=600, formats=("JPEG", "PNG", "NO-SUCH-FORMAT")).shape == (4, 4, 3)
    with pytest.raises(ValueError, match="must have at most 599 pixels, got 30 x 20"):
        read(most_pixels=599)
    with pytest.raises(ValueError, match="no image format"):
        read(formats=("JPEG", "NO-SUCH-FORMAT"))
