"""What papers claim of their methods, tried on one network by `dshc compare`: tables in docs/results/claims.md.

    python benchmarks/claims.py SOURCE --work FOLDER [--only vmf,dcwh,ssdh,sphere] [--note TEXT] [flags of dshc compare]

* vmf: against soft-max, by class accuracy and by retrieval with cosine and with Euclidean distance of the outputs.
* dcwh: in one stage and in two, by the share of items that lie nearer to the center of another class.
* ssdh: its class accuracy against that of a plain classifier.
* sphere: triplets with and without a term that asks for signs, balance of bits, and the rotation by mAP, on outputs of
  the sphere and on others.

Goes on where it was stopped. The trainings lie in FOLDER/<claim>.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import comparisons
import torch
from timing import made_on, write, write_page
from torch.nn.functional import normalize

import dshc
from dshc.experiment import ComparisonTable
from dshc.experiment.comparison_table import Result
from dshc.experiment.seeds import Spread
from dshc.methods.class_means import nearer_to_another
from dshc.runs import Run, load_run

Numbers = dict[str, float | None]
CLAIMS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    # Title, contestants, flags of its own.
    "vmf": ("vMF against soft-max", ("vmf", "cross_entropy"), ()),
    "dcwh": (
        "DCWH in one stage and in two",
        ("dcwh", "dcwh:refine=0", "dcwh:refine=1"),
        (),
    ),
    "ssdh": ("SSDH as a classifier", ("ssdh", "cross_entropy"), ()),
    "sphere": (
        "The sphere, a term for signs, and the rotation",
        ("sdsh:loss=likelihood:rotation_steps=0", "sdsh:rotation_steps=0", "dtsh:eta=0", "dtsh", "cross_entropy"),
        ("--post", "map"),
    ),
}  # fmt: skip
QUERIES = 2000  # of which outputs are ranked
MERGED = 0.9  # cosine of the mean directions of two classes from which on they count as one
WORDS = {
    "vmf": "Accuracy: of the nearest direction for vmf, of the classifier for cross_entropy. Retrieval by the 32 real "
           "outputs, 2,000 of the queries.",
    "dcwh": "`refine=0`: the cube alone, in one stage; `refine=1`: cube and vertices from the start; `dcwh`: the cube, "
            "then both. Nearer to another: share of the queries whose outputs, or codes, are nearer to the mean of "
            "another class than to that of their own.",
    "ssdh": "The classifier is a linear layer behind the outputs; ssdh has a sigmoid in between, and asks for bits.",
    "sphere": "`+ map`: the same outputs, rotated by the mAP of training items. `dtsh:eta=0`: without the term for "
              "signs. Both sdsh: without their own rotation. Merged classes: those whose mean direction has a "
              f"cosine above {MERGED} with that of another.",
}  # fmt: skip


def main() -> None:
    parser = comparisons.parser(__doc__, named=False)
    parser.add_argument("--only", default=",".join(CLAIMS))
    given, flags = parser.parse_known_args()
    found: dict[str, list[dict[str, Any]]] = {}
    lines: list[str] = []
    for claim in given.only.split(","):
        title, contestants, own = CLAIMS[claim]
        folder = given.work / claim
        comparisons.compare(given.source, folder, ["--methods", ",".join(contestants), *own, *flags])
        compared = comparisons.whole_table(folder)
        found[claim] = measured(folder, compared, MEASURES[claim])
        lines += [f"## {title}", "", WORDS[claim], "", *as_table(found[claim]), ""]
    about = f"Means over seeds, ± their deviation. mAP: {'; '.join(compared.conventions)}."
    rows = [{"claim": claim, **row} for claim, of_claim in found.items() for row in of_claim]
    write("claims", rows, flags=comparisons.public(flags))
    line = f"`{comparisons.shown(given.source, flags)}`, with the methods of each table; {made_on()}"
    write_page("claims", "What papers claim", line, given.note, [about, "", *lines])


def measured(
    folder: Path, table: ComparisonTable, measures: Callable[[Run, Result], Numbers]
) -> list[dict[str, Any]]:
    """A row per method: mean and deviation of each measure over the seeds."""
    rows = []
    for group in table.groups:
        found = [measures(load_run(folder / result.run), result) for result in group.results]
        row: dict[str, Any] = {"method": group.label, "bits": group.bits, "seeds": len(found)}
        for name in found[0]:
            values = [numbers[name] for numbers in found]
            known = [value for value in values if value is not None]
            spread = Spread.of(known) if len(known) == len(values) else None
            row[name] = None if spread is None else (spread.mean, spread.stdev)
        rows.append(row)
    return rows


def as_table(rows: list[dict[str, Any]]) -> list[str]:
    names = [name for name in rows[0] if name not in ("method", "bits", "seeds")]
    lines = [f"| method | {' | '.join(names)} |", "|" + " --- |" * (len(names) + 1)]
    for row in rows:
        cells = ["" if row[name] is None else f"{row[name][0]:.4f} ± {row[name][1]:.4f}" for name in names]
        lines.append(f"| {row['method']} | {' | '.join(cells)} |")
    return lines


def outputs_of(run: Run, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs and labels of a part of the run's items."""
    items = getattr(run.split, part)
    outputs = run.hasher.outputs(run.dataset.inputs[items])
    return outputs, torch.from_numpy(run.dataset.labels[items])


def of_vmf(run: Run, result: Result) -> Numbers:
    """Accuracy, and retrieval by the outputs."""
    queries, query_labels = outputs_of(run, "query")
    some = torch.linspace(0, len(queries) - 1, min(len(queries), QUERIES)).round().long()
    queries, query_labels = queries[some], query_labels[some]
    database, database_labels = outputs_of(run, "database")
    found: Numbers = {"class accuracy": result.numbers["accuracy"]}  # type: ignore[index]
    for name, measure in (("cosine mAP", "cosine"), ("Euclidean mAP", "l2")):
        evaluation = dshc.evaluate_outputs(queries, database, query_labels, database_labels, measure=measure)
        found[name] = evaluation.mean_ap
    return found | {"mAP of codes": result.numbers["mean_ap"]}  # type: ignore[index]


def of_dcwh(run: Run, result: Result) -> Numbers:
    """How many queries lie nearer to another class, by outputs and by codes."""
    database, database_labels = outputs_of(run, "database")
    queries, query_labels = outputs_of(run, "query")
    n_classes = run.dataset.n_classes
    found: Numbers = {"mAP": result.numbers["mean_ap"], "cosine mAP": result.numbers["cosine_map"]}  # type: ignore[index]
    found["accuracy"] = result.numbers["accuracy"]  # type: ignore[index]
    for name, change in (("outputs", lambda x: x), ("codes", lambda x: torch.where(x > 0, 1.0, -1.0))):
        values = change(database).double()
        centers = torch.stack([values[database_labels == c].mean(0) for c in range(n_classes)])
        found[f"nearer to another, {name}"] = nearer_to_another(change(queries), query_labels, centers)
    signs = torch.where(queries > 0, 1.0, -1.0)
    found["distance from signs"] = float((queries.double() - signs).abs().mean())
    return found


def of_ssdh(_run: Run, result: Result) -> Numbers:
    numbers = result.numbers or {}
    return {"class accuracy": numbers["accuracy"], "mAP": numbers["mean_ap"], "cosine mAP": numbers["cosine_map"],
            "bit entropy": numbers["bit_entropy"]}  # fmt: skip


def of_sphere(run: Run, result: Result) -> Numbers:
    numbers = result.numbers or {}
    return {"mAP": numbers["mean_ap"], "cosine mAP": numbers["cosine_map"], "bit entropy": numbers["bit_entropy"],
            "precision r<=2": numbers["precision_radius_2"], "merged classes": n_merged(run)}  # fmt: skip


def n_merged(run: Run) -> float:
    """Classes whose mean direction, over the items trained on, is that of another class too."""
    outputs, labels = outputs_of(run, "train")
    directions = normalize(outputs.double(), dim=1)
    means = torch.stack([directions[labels == c].mean(0) for c in range(run.dataset.n_classes)])
    means = normalize(means, dim=1)
    cosines = means @ means.T
    cosines.fill_diagonal_(0)
    return float((cosines > MERGED).any(1).sum())


MEASURES = {"vmf": of_vmf, "dcwh": of_dcwh, "ssdh": of_ssdh, "sphere": of_sphere}


if __name__ == "__main__":
    main()
