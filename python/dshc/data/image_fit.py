"""How one image becomes an array: which files are read, which way is up, what values mean, which part is kept.

Every image of the program comes through :meth:`ImageFit.apply`: those of a training folder, of a query on the
command line, of a picture handed to ``Hasher.encode``. What cannot be read faithfully is refused by name.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageOps, features

from ..errors import InputError, one_of

__all__ = [
    "HEIF_SUFFIXES",
    "IMAGE_SUFFIXES",
    "ImageFit",
    "decode",
    "image_suffixes",
    "is_grey",
    "known_formats",
    "printable",
]

HEIF_SUFFIXES = (".heic", ".heif", ".hif")
_ALWAYS = (
    ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff",
)  # fmt: skip
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF 2.32, section 4.6.4.A: what undoes each orientation
_heif_lock = threading.Lock()
_heif_registered = False


def image_suffixes() -> tuple[str, ...]:
    """The suffixes of image files that this machine can decode, in lower case, sorted.

    WebP, AVIF and JPEG 2000 where Pillow was built with them, HEIC where its plugin ``pillow-heif`` is installed.
    """
    found = set(_ALWAYS)
    if features.check("webp"):
        found.add(".webp")
    if "avif" in features.modules and features.check("avif"):  # Pillow before 11.3 does not know the name
        found |= {".avif", ".avifs"}
    if features.check("jpg_2000"):
        found |= {".jp2", ".j2k"}
    if importlib.util.find_spec("pillow_heif") is not None:
        found |= set(HEIF_SUFFIXES)
    return tuple(sorted(found))


IMAGE_SUFFIXES = image_suffixes()


@dataclass(frozen=True)
class ImageFit:
    """How an image becomes an array: size, channels, interpolation.

    Fields:

    * ``height``, ``width``: 1 to 4096 pixels.
    * ``n_channels``: 1 grey (ITU-R 601 luma), 3 RGB.
    * ``interpolation``: ``"bilinear"`` or ``"bicubic"``, both averaging where an image shrinks (Pillow's).

    Raises :class:`InputError` naming the field.
    """

    height: int
    width: int
    n_channels: int = 3
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            side = getattr(self, name)
            if type(side) is not int or not 1 <= side <= 4096:
                raise InputError(f"{name} must be a number of pixels from 1 to 4096, got {side!r}")
        if self.n_channels not in (1, 3):
            raise InputError(f"n_channels must be 1 (grey) or 3 (RGB), got {self.n_channels!r}")
        if self.interpolation not in _RESAMPLING:
            raise one_of("interpolation", self.interpolation, _RESAMPLING)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(height, width, n_channels)``, the shape of every array."""
        return self.height, self.width, self.n_channels

    def apply(self, image: Image.Image) -> np.ndarray:
        """An opened image as uint8 ``(height, width, n_channels)``.

        It is turned upright (EXIF), transparent parts become white, the largest centred part of the wanted
        proportions is kept and resized. 16 bits per channel keep the upper 8. Numbers without a range of their
        own (float and 32-bit integer TIFF) are scaled where their range is plain: 0 to 1; whole numbers up to
        255; whole numbers up to 65,535. Raises ``ValueError`` for any others, and for damaged images.
        """
        image.load()  # a TIFF is turned upright by this, and says so only afterwards
        turn = _TURNS.get(_orientation(image))
        eight = _eight_bits(image)  # of the image as it was opened, which knows its format
        upright = eight if turn is None else _with_info(eight.transpose(turn), eight)
        pixels = _on_white(upright, "L" if self.n_channels == 1 else "RGB")
        fitted = ImageOps.fit(pixels, (self.width, self.height), _RESAMPLING[self.interpolation])
        return np.asarray(fitted).reshape(self.shape)

    def read(self, path: str | os.PathLike[str]) -> np.ndarray:
        """The image in a file, as :meth:`apply` brings it to size. Raises ``ValueError`` naming the file."""
        return decode(Path(path), self, str(path))[0]


def is_grey(image: Image.Image) -> bool:
    """Whether an opened image is stored as grey levels; nothing is decoded."""
    return image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")


def decode(
    source: str | os.PathLike[str] | BinaryIO,
    fit: ImageFit | None,
    name: str,
    *,
    most_pixels: int | None = None,
    formats: Sequence[str] | None = None,
) -> tuple[np.ndarray | None, bool]:
    """An image file brought to size, uint8 ``(h, w, c)``, and whether it is grey; without ``fit`` only the latter.

    ``source``: a path or the opened bytes. ``most_pixels``: images of more are refused before they are decoded, as
    those are that Pillow refuses. ``formats``: Pillow's names of the formats that are read; None: all. Raises
    ``ValueError`` that names the image by ``name``.
    """
    try:
        if isinstance(source, (str, os.PathLike)):
            refuse_special(source)
        _register_heif(source)
        with Image.open(source, formats=known_formats(formats)) as image:
            _check_size(image)
            if most_pixels is not None and image.width * image.height > most_pixels:
                raise ValueError(
                    f"must have at most {most_pixels:,} pixels, got {image.width} x {image.height}"
                )
            grey = is_grey(image)
            if fit is None:
                return None, grey
            # A JPEG can be decoded at a fraction of its size; twice the target leaves the resize something to
            # average.
            image.draft(None, (2 * max(fit.height, fit.width),) * 2)
            return fit.apply(image), grey
    except Exception as error:  # on damaged bytes Pillow's decoders raise nearly anything
        raise ValueError(f"{printable(name)}: not a readable image ({_reason(source, error)})") from None


def refuse_special(path: str | os.PathLike[str]) -> None:
    """``OSError`` for what is there and no file: a pipe would be waited for."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EINVAL, "must be a file, got a folder, pipe or device")


def known_formats(formats: Sequence[str] | None) -> list[str] | None:
    """Those of the formats that this Pillow has."""
    if formats is None:
        return None
    Image.init()
    return [name for name in formats if name in Image.OPEN]


def printable(name: str | os.PathLike[str]) -> str:
    """A file name as text that UTF-8 can hold: bytes that are no UTF-8 stand as ``\\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _reason(source: str | os.PathLike[str] | BinaryIO, error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        size = source.seek(0, os.SEEK_END) if not isinstance(source, (str, os.PathLike)) else None
        with suppress(OSError):
            size = os.stat(source).st_size if size is None else size
        return "the file is empty" if size == 0 else "no image format that Pillow reads"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"more than {Image.MAX_IMAGE_PIXELS:,} pixels, {_BOMB}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


_BOMB = "the limit that guards against decompression bombs (PIL.Image.MAX_IMAGE_PIXELS)"


def _check_size(image: Image.Image) -> None:
    """Refuse what Pillow would warn of, and only refuse at twice the size."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise ValueError(f"must have at most {limit:,} pixels, {_BOMB}, got {image.width} x {image.height}")


def _register_heif(source: str | os.PathLike[str] | BinaryIO) -> None:
    """Teach Pillow HEIC when the first such file comes: importing the plugin takes a while."""
    global _heif_registered
    if _heif_registered:
        return
    if isinstance(source, (str, os.PathLike)):
        asked = os.path.splitext(os.fsdecode(source))[1].lower() in HEIF_SUFFIXES
    else:
        asked = source.read(12)[4:8] == b"ftyp"  # ISO 14496-12: the box that opens HEIC and AVIF files
        source.seek(0)
    if not asked or importlib.util.find_spec("pillow_heif") is None:
        return
    with _heif_lock:
        if not _heif_registered:
            import pillow_heif

            pillow_heif.register_heif_opener()
            _heif_registered = True


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return 1


def _with_info(image: Image.Image, origin: Image.Image) -> Image.Image:
    if "transparency" in origin.info:
        image.info["transparency"] = origin.info["transparency"]
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """An image of 8 bits per channel (or 1); grey of more bits becomes ``L`` or, with transparency, ``LA``."""
    _check_tiff(image)
    deep = image.mode.startswith("I;16")
    if not deep and image.mode not in ("I", "F"):
        return image
    values = np.asarray(image)
    grey = Image.fromarray((values >> 8).astype(np.uint8) if deep else _scaled(values, image.format))
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return grey
    alpha = Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha))


_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF 6.0


def _check_tiff(image: Image.Image) -> None:
    """Refuse grey of more than 8 bits whose numbers Pillow hands out as they are, though they mean something else."""
    tags = getattr(image, "tag_v2", None)
    if tags is None or not image.mode.startswith("I;16"):
        return
    bits = tags.get(_BITS_PER_SAMPLE, (16,))
    bits = bits[0] if isinstance(bits, tuple) else bits
    if bits != 16 or tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        what = f"{bits} bits" if bits != 16 else "0 for white"
        raise ValueError(
            f"grey TIFF of more than 8 bits must have 16 and 0 for black, got {what}; store it as PNG"
        )


def _scaled(values: np.ndarray, file_format: str | None) -> np.ndarray:
    """float32 or int32 values as uint8 where their range is plain; ``ValueError`` elsewhere."""
    if file_format in ("PPM", "PNG") and values.dtype.kind == "i":  # 0 to 65,535 by their own definition
        return (values >> 8).astype(np.uint8)
    low, high = float(values.min()), float(values.max())
    whole: Callable[[], bool] = lambda: bool((values == np.rint(values)).all())  # noqa: E731
    if low >= 0 and high <= 1:
        return np.rint(values * 255.0).astype(np.uint8)
    if low >= 0 and high <= 65535 and whole():
        return (values if high <= 255 else values.astype(np.int32) >> 8).astype(np.uint8)
    raise ValueError(
        "numbers without a range of their own must lie in 0 to 1, or be whole numbers in 0 to 255 or 0 to 65,535; "
        f"these go from {low:g} to {high:g}; store the image with 8 or 16 bits"
    )


def _on_white(image: Image.Image, mode: str) -> Image.Image:
    """In mode ``L`` or ``RGB``, what is transparent blended with white."""
    if not image.has_transparency_data:
        return image.convert(mode)
    clear = image.info.get("transparency")
    if isinstance(clear, tuple) and max(clear) > 255:  # the colour in 16 bits of a PNG that was read in 8
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    if image.mode in ("La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    layers = image.convert("RGBA")
    ground = Image.new("RGBA", layers.size, (255, 255, 255, 255))
    return Image.alpha_composite(ground, layers).convert(mode)
