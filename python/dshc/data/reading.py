"""What was read of a folder or list, and what was left out: said in one line, never in silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .image_fit import HEIF_SUFFIXES, IMAGE_SUFFIXES

__all__ = ["VALIDATION_NAMES", "Reading", "read_for_training"]

VALIDATION_NAMES = ("val", "valid", "validation")  # what people call a part of a set, in any case
_SHOWN_SUFFIXES = 6


@dataclass(frozen=True)
class Reading:
    """Counts of what was read and of what was not; hidden files (``.name``) are in none of them.

    Fields:

    * ``n_read``: images of the set.
    * ``skipped``: files that are no images here, by suffix in lower case (``""``: none).
    * ``loose``: images beside the class folders, which have no class.
    * ``dangling``: links to nothing. ``repeated``: links to folders that were read before.
    * ``closed``: folders that could not be opened. ``special``: pipes, sockets and devices.
    * ``unreadable``: images that could not be decoded. ``missing``: files of a list that are not there. Both are
      left out only where ``skip_unreadable`` says so.
    * ``notes``: what else was done to the set, a sentence each. ``what``: what one item is.
    """

    n_read: int
    skipped: Mapping[str, int] = field(default_factory=dict)
    loose: int = 0
    dangling: int = 0
    repeated: int = 0
    closed: int = 0
    special: int = 0
    unreadable: int = 0
    missing: int = 0
    notes: tuple[str, ...] = ()
    what: str = "image"

    @property
    def n_skipped(self) -> int:
        """Files that are no images here."""
        return sum(self.skipped.values())

    @property
    def complete(self) -> bool:
        """Whether nothing was left out."""
        return self == Reading(self.n_read, what=self.what)

    def line(self) -> str:
        """One line to print.

        >>> Reading(300, {".heic": 20, ".avif": 10}, loose=1).line()
        '300 images read, 30 files skipped: 20 .heic, 10 .avif; 1 image beside the class folders left out'
        """
        parts = [_count(self.n_read, self.what) + " read"]
        if self.skipped:
            parts[0] += f", {_count(self.n_skipped, 'file')} skipped: {_by_suffix(self.skipped)}"
        for count, one, text in (
            (self.loose, "image", "beside the class folders left out"),
            (self.unreadable, "unreadable image", "left out"),
            (self.missing, "file", "of the list missing"),
            (self.dangling, "link", "to nothing"),
            (self.repeated, "link", "to folders already read"),
            (self.closed, "folder", "that may not be opened"),
            (self.special, "pipe or device", "left out"),
        ):
            if count:
                parts.append(f"{_count(count, one)} {text}")
        if any(self.skipped.get(suffix) for suffix in HEIF_SUFFIXES if suffix not in IMAGE_SUFFIXES):
            parts.append("pip install pillow-heif to read HEIC")
        return "; ".join([*parts, *self.notes])


def read_for_training(part: str) -> str:
    """The note on validation items that stand beside training and test items.

    >>> read_for_training("val")
    'val is read for training (validation is cut from all training items)'
    """
    return f"{part} is read for training (validation is cut from all training items)"


def _count(n: int, what: str) -> str:
    if n == 1:
        return f"1 {what}"
    plural = "pipes or devices" if what == "pipe or device" else f"{what}s"
    return f"{n:,} {plural}"


def _by_suffix(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = [f"{n:,} {suffix or 'without a suffix'}" for suffix, n in ordered[:_SHOWN_SUFFIXES]]
    if rest := len(ordered) - len(shown):
        shown.append(f"{rest} more kinds")
    return ", ".join(shown)
