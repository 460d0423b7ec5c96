"""What table 3 would be if a network's choice among the sub-classes of a class said nothing at all.

With K = 1 an item's code is that of one sub-class. Drawn at random, the class being right as often as it was measured,
the codes alone decide what a length is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..codebooks import Codebook
from ..evaluation import Conventions, evaluate
from ..runs import Run
from ..storage import CodeFile
from .page import Table

__all__ = ["UNEVEN", "simulated_codes", "simulated_readings", "simulation_table"]

# Sub-classes drawn with probabilities as exp(UNEVEN * z), z normal: then recall at distance 0 is 0.024 at 60 bits of
# CPBC, as in figure 3 of the paper, where even draws have 1/61 = 0.016.
UNEVEN = 0.7


def simulated_codes(
    book: Codebook, labels: np.ndarray, accuracy: float, unevenness: float, rng: np.random.Generator
) -> np.ndarray:
    """Codes uint8 ``(n, bytes)`` of items with these class ids: of a sub-class that is drawn.

    It is of the item's class with probability ``accuracy``, otherwise of any other class, all alike. Within a class
    sub-classes are drawn with probabilities proportional to ``exp(unevenness * z)``, z drawn once from a standard
    normal, by a generator of its own: the same for queries and database.
    """
    n, n_classes = len(labels), book.n_classes
    wrong = rng.random(n) >= accuracy
    predicted = np.where(wrong, (labels + rng.integers(1, n_classes, n)) % n_classes, labels)
    weights = np.exp(unevenness * np.random.default_rng(0).standard_normal(book.n_subclasses))
    drawn = np.empty(n, dtype=np.int64)
    for label, (start, stop) in enumerate(zip(book.class_offsets[:-1], book.class_offsets[1:], strict=True)):
        here = predicted == label
        own = weights[start:stop] / weights[start:stop].sum()
        drawn[here] = start + rng.choice(stop - start, here.sum(), p=own)
    return book.codes[drawn]


def simulated_readings(run: Run, accuracies: Sequence[float], cut: int) -> dict[str, Any]:
    """mAP@all, mAP at ``cut`` and recall at distance 0 with sub-classes drawn evenly and unevenly, seed 0.

    ``run``: of DSHC, whose codebook and labels are taken; ``accuracies``: on its queries, and on its database.
    """
    book, split = run.hasher.method.codebook(), run.split  # type: ignore[attr-defined]
    found = {}
    for name, unevenness in (("even", 0.0), ("uneven", UNEVEN)):
        rng = np.random.default_rng(0)
        parts = []
        for items, accuracy in zip((split.query, split.database), accuracies, strict=True):
            labels = run.dataset.labels[items]
            codes = simulated_codes(book, labels, accuracy, unevenness, rng)
            parts.append(CodeFile(codes, book.n_bits, labels=labels))
        one = evaluate(*parts, conventions=Conventions(ks=(min(cut, len(split.database)),)))
        found[name] = {
            "mean_ap": one.mean_ap,
            "map_at": next(iter(one.at_k.values())),
            "recall_at_0": float(one.curves.recall[np.flatnonzero(one.curves.radius == 0)[0]]),
        }
    return found


def simulation_table(
    found: Sequence[Mapping[str, Any]], cut: int, papers: Mapping[str, Mapping[tuple[str, int], float]]
) -> Table:
    """A row for every codebook: what was measured at K = 1, what draws give, and the paper's figures.

    ``papers``: for ``mean_ap`` and ``map_at``, its figures by construction and bits; empty: no columns of it.
    """
    names = {"mean_ap": "mAP", "map_at": f"mAP@{cut}", "recall_at_0": "recall at 0"}
    columns = ["codes", "bits"]
    for key, name in names.items():
        columns += [name, "even", "uneven", *(["paper"] if key in papers else [])]
    rows = []
    for one in found:
        row = [one["construction"], str(one["bits"])]
        for key in names:
            drawn = one["simulated"]
            row += [f"{values[key]:.4f}" for values in (one["readings"]["1"], drawn["even"], drawn["uneven"])]
            if key in papers:
                paper = papers[key].get((one["construction"], one["bits"]))
                row.append("" if paper is None else f"{paper:.4f}")
        rows.append(row)
    about = (
        "Measured at K = 1, and with sub-classes drawn at random, the class being right as often as measured: evenly, "
        f"and unevenly (probabilities as exp({UNEVEN:g} z), z normal), which by recall at 0 is what the paper's figure "
        "3 has at 60 bits."
    )
    return Table("What the choice of the sub-class says", columns, rows, about)
