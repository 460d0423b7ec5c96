"""Pairs instead of labels (Luo et al., section 5): labels recovered from them, and what codes are worth then.

The paper names two ways to recover labels and prints no experiment. Here the labels of a set are hidden, a share of its
pairs is known and a share of these is wrong; DSHC is trained on what is recovered, DPSH on the pairs themselves.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..backbones.pretrained import PACKAGED
from ..data import Split, make_split
from ..data.pair_labels import VERSION, labels_from_pairs
from ..data.pairs import Pairs
from ..evaluation import Conventions, evaluate
from ..runs import Run, RunSettings
from ..storage import CodeFile
from .bench import Bench
from .experiment import Experiment
from .page import Page, Table

__all__ = ["EXPERIMENTS", "known_pairs"]

SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)
WRONG = (0.0, 0.05, 0.1, 0.2)
_SEED = 0
# Rates and weights as the comparison of methods chose them on such features (docs/results/methods-cifar10.md).
METHODS: dict[str, dict[str, Any]] = {"dshc": {}, "dpsh": {"lr": 0.3}}


@dataclass(frozen=True)
class _Plan:
    """On which items: a set, how it is cut, and the settings of trainings on its features."""

    data: str
    protocol: str
    per_class: int | None
    bits: int
    values: dict[str, Any]
    encoder: dict[str, Any] = field(default_factory=dict)


def known_pairs(labels: np.ndarray, share: float, wrong: float, seed: int) -> Pairs:
    """Some of all pairs of items with these class ids, each with chance ``share``; each wrong with chance ``wrong``."""
    n, rng = len(labels), np.random.default_rng(seed)
    firsts, seconds, answers = [], [], []
    for item in range(n - 1):  # a row at a time: all pairs of 10,000 items are 50 million
        others = np.arange(item + 1, n)
        if share < 1:
            others = others[rng.random(len(others)) < share]
        firsts.append(np.full(len(others), item, np.int32))
        seconds.append(others.astype(np.int32))
        answers.append((labels[others] == labels[item]) ^ (rng.random(len(others)) < wrong))
    pairs = np.column_stack([np.concatenate(firsts), np.concatenate(seconds)])
    return Pairs.of(n, pairs, np.concatenate(answers))


def _run(bench: Bench, plan: _Plan) -> Page:
    features, dataset = bench.features(plan.data, **plan.encoder)
    split = make_split(dataset, plan.protocol, seed=0, validation=0, train_per_class=plan.per_class)
    digest = hashlib.sha256(np.ascontiguousarray(features)).hexdigest()
    work = _Work(bench, plan, features, digest, dataset.labels, split)
    truth = {method: work.measured(method, "true labels", {}, labels=work.train_labels) for method in METHODS}
    cells = [work.cell(share, wrong) for share in SHARES for wrong in WRONG]
    known = ", ".join(f"`{method}` has {truth[method]['mean_ap']:.4f}" for method in METHODS)
    about = (
        f"{plan.data}: {len(split.train):,} training items whose labels are hidden, {len(split.query):,} queries, a "
        f"database of {len(split.database):,}; heads on frozen features, {plan.bits} bits, {Conventions()} by the true "
        "labels. A share of the pairs of training items is known, and a share of these is wrong, both drawn by chance. "
        f"With the true labels of all items {known}. The paper names the ways and prints no figures."
    )
    numbers = {"split": split.checksum, "labels": truth, "pairs": cells}
    return Page(f"Pairs instead of labels: {plan.data}", about, _tables(cells), numbers)


@dataclass(frozen=True)
class _Work:
    """The items of an experiment, and what is done with some of their pairs."""

    bench: Bench
    plan: _Plan
    features: np.ndarray
    digest: str  # of the features
    labels: np.ndarray
    split: Split

    @property
    def train_labels(self) -> np.ndarray:
        return self.labels[self.split.train]

    @property
    def depends(self) -> dict[str, Any]:
        """What every step depends on: the items' features, their labels and how they are cut."""
        return {"split": self.split.checksum, "features": self.digest, "recovery": VERSION}

    def cell(self, share: float, wrong: float) -> dict[str, Any]:
        """What comes of some pairs: labels, and codes by either method."""
        asked = {"share": share, "wrong": wrong, "seed": _SEED}
        name = f"{share:g} known, {wrong:g} wrong"
        found = self.bench.step(
            f"labels of {name}", {**self.depends, **asked}, lambda: self.recovered(share, wrong)
        )
        classes = np.array(found["labels"])
        values = {key: value for key, value in found.items() if key != "labels"}
        return {
            "share": share,
            "wrong": wrong,
            **values,
            "dshc": self.measured("dshc", name, asked, labels=classes),
            "dpsh": self.measured("dpsh", name, asked, pairs=(share, wrong)),
        }

    def recovered(self, share: float, wrong: float) -> dict[str, Any]:
        pairs = known_pairs(self.train_labels, share, wrong, _SEED)
        found = labels_from_pairs(pairs)
        mostly = sum(
            np.bincount(self.train_labels[found.labels == number]).max() for number in range(found.n_classes)
        )
        return {
            "pairs": pairs.n_pairs,
            "similar": pairs.n_similar,
            "how": found.how,
            "classes": found.n_classes,
            "left_out": found.n_left_out,
            "agreement": found.agreement,
            "right": float(mostly / len(found.labels)),
            "labels": found.labels.tolist(),
        }

    def measured(
        self,
        method: str,
        name: str,
        asked: Mapping[str, Any],
        *,
        labels: np.ndarray | None = None,
        pairs: tuple[float, float] | None = None,
    ) -> dict[str, Any]:
        """mAP of a method that is trained on labels (-1: none), or on pairs, of the training items."""
        settings = RunSettings.of(method=method, bits=self.plan.bits, **self.plan.values, **METHODS[method])
        known = {**self.depends, **asked, "settings": settings.fingerprint()}
        if labels is not None:
            known["labels"] = hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()
        return self.bench.step(
            f"{method}, {name}", known, lambda: self.measure(method, name, known, settings, labels, pairs)
        )

    def measure(
        self,
        method: str,
        name: str,
        depends: Mapping[str, Any],
        settings: RunSettings,
        labels: np.ndarray | None,
        pairs: tuple[float, float] | None,
    ) -> dict[str, Any]:
        called = f"{method}-{name}".replace(", ", "-").replace(" ", "-")
        # Where an interrupted training finds it again.
        folder = self.bench.folder / "given" / f"{self.plan.data}-{called}"
        folder.mkdir(parents=True, exist_ok=True)
        values = self.give_labels(folder, labels) if pairs is None else self.give_pairs(folder, *pairs)
        run = self.bench.train(f"{self.plan.data}-{called}", settings.with_values(**values), known=depends)
        parts = [self.codes(run, part) for part in (self.split.query, self.split.database)]
        result = {
            "mean_ap": evaluate(*parts).mean_ap,
            "train_seconds": sum(row["seconds"] for row in run.metrics),
            "distinct": len(np.unique(parts[1].codes, axis=0)),
        }
        shutil.rmtree(folder)
        return result

    def give_labels(self, folder: Path, labels: np.ndarray | None) -> dict[str, str]:
        """Write the items that have a label, with it; settings that name the file."""
        assert labels is not None
        kept = np.flatnonzero(labels >= 0)
        np.savez(folder / "items.npz", features=self.features[self.split.train[kept]], labels=labels[kept])
        return {"data.source": str(folder / "items.npz")}

    def give_pairs(self, folder: Path, share: float, wrong: float) -> dict[str, str]:
        """Write the items without labels, and the pairs; settings that name the files."""
        known = known_pairs(self.train_labels, share, wrong, _SEED).known.tocoo()
        upper = known.row < known.col
        pairs = np.column_stack([known.row[upper], known.col[upper]])
        np.savez(folder / "pairs.npz", pairs=pairs, similar=known.data[upper] > 0)
        np.save(folder / "items.npy", self.features[self.split.train])
        return {"data.source": str(folder / "items.npy"), "data.pairs": str(folder / "pairs.npz")}

    def codes(self, run: Run, items: np.ndarray) -> CodeFile:
        codes = run.hasher.encode(self.features[items])
        return CodeFile(codes, run.hasher.n_bits, labels=self.labels[items], score=run.hasher.method.score)


def _tables(cells: Sequence[Mapping[str, Any]]) -> list[Table]:
    """mAP by what is known and what is wrong; then how labels were recovered."""
    labels = ["pairs known", *(f"{wrong:.0%} wrong" for wrong in WRONG)]

    def table(title: str, about: str, shown: Callable[[Mapping[str, Any]], str]) -> Table:
        rows = [
            [f"{share:.0%}", *(shown(cell) for wrong in WRONG for cell in cells
                               if (cell["share"], cell["wrong"]) == (share, wrong))]
            for share in SHARES
        ]  # fmt: skip
        return Table(title, labels, rows, about)

    return [
        table("DSHC on recovered labels", "mAP.", lambda cell: f"{cell['dshc']['mean_ap']:.4f}"),
        table("DPSH on the pairs", "mAP.", lambda cell: f"{cell['dpsh']['mean_ap']:.4f}"),
        table(
            "Labels",
            "The share of the items whose recovered class is mostly their own, how many classes were found, how, and "
            "the share of the known pairs that they agree with.",
            lambda cell: f"{cell['right']:.4f}, {cell['classes']}, {cell['how']}, {cell['agreement']:.4f}",
        ),
        table("Seconds", "To recover labels, to train DSHC, to train DPSH.",
              lambda cell: " / ".join(f"{seconds:.0f}" for seconds in (
                  cell["seconds"], cell["dshc"]["train_seconds"], cell["dpsh"]["train_seconds"]))),
    ]  # fmt: skip


_CIFAR10 = _Plan(
    "cifar10",
    "cifar10-full",
    1000,
    30,
    {"epochs": 20, "width": 256, "validation": 0.0},
    {"backbone": f"timm:{PACKAGED}", "pretrained": True, "input_size": 96},
)
_UCM = _Plan("ucm", "random", None, 32, {"epochs": 40, "width": 256, "validation": 0.0})

EXPERIMENTS = (
    Experiment(
        "pairs",
        "pairs instead of labels, 10,000 items of CIFAR-10",
        "section 5, which prints no experiment: labels from similarity alone",
        ("cifar10",),
        "25 minutes on 2 cores",
        lambda bench: _run(bench, _CIFAR10),
    ),
    Experiment(
        "pairs-ucm",
        "pairs instead of labels, 1,680 aerial photos of 21 classes",
        "section 5, as pairs",
        ("ucm",),
        "3 minutes on 2 cores",
        lambda bench: _run(bench, _UCM),
    ),
)
