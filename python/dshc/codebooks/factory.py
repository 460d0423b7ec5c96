"""Codebooks by name, and the code length where none is given."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from .balls import MAX_SUBCLASSES, is_whole
from .book import MAX_BITS, Codebook
from .cpbc import cpbc
from .kbc import MAX_KBC_BITS, kbc
from .planner import plan
from .separated import DEFAULT_STEPS, separated
from .whole import whole

__all__ = ["build", "constructions", "default_bits", "is_short"]

MAX_DEFAULT_OUTPUTS = 100_000


def build(
    construction: str,
    n_classes: int,
    n_bits: int,
    *,
    seed: int = 0,
    threshold: int = 3,
    radius: int = 1,
    sub_codes: int | Sequence[int] | None = None,
    search_steps: int = DEFAULT_STEPS,
    lengths: Sequence[int] = (),
) -> Codebook:
    """A codebook for ``n_classes`` classes of ``n_bits`` bits; the same for the same arguments, everywhere.

    ``construction`` lays out the centers:

    * ``"cpbc"``: C*H bits with H = floor(n_bits / C), the rest constant 0. Warns (``UserWarning``) where classes
      share codes (H = 1) or cannot separate (H < 3).
    * ``"kbc"``: by k-means, drawn by ``seed``. A sub-code closer than ``threshold`` to the center of another class
      is dropped; a draw that leaves a class without a code is drawn again.
    * ``"separated"``: as far apart as known codes go, and where these miss the upper bound by a search of
      ``search_steps`` steps, drawn by ``seed``. Warns where sub-codes of different classes still come as near as
      those of one.

    The sub-codes of a class are the codes within ``radius`` of its center (0: the center alone; the paper's 1: the
    center and its single flips), at most ``sub_codes`` of them, the nearest first, then by the bits flipped; a
    sequence gives every class its own number. cpbc flips no constant bit. Warns where several classes own one code.

    ``lengths``, rising and below ``n_bits``: the first so many bits of separated centers are far apart too, which
    costs some distance in the end (:func:`dshc.codebooks.nested.nested_centers`, whose search has steps of its own).

    Raises ``ValueError`` where the construction cannot exist: cpbc with fewer bits than classes, kbc (which
    enumerates all 2^n_bits codes) with more than 20 bits, more classes than codes, or no usable draw among
    1000, and where there are more than 2^27 sub-codes.

    Source: cpbc, kbc and the sub-codes: Luo et al., section 3.2; the filter of kbc, which the paper names but does
    not define, is the reading that meets its count of sub-classes. separated: coding theory, see
    :mod:`dshc.codebooks.separated` and the modules it names.

    >>> book = build("cpbc", 10, 30)
    >>> book.n_subclasses, book.n_distinct, book.collisions, book.min_between
    (310, 310, 0, 4)
    >>> book = build("separated", 10, 10)
    >>> book.n_subclasses, book.collisions, book.center_distance, book.min_between
    (110, 0, 5, 3)
    """
    if construction not in constructions():
        raise ValueError(f"construction must be one of {', '.join(constructions())}, got {construction!r}")
    n_classes, n_bits = whole("n_classes", n_classes, 1), whole("n_bits", n_bits, 1)
    if n_bits > MAX_BITS:
        raise ValueError(f"n_bits must be between 1 and {MAX_BITS}, got {n_bits}")
    if n_classes > MAX_SUBCLASSES:
        raise ValueError(f"n_classes must be at most {MAX_SUBCLASSES:,}, got {n_classes:,}")
    seed, threshold = whole("seed", seed, 0), whole("threshold", threshold, 0)
    radius, search_steps = whole("radius", radius, 0), whole("search_steps", search_steps, 0)
    if radius > n_bits:
        raise ValueError(f"radius must be between 0 and {n_bits} (n_bits), got {radius}")
    options = {"seed": seed, "threshold": threshold, "radius": radius, "sub_codes": sub_codes}
    options["search_steps"] = search_steps
    if np.size(lengths) and construction != "separated":
        raise ValueError(f"construction must be 'separated' where lengths are nested, got {construction!r}")
    if not isinstance(lengths, (Sequence, np.ndarray)):
        raise TypeError(f"lengths must be whole numbers, got {lengths!r}")
    options["lengths"] = tuple(lengths)
    make, own = _CONSTRUCTIONS[construction]
    book = make(n_classes, n_bits, **{name: options[name] for name in own})
    # Of whole balls the construction warns, which knows how many bits would do.
    flipped = n_bits // n_classes * n_classes if construction == "cpbc" else n_bits
    limited = sub_codes is not None and not is_whole(n_bits, radius, sub_codes, flipped)
    if limited and book.n_subclasses <= _LOOKED_AT and book.collisions:
        warnings.warn(
            f"{construction} with {n_bits} bits, {n_classes} classes and at most {np.max(sub_codes)} sub-codes a class "
            f"has {book.collisions} codes that several classes own; pass more bits or fewer sub-codes",
            UserWarning,
            stacklevel=2,
        )
    return book


_LOOKED_AT = 1 << 20  # sub-codes whose owners are compared at once

# Each construction with its options.
_CONSTRUCTIONS: dict[str, tuple[Callable[..., Codebook], tuple[str, ...]]] = {
    "cpbc": (cpbc, ("radius", "sub_codes")),
    "kbc": (kbc, ("seed", "threshold", "radius", "sub_codes")),
    "separated": (separated, ("seed", "radius", "sub_codes", "search_steps", "lengths")),
}


def constructions() -> tuple[str, ...]:
    """The names that :func:`build` knows."""
    return tuple(_CONSTRUCTIONS)


def default_bits(n_classes: int, construction: str = "cpbc", radius: int = 1) -> int:
    """The code length where none is asked for.

    separated: the least by which known codes keep centers 4 radii and 1 apart (5 at least), so that sub-codes of
    different classes are further apart than those of one. Else 3 bits per class, by which cpbc separates the classes.

    Raises ``ValueError`` where the latter makes more than 100,000 outputs: cpbc's grow with the square of the
    classes, so that so large a head is made only where it is asked for.

    >>> default_bits(10), default_bits(10, "separated"), default_bits(1000, "separated")
    (30, 10, 19)
    """
    if construction not in constructions():
        raise ValueError(f"construction must be one of {', '.join(constructions())}, got {construction!r}")
    n_classes, radius = whole("n_classes", n_classes, 1), whole("radius", radius, 0)
    if construction == "separated":
        n_bits = max(1, (n_classes - 1).bit_length())
        while (
            n_classes > 1 and n_bits < MAX_BITS and plan(n_classes, n_bits).distance < 4 * max(radius, 1) + 1
        ):
            n_bits += 1
        return n_bits
    n_bits = 3 * n_classes
    if n_classes * (n_bits + 1) > MAX_DEFAULT_OUTPUTS:
        raise ValueError(
            f"bits must be given for {n_classes} classes: the default, 3 bits per class, is {n_bits} bits, which make "
            f"{n_classes * (n_bits + 1):,} outputs; pass --bits {n_bits} for that, --bits {n_classes} "
            f"for the shortest cpbc code ({n_classes * (n_classes + 1):,} outputs), --construction separated for any "
            f"length, or --construction kbc with --bits up to {MAX_KBC_BITS}"
        )
    return n_bits


def is_short(n_classes: int, n_bits: int | None) -> bool:
    """Whether cpbc would give a class fewer than 3 bits; for None, whether 3 make more outputs than a default may.

    >>> is_short(21, 32), is_short(10, 30), is_short(10, None), is_short(1000, None)
    (True, False, False, True)
    """
    if n_bits is not None:
        return n_bits < 3 * n_classes
    return n_classes * (3 * n_classes + 1) > MAX_DEFAULT_OUTPUTS
