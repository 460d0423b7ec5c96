"""The distances of a codebook as a picture: classes show as blocks on the diagonal, what separates them around."""

from __future__ import annotations

import dshc_fast

from ..codebooks import Codebook
from .plots import LIGHT, new_figure, png

__all__ = ["distance_matrix"]

MAX_SIDE = 1024
"""Most rows of the matrix: what a picture can show, and 4 MiB of distances."""


def distance_matrix(book: Codebook) -> bytes:
    """The Hamming distances between all sub-codes, class by class, as PNG bytes; between the centers, the first 1024
    of them, where there are more than 1024 sub-codes.
    """
    codes, of = book.codes, "sub-codes, class by class"
    if len(codes) > MAX_SIDE:
        codes = book.centers[:MAX_SIDE]
        of = (
            "centers"
            if len(codes) == book.n_classes
            else f"centers, the first {MAX_SIDE} of {book.n_classes}"
        )
    distances = dshc_fast.hamming_distance(codes, codes)
    figure = new_figure((5.4, 4.8), LIGHT)
    axes = figure.add_subplot()
    image = axes.imshow(distances, cmap="viridis", vmin=0, interpolation="nearest")
    axes.set_title(
        f"{book.construction}: {book.n_classes} classes, {book.n_bits} bits", color=LIGHT.ink, fontsize=10
    )
    axes.set_xlabel(of, color=LIGHT.muted)
    axes.tick_params(colors=LIGHT.muted, labelsize=9, length=0)
    if codes is book.codes and 1 < book.n_classes <= 40:
        for offset in book.class_offsets[1:-1]:
            axes.axhline(offset - 0.5, color=LIGHT.paper, linewidth=0.5)
            axes.axvline(offset - 0.5, color=LIGHT.paper, linewidth=0.5)
    figure.colorbar(image, ax=axes, shrink=0.85).set_label("Hamming distance", color=LIGHT.muted)
    return png(figure)
