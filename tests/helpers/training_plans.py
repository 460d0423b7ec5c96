"""Plans of small trainings that write nothing, and a callback that keeps what happened."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dshc.data import make_split
from dshc.hasher import Hasher
from dshc.runs import RunSettings
from dshc.runs.run import load_dataset
from dshc.training import Callback, Plan, Processes, Trainer, make_plan


def write_features(path: Any, counts: tuple[int, ...] = (64, 64), n_queries: int = 8) -> Any:
    """A file of embeddings: ``counts[c]`` training items of class c, in mixed order, and queries; they lie apart."""
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    labels = np.concatenate([labels, np.arange(n_queries) % len(counts)])
    values = rng.normal(size=(len(labels), 6)) + 3 * np.eye(len(counts), 6)[labels]
    np.savez(path, features=values.astype(np.float32), labels=labels, n_train=sum(counts))
    return path


def planned(source: Any, *, earlier: Hasher | None = None, **values: Any) -> Plan:
    """The plan of a training on one CPU thread; settings by name, and a hasher to start from."""
    settings = RunSettings.of(source=str(source), device="cpu", threads=1, **values)
    dataset = load_dataset(settings)
    settings = settings.resolved(dataset)
    split = make_split(
        dataset, settings.data.protocol, seed=settings.runtime.seed, validation=settings.data.validation
    )
    tables = {name: getattr(settings, name) for name in ("data", "encoder", "method", "optim", "runtime")}
    with torch.random.fork_rng():
        return make_plan(dataset, split, **tables, processes=Processes("cpu"), earlier=earlier)


class Recorder(Callback):
    """Weights after every step, learning rates of the groups in it, and the weights that were told to be saved."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []
        self.rates: list[list[float]] = []
        self.saved: list[tuple[dict[str, Tensor], bool, bool]] = []
        self.rows: list[dict[str, Any]] = []

    def step(self, trainer: Trainer, done: int) -> None:
        self.steps.append({name: w.detach().clone() for name, w in trainer.hasher.named_parameters()})
        self.rates.append([group["lr"] for o in trainer.optimizers for group in o.param_groups])

    def epoch(self, trainer: Trainer, position: Any, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def weights(self, trainer: Trainer, position: Any, state: Any, *, selected: bool, last: bool) -> None:
        self.saved.append(({name: value.clone() for name, value in state.items()}, selected, last))


def fitted(plan: Plan) -> tuple[Trainer, Recorder]:
    """Train a plan to its end."""
    recorder = Recorder()
    trainer = Trainer(plan, [recorder])
    with torch.random.fork_rng():
        trainer.fit()
    return trainer, recorder
