"""``dshc codebook``: build a codebook, show how well it separates the classes, save and draw it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dshc_fast

from ..codebooks import Codebook, build
from ..errors import InputError
from ..runs.run_folder import is_run_file
from ..storage import check_can_write, write_whole
from .console import remark, say, table, working

__all__ = ["properties", "run_codebook"]


def run_codebook(
    construction: str,
    n_classes: int,
    n_bits: int,
    settings: Mapping[str, Any],
    *,
    out: Path | None,
    codes: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Build, describe and (with ``out``) save and draw a codebook; what is there is kept unless ``overwrite`` asks."""
    if out is not None:
        _check_out(out, overwrite)
    with working(f"{construction}: {n_classes} classes, {n_bits} bits"):
        book = build(construction, n_classes, n_bits, **settings)
        rows = properties(book)
    if as_json:
        told = {key: value for key, _, value in rows}
        say(json.dumps({**told, **({"center_codes": _centers(book)} if codes else {})}))
    else:
        say(f"{construction}: {n_classes} classes, {n_bits} bits", style="bold")
        shown = [(text, _shown(value)) for _, text, value in rows]
        table("", ("property", "value"), shown, numeric="lr")
    if codes and not as_json:
        _show_codes(book)
    if out is not None:
        tell = remark if as_json else say  # JSON stands alone
        book.save(out)
        tell(f"codebook: {out}")
        if (picture := _draw(book, out.with_suffix(".png"))) is not None:
            tell(f"distances: {picture}")


def _check_out(out: Path, overwrite: bool) -> None:
    """Refuse what is no place for a codebook and its picture."""
    if out.suffix != ".safetensors":
        raise InputError(f"--out must name a .safetensors file, got {out}")
    if is_run_file(out):
        raise InputError(f"--out must not be one of a run's own files, got {out}")
    there = [path for path in (out, out.with_suffix(".png")) if path.exists()]
    if there and not overwrite:
        raise InputError(f"{there[0]}: exists; --overwrite replaces it")
    if out.exists():
        try:
            Codebook.load(out)
        except ValueError:  # embeddings and weights end in .safetensors, too
            raise InputError(
                f"--out must name a new file or a codebook, {out} is neither, and is left as it is"
            ) from None
    elif there:
        raise InputError(f"--out must name a file without a picture of that name beside it, got {there[0]}")
    check_can_write(out)


def properties(book: Codebook) -> list[tuple[str, str, object]]:
    """What is told of a codebook: (key in JSON, text, value)."""
    sizes = book.class_offsets[1:] - book.class_offsets[:-1]
    bound, bound_by = book.distance_bound
    return [
        ("n_subclasses", "sub-classes", book.n_subclasses),
        ("least_sub_codes", "fewest sub-classes of a class", int(sizes.min())),
        ("most_sub_codes", "most sub-classes of a class", int(sizes.max())),
        ("n_distinct", "different codes", book.n_distinct),
        ("collisions", "codes owned by more than one class", book.collisions),
        ("min_within", "least distance within a class", book.min_within),
        ("mean_within", "mean distance within a class", book.mean_within),
        ("min_between", "least distance between classes", book.min_between),
        ("mean_between", "mean distance between classes", book.mean_between),
        ("center_distance", "least distance between centers", book.center_distance),
        ("distance_bound", "upper bound on it, any codes", bound),
        ("distance_bound_by", "bound", bound_by),
        ("objective", "objective, D_intra - D_inter", book.objective),
        ("origin", "centers", book.origin),
    ]


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _show_codes(book: Codebook) -> None:
    """The center of every class, bit 0 first."""
    sizes = book.class_offsets[1:] - book.class_offsets[:-1]
    rows = [(c, sizes[c], center) for c, center in enumerate(_centers(book))]
    table("", ("class", "sub-classes", "center, bit 0 first"), rows, numeric="rrl")


def _centers(book: Codebook) -> list[str]:
    """The centers as words of 0 and 1, bit 0 first."""
    bits = dshc_fast.unpack_codes(book.centers, book.n_bits)
    return ["".join(map(str, row.tolist())) for row in bits]


def _draw(book: Codebook, path: Path) -> Path | None:
    """The picture of its distances; None where nothing draws it."""
    try:
        from ..report.codebook_plot import distance_matrix
    except ImportError:
        remark("dshc: no picture of the distances, matplotlib is not installed")
        return None
    return write_whole(path, distance_matrix(book))
