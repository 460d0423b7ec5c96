"""``dshc codebook``: build a codebook, show how well it separates the classes, save it."""

from __future__ import annotations

import json
from pathlib import Path

import dshc_fast

from ..codebooks import Codebook, build
from .console import say, table

__all__ = ["run_codebook"]


def run_codebook(
    construction: str,
    n_classes: int,
    n_bits: int,
    *,
    seed: int,
    threshold: int,
    out: Path | None,
    codes: bool,
    as_json: bool,
) -> None:
    """Build, describe and (with ``out``) save a codebook."""
    if out is not None and out.suffix != ".safetensors":
        raise ValueError(f"--out must name a .safetensors file, got {out}")
    book = build(construction, n_classes, n_bits, seed=seed, threshold=threshold)
    if as_json:
        say(json.dumps({key: value for key, _, value in _properties(book)}))
    else:
        say(f"{construction}: {n_classes} classes, {n_bits} bits", style="bold")
        table(
            "",
            ("property", "value"),
            [(text, _shown(value)) for _, text, value in _properties(book)],
            numeric="lr",
        )
    if codes:
        _show_codes(book)
    if out is not None:
        book.save(out)
        say(f"codebook: {out}")


def _properties(book: Codebook) -> list[tuple[str, str, object]]:
    return [
        ("n_subclasses", "sub-classes", book.n_subclasses),
        ("n_distinct", "different codes", book.n_distinct),
        ("collisions", "codes owned by more than one class", book.collisions),
        ("min_within", "least distance within a class", book.min_within),
        ("mean_within", "mean distance within a class", book.mean_within),
        ("min_between", "least distance between classes", book.min_between),
        ("mean_between", "mean distance between classes", book.mean_between),
    ]


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _show_codes(book: Codebook) -> None:
    """The center of every class, bit 0 first."""
    bits = dshc_fast.unpack_codes(book.centers, book.n_bits)
    sizes = book.class_offsets[1:] - book.class_offsets[:-1]
    rows = [(c, sizes[c], "".join(map(str, row.tolist()))) for c, row in enumerate(bits)]
    table("", ("class", "sub-classes", "center, bit 0 first"), rows, numeric="rrl")
