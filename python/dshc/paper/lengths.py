"""Code length, construction and K (Luo et al., tables 3 and 4): what codes come of a trained network's predictions.

The paper trains a network per length. Here one network is trained to the end for 30 bits (:mod:`dshc.paper.cifar10`);
for every codebook a head of its own is trained on its features, which takes minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import dshc_fast

from ..evaluation import Conventions, class_accuracy, evaluate, evaluate_outputs
from ..methods import DSHC
from ..runs import Run, RunSettings
from ..runs.encoding import outputs_of_items
from ..storage import CodeFile
from .bench import Bench
from .page import Table, against
from .simulation import UNEVEN, simulated_readings, simulation_table
from .stability import N_IMAGES, VIEWS, measured_stability, stability_table

__all__ = ["CODEBOOKS", "READINGS", "length_tables", "measured_readings", "top_average"]

CODEBOOKS = (
    *(("cpbc", bits) for bits in (10, 20, 30, 60)),
    *(("kbc", bits) for bits in (10, 20)),
    *(("separated", bits) for bits in (10, 20, 30, 60)),
)
READINGS = (1, 2, 3, 5, 0)  # K; 0: the center of the likeliest class
CUT = 5000
_REAL_VALUED = 1000  # queries that are ranked by averages of codes: 50,000 items are sorted for each
# Of the paper: mAP at 10, 20, 30, 60 bits (table 3), and mAP@5000 at 10 bits (table 4).
PAPER_MAP = {("cpbc", 10): 0.3599, ("cpbc", 20): 0.8264, ("cpbc", 30): 0.9431, ("cpbc", 60): 0.9437}
PAPER_MAP_5000 = {("cpbc", 10): 0.5238, ("kbc", 10): 0.8980}


@dataclass(frozen=True)
class _Part:
    """Items of a run: real-valued outputs and labels."""

    outputs: Tensor
    labels: np.ndarray

    def codes(self, method: DSHC) -> CodeFile:
        return CodeFile(method.encode(self.outputs).cpu().numpy(), method.n_bits, labels=self.labels)


def measured_readings(run: Run, cut: int = CUT) -> dict[str, Any]:
    """What a run's predictions are worth under every reading: mAP@all, mAP at ``cut``, recall at distance 0.

    For K = 1, 2, 3, 5 and the centers (K = 0) by Hamming distance, and for K = 2, 3, 5 by the inner product of averages
    that are not rounded, which is what the paper's text says: of some queries, beside the rounded ones of the same.
    """
    method = run.hasher.method
    if not isinstance(method, DSHC):
        raise ValueError(f"run must be of DSHC, got {method.name}")
    split, labels = run.split, run.dataset.labels
    query, database = (
        _Part(outputs_of_items(run, items).to(run.hasher.device), labels[items])
        for items in (split.query, split.database)
    )
    rows = (
        np.linspace(0, len(query.labels) - 1, min(_REAL_VALUED, len(query.labels))).round().astype(np.int64)
    )
    some = _Part(query.outputs[torch.from_numpy(rows).to(query.outputs.device)], query.labels[rows])
    conventions = Conventions(ks=(min(cut, len(split.database)),))
    own, readings = method.settings, {}
    try:
        for k in READINGS:
            method.settings = own.replaced(topk=k)
            codes = database.codes(method)
            found = evaluate(query.codes(method), codes, conventions=conventions)
            readings[str(k)] = {
                "mean_ap": found.mean_ap,
                "map_at": next(iter(found.at_k.values())),
                "recall_at_0": float(found.curves.recall[np.flatnonzero(found.curves.radius == 0)[0]]),
                "distinct": found.database_codes.n_distinct,
            }
            # Averages are ranked for some queries only, which may be harder than all: these are for comparison.
            few = evaluate(some.codes(method), codes, conventions=conventions)
            readings[str(k)]["rounded"] = few.mean_ap
            if k > 1:
                averages = [top_average(method, part.outputs, k) for part in (some, database)]
                real = evaluate_outputs(*averages, some.labels, database.labels, measure="inner")
                readings[str(k)]["averages"] = real.mean_ap
    finally:
        method.settings = own
    accuracy = [
        class_accuracy(method.predict(part.outputs).cpu().numpy(), part.labels)["top_1"]
        for part in (query, database)
    ]
    return {
        "accuracy": accuracy[0],
        "database_accuracy": accuracy[1],
        "subclasses": method.codebook().n_subclasses,
        "readings": readings,
        "train_seconds": sum(row["seconds"] for row in run.metrics),
    }


def top_average(method: DSHC, outputs: Tensor, k: int) -> Tensor:
    """The mean code of the K likeliest sub-classes, bits being -1 and 1, float32 ``(n, n_bits)``: not rounded."""
    bits = dshc_fast.unpack_codes(method.codes, method.n_bits, signed=True).float()
    # Some items at a time: K codes of each lie side by side.
    return torch.cat([bits[part.topk(k, dim=1).indices].mean(1) for part in outputs.split(4096)])


def readings_of(
    bench: Bench,
    name: str,
    settings: RunSettings,
    run: Callable[[], Run],
    depends: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """:func:`measured_readings` of a run, as a step that is done once."""
    known = bench.known_by(settings, depends)
    known |= {"readings": list(READINGS), "cut": CUT, "real_valued": _REAL_VALUED}
    return bench.step(name, known, lambda: measured_readings(run()))


def length_tables(
    bench: Bench,
    settings: Callable[[str, int], RunSettings],
    depends: Mapping[str, Any] | None = None,
    codebooks: Iterable[tuple[str, int]] | None = None,
    *,
    with_paper: bool = True,
) -> tuple[list[Table], list[dict[str, Any]]]:
    """A head for every codebook, by ``settings`` of construction and bits; tables 3 and 4, and their numbers.

    ``depends``: what the trainings depend on beside their settings; ``with_paper``: beside the paper's figures.
    """
    found = []
    for construction, bits in CODEBOOKS if codebooks is None else codebooks:
        asked = settings(construction, bits)
        name = f"{construction}-{bits}"

        def run(asked: RunSettings = asked, name: str = name) -> Run:
            return bench.train(f"lengths-{name}", asked, depends)

        numbers = readings_of(bench, f"readings of {name}", asked, run, depends)
        found.append({"construction": construction, "bits": bits, **numbers})
        found[-1]["simulated"] = _simulated_of(bench, name, asked, run, numbers, depends)
        found[-1]["stability"] = _stability_of(bench, name, asked, run, depends)
    papers = {"mean_ap": PAPER_MAP, "map_at": PAPER_MAP_5000} if with_paper else {}
    tables = [_by_length(found, with_paper), _at_cut(found, with_paper), _averages(found)]
    tables.append(simulation_table(found, CUT, papers))
    if any(one["stability"]["views"] for one in found):
        tables.append(stability_table(found, READINGS))
    return tables, found


def _simulated_of(
    bench: Bench,
    name: str,
    settings: RunSettings,
    run: Callable[[], Run],
    numbers: Mapping[str, Any],
    depends: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """:func:`simulated_readings` as a step, with the accuracies that were measured."""
    accuracies = [numbers["accuracy"], numbers["database_accuracy"]]
    known = bench.known_by(settings, depends) | {"accuracies": accuracies, "cut": CUT, "uneven": UNEVEN}
    return bench.step(f"draws of {name}", known, lambda: simulated_readings(run(), accuracies, CUT))


def _stability_of(
    bench: Bench, name: str, settings: RunSettings, run: Callable[[], Run], depends: Mapping[str, Any] | None
) -> dict[str, Any]:
    """:func:`measured_stability` as a step; without views where items are no images."""
    known = bench.known_by(settings, depends)
    known |= {"readings": list(READINGS), "views": list(VIEWS), "images": N_IMAGES}

    def make() -> dict[str, Any]:
        trained = run()
        return measured_stability(trained, READINGS) if trained.hasher.kind == "images" else {"views": {}}

    return bench.step(f"stability of {name}", known, make)


def _by_length(found: Sequence[Mapping[str, Any]], with_paper: bool) -> Table:
    rows, last = [], [k for k in READINGS if k != 1]
    for one in found:
        by_k, key = one["readings"], (one["construction"], one["bits"])
        rows.append(
            [
                one["construction"],
                str(one["bits"]),
                str(one["subclasses"]),
                f"{one['accuracy']:.4f}",
                *_beside(PAPER_MAP.get(key), by_k["1"]["mean_ap"], with_paper),
                *(f"{by_k[str(k)]['mean_ap']:.4f}" for k in last),
                f"{by_k['1']['recall_at_0']:.4f}",
                f"{one['train_seconds']:.0f}",
            ]
        )
    columns = ["codes", "bits", "sub-classes", "accuracy", *_headed(with_paper),
               *(f"K = {k}" if k else "centers" for k in last),
               "recall at 0", "seconds"]  # fmt: skip
    about = "mAP@all. K: sub-classes whose codes are averaged. Recall at distance 0 is at K = 1."
    if with_paper:
        about += " The paper does not say its K; its figures fit K = 1."
    return Table("Table 3: length and K" if with_paper else "Length and K", columns, rows, about)


def _averages(found: Sequence[Mapping[str, Any]]) -> Table:
    ks = [k for k in READINGS if k > 1]
    rows = []
    for one in found:
        by_k = one["readings"]
        pairs = (f"{by_k[str(k)][name]:.4f}" for k in ks for name in ("averages", "rounded"))
        rows.append([one["construction"], str(one["bits"]), *pairs, f"{by_k['0']['rounded']:.4f}"])
    columns = [
        "codes",
        "bits",
        *(f"{name} K = {k}" for k in ks for name in ("averages,", "rounded,")),
        "centers",
    ]
    about = (
        f"mAP@all of {_REAL_VALUED:,} of the queries, evenly spaced: averages of K codes as they are, ranked by inner "
        "product, which is what the paper's text says; and rounded to bits."
    )
    return Table("Averages that are not rounded", columns, rows, about)


def _at_cut(found: Sequence[Mapping[str, Any]], with_paper: bool) -> Table:
    rows = []
    for one in found:
        own, key = one["readings"], (one["construction"], one["bits"])
        beside = _beside(PAPER_MAP_5000.get(key), own["1"]["map_at"], with_paper)
        start = [one["construction"], str(one["bits"]), str(one["subclasses"])]
        rows.append([*start, *beside, f"{own['0']['map_at']:.4f}"])
    columns = ["codes", "bits", "sub-classes", *_headed(with_paper), "centers"]
    title, about = f"mAP@{CUT}", "AP is divided by the relevant items among the first ones."
    if with_paper:
        return Table(f"Table 4: {title}", columns, rows, f"{about} The paper does not say by what.")
    return Table(title, columns, rows, about)


def _beside(paper: float | None, ours: float, with_paper: bool) -> list[str]:
    return against(paper, ours) if with_paper else [f"{ours:.4f}"]


def _headed(with_paper: bool) -> list[str]:
    return ["paper", "K = 1", "difference"] if with_paper else ["K = 1"]
