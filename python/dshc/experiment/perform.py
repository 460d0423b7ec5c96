"""Carrying out a trial: the training, then the measuring of what it gives, each with its time and memory."""

from __future__ import annotations

import copy
import os
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import dshc_fast

from ..data import available
from ..evaluation import Conventions, Evaluation, evaluate, evaluate_outputs
from ..methods import Method
from ..methods.nested import NestedSettings
from ..methods.postprocessing import postprocess
from ..methods.signs import SignCoding
from ..runs import Run, RunSettings, load_run, train
from ..runs.encoding import outputs_of_items
from ..runs.evaluate import evaluate_run, query_groups
from ..runs.run import load_dataset
from ..runs.run_folder import CHECKPOINT, CONFIG, RunFolder
from ..storage import CodeFile
from ..training.seeding import generator
from .trial import Measuring, Trial

__all__ = ["measure_trial", "train_trial", "trained_run"]

_COSINE_PAIRS = 100_000_000  # more, and only some of the queries are ranked by real-valued outputs
_SEARCH_K = 100
_CHECKPOINT_S = 20
_POSTPROCESSING = 20_000  # training items that a rotation or thresholds are found on, at most


def train_trial(trial: Trial, *, jobs: int = 1) -> Run:
    """Train, or go on with an interrupted training; keeps validation, seconds, memory and ``jobs``, those at a time."""
    there = (trial.run_folder / CONFIG).is_file()
    # A training that data were moved from under cannot go on: the run bears where they lay.
    resume = there and not _moved(RunFolder.read(trial.run_folder).settings, trial.settings)
    # Heads on frozen features have epochs of a tenth of a second, shorter than writing what they leave.
    settings = {"out": trial.run_folder, "runtime.checkpoint_seconds": _CHECKPOINT_S}
    run = train(trial.settings.with_values(**settings), resume=resume, overwrite=there and not resume)
    chosen = next((row for row in run.metrics if row["epoch"] == run.epoch), {})
    trial.keep_trained(
        {
            "validation_map": chosen.get("validation_map"),
            "validation_conventions": chosen.get("validation_conventions"),
            "epoch": run.epoch,
            "seconds": sum(row["seconds"] for row in run.metrics),
            "peak_mib": _peak_mib(),
            "jobs": jobs,
            "split": run.split.checksum,
            "n_train": len(run.split.train),
        }
    )
    # Nobody goes on from here, and each file holds the backbone once more.
    (trial.run_folder / CHECKPOINT).unlink(missing_ok=True)
    if run.weights == "best":
        (trial.run_folder / "last.safetensors").unlink(missing_ok=True)
    return run


def measure_trial(trial: Trial, run: Run | None = None) -> None:
    """Measure a trained run: its codes, its real-valued outputs, shorter codes and post-processed ones."""
    run = trained_run(trial.run_folder, trial.settings) if run is None else run
    asked = trial.measuring
    conventions = Conventions(
        k=asked.k, ks=asked.ks, ties=asked.ties, denominator=asked.denominator, empty=asked.empty
    )
    measured = evaluate_run(run, conventions)
    outputs = {part: outputs_of_items(run, getattr(run.split, part)) for part in ("query", "database")}
    method = run.hasher.method
    encoding, groups = _encoding_cost(run), query_groups(run, measured.queries.labels)
    rows = [
        _row("", measured.evaluation)
        | _real_valued(method, outputs, measured, conventions)
        | _search_cost(measured.queries, measured.database)
        | encoding
    ]
    for variant, other in _others(run, asked):
        codes = _codes(other, outputs, measured)
        evaluation = evaluate(
            *codes, conventions=conventions, accuracy=measured.evaluation.accuracy, groups=groups
        )
        real_valued = _real_valued(other, outputs, measured, conventions)
        rows.append(_row(variant, evaluation) | real_valued | _search_cost(*codes) | encoding)
    trial.keep_measured(rows)


def trained_run(folder: Path, settings: RunSettings) -> Run:
    """A run of a comparison with the data that ``settings`` name, which may lie elsewhere than when it was trained."""
    run = load_run(folder)
    moved = _moved(run.settings, settings)
    return load_run(folder, dataset=load_dataset(run.settings.with_values(**moved))) if moved else run


def _moved(of_run: RunSettings, settings: RunSettings) -> dict[str, Any]:
    """Where the data of a run lie by ``settings``, where that is another place."""
    found = {}
    for name in ("data.source", "data.root", "data.labels", "data.pairs"):
        place = settings[name]
        if place is not None and place not in available():
            place = os.path.abspath(place)
        if place != of_run[name]:
            found[name] = place
    return found


class FirstBits:
    """A method's rule for its first bits, which are codes of their own."""

    def __init__(self, method: Method, n_bits: int) -> None:
        self.method, self.n_bits, self.score = method, n_bits, method.score

    def encode(self, outputs: Tensor) -> Tensor:
        """Packed codes, uint8 ``(b, ceil(n_bits / 8))``."""
        bits = dshc_fast.unpack_codes(self.method.encode(outputs), self.method.n_bits)
        return dshc_fast.pack_codes(bits[:, : self.n_bits])

    def relaxed(self, outputs: Tensor) -> Tensor | None:
        """As the method has it, of these bits."""
        relaxed = self.method.relaxed(outputs)
        return None if relaxed is None else relaxed[:, : self.n_bits]


def _others(run: Run, asked: Measuring) -> Iterator[tuple[str, Method | FirstBits]]:
    """What else the same outputs give: codes of the shorter lengths, then post-processed ones."""
    method, settings = run.hasher.method, run.settings.method
    lengths = settings.shorter(method.n_bits) if isinstance(settings, NestedSettings) else ()
    for length in lengths:
        yield "", FirstBits(method, length)
    if not isinstance(method, SignCoding):
        return
    if not asked.postprocessing or lengths:
        return
    items = run.split.train
    seed = run.settings.runtime.seed
    if len(items) > _POSTPROCESSING:
        picked = torch.randperm(len(items), generator=generator(seed, 1))[:_POSTPROCESSING].sort().values
        items = items[picked.numpy()]
    labels = None if run.dataset.labels is None else torch.from_numpy(run.dataset.labels[items])
    outputs = outputs_of_items(run, items)
    for by in asked.postprocessing:
        if by == "map" and labels is None:
            continue
        other = copy.deepcopy(method)
        postprocess(other, outputs, labels, by=by, generator=generator(seed, 2))
        yield by, other


def _codes(method: Method | FirstBits, outputs: dict[str, Tensor], measured: Any) -> list[CodeFile]:
    """Codes of the queries and of the database."""
    files = []
    for part, known in (("query", measured.queries), ("database", measured.database)):
        codes = method.encode(outputs[part]).cpu().numpy()
        files.append(CodeFile(codes, method.n_bits, labels=known.labels, score=method.score))
    return files


def _row(variant: str, evaluation: Evaluation) -> dict[str, Any]:
    curves = evaluation.curves
    at = np.flatnonzero(curves.radius == 2) if evaluation.score == "hamming" else []
    queries = evaluation.accuracy.get("queries", {})
    codes = evaluation.database_codes
    return {
        "variant": variant,
        "bits": evaluation.n_bits,
        "conventions": str(evaluation.conventions),
        "n_query": evaluation.n_query,
        "n_database": evaluation.n_database,
        "mean_ap": evaluation.mean_ap,
        "groups": {name: mean_ap for name, (_, mean_ap) in evaluation.groups.items()},
        "at_k": {str(k): value for k, value in evaluation.at_k.items()},
        "accuracy": queries.get("top_1", queries.get("micro_f1")),
        "precision_radius_2": float(curves.precision[at[0]]) if len(at) else None,
        "empty_balls_2": float(curves.empty_balls[at[0]]) if len(at) else None,
        "distinct": codes.n_distinct,
        "bit_entropy": codes.bit_entropy,
        "constant_bits": codes.constant_bits,
    }


def _real_valued(
    method: Method | FirstBits, outputs: dict[str, Tensor], measured: Any, conventions: Conventions
) -> dict[str, Any]:
    """mAP of what the codes were before they were codes, ranked by cosine."""
    relaxed = {part: method.relaxed(values) for part, values in outputs.items()}
    if relaxed["query"] is None:
        return {"cosine_map": None, "cosine_queries": 0}
    n = min(len(relaxed["query"]), max(1, _COSINE_PAIRS // len(relaxed["database"])))
    picked = np.linspace(0, len(relaxed["query"]) - 1, n).round().astype(np.int64)
    found = evaluate_outputs(
        relaxed["query"][torch.from_numpy(picked)],
        relaxed["database"],
        measured.queries.labels[picked],
        measured.database.labels,
        conventions=replace(conventions, ks=()),
    )
    return {"cosine_map": found.mean_ap, "cosine_queries": n}


def _encoding_cost(run: Run) -> dict[str, Any]:
    """Microseconds to encode an item; behind a frozen backbone, from its features."""
    items = run.split.query
    started = time.perf_counter()
    run.hasher.method.encode(outputs_of_items(run, items))
    return {"encode_us": (time.perf_counter() - started) / len(items) * 1e6}


def _search_cost(queries: CodeFile, database: CodeFile) -> dict[str, Any]:
    """Microseconds to search for a query, and for how many items."""
    k = min(_SEARCH_K, len(database))
    started = time.perf_counter()
    dshc_fast.hamming_topk(queries.codes, database.codes, k)
    return {"search_us": (time.perf_counter() - started) / len(queries) * 1e6, "search_k": k}


def _peak_mib() -> float:
    """Peak resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024
