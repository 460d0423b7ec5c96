"""How often a slightly other view of an image gets the image's own code, by how many codes are averaged.

Luo et al. average the codes of the K likeliest sub-classes so that they are stable, and print no figure of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..methods import DSHC
from ..runs import Run
from .page import Table

__all__ = ["VIEWS", "measured_stability", "stability_table"]

N_IMAGES = 2000
_MOVE, _NOISE = 2, 8  # pixels; standard deviation of 255 grey values

Images = np.ndarray  # uint8 (n, h, w, c)


def _mirrored(images: Images) -> Images:
    return images[:, :, ::-1]


def _moved(images: Images) -> Images:
    """Down and to the right, what comes in being the mirror image of what lies there."""
    border = ((0, 0), (_MOVE, 0), (_MOVE, 0), (0, 0))
    return np.pad(images, border, mode="reflect")[:, :-_MOVE, :-_MOVE]


def _noisy(images: Images) -> Images:
    noise = np.random.default_rng(0).normal(0, _NOISE, images.shape)
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)


VIEWS: dict[str, Callable[[Images], Images]] = {
    "mirrored": _mirrored,
    f"moved by {_MOVE} pixels": _moved,
    f"noise, deviation {_NOISE} of 255": _noisy,
}


def measured_stability(run: Run, ks: Sequence[int], n: int = N_IMAGES) -> dict[str, Any]:
    """For every view and K (0: the center of the likeliest class), the share of images whose view has their code.

    And how many bits differ on average. Of up to ``n`` query images, evenly over their list; every view is encoded by
    itself, not with its mirror image.
    """
    method, split = run.hasher.method, run.split
    if not isinstance(method, DSHC) or run.hasher.kind != "images":
        raise ValueError(f"run must be of DSHC and of images, got {method.name} and {run.hasher.kind}")
    picked = np.linspace(0, len(split.query) - 1, min(n, len(split.query))).round().astype(np.int64)
    images = np.asarray(run.dataset.inputs[split.query[picked]])
    found: dict[str, Any] = {}
    with _each_by_itself(run):
        own = _codes(run, images, ks)
        for name, view in VIEWS.items():
            others = _codes(run, np.ascontiguousarray(view(images)), ks)
            found[name] = {}
            for k in ks:
                differ = np.unpackbits(own[k] ^ others[k], axis=1).sum(axis=1)
                found[name][str(k)] = {"same": float((differ == 0).mean()), "bits": float(differ.mean())}
    return {"images": len(images), "views": found}


@contextmanager
def _each_by_itself(run: Run) -> Iterator[None]:
    hasher = run.hasher
    before, settings = hasher.encoder_settings, hasher.method.settings
    hasher.encoder_settings = before.replaced(average_flips=False)
    try:
        yield
    finally:
        hasher.encoder_settings, hasher.method.settings = before, settings


def _codes(run: Run, images: Images, ks: Sequence[int]) -> dict[int, np.ndarray]:
    """Codes by every K."""
    method = run.hasher.method
    outputs, settings = run.hasher.outputs(images), method.settings
    codes = {}
    for k in ks:
        method.settings = settings.replaced(topk=k)
        codes[k] = method.encode(outputs).cpu().numpy()
    method.settings = settings
    return codes


def stability_table(found: Sequence[Mapping[str, Any]], ks: Sequence[int]) -> Table:
    """A row for every codebook and view: its share of equal codes by K."""
    rows = []
    for one in found:
        for name, by_k in one["stability"]["views"].items():
            cells = [f"{by_k[str(k)]['same']:.4f}" for k in ks]
            bits = [f"{by_k[str(k)]['bits']:.2f}" for k in (1, 3)]
            rows.append([one["construction"], str(one["bits"]), name, *cells, *bits])
    columns = ["codes", "bits", "view", *(f"K = {k}" if k else "centers" for k in ks),
               "bits, K = 1", "bits, K = 3"]  # fmt: skip
    about = (
        "The share of query images whose view has the image's own code, and the bits that differ on average. The paper "
        "averages K codes for stability, and prints no figure."
    )
    return Table("Stability", columns, rows, about)
