"""Where an experiment works: its folder, its data, and what of its steps is done already.

A step is known by a fingerprint of everything it depends on: the same step is never done twice, another one never taken
for it, and an experiment that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import data
from ..data import Dataset
from ..data.split import labels_digest
from ..errors import InputError
from ..hasher.frozen import frozen_features
from ..machine import made_on
from ..runs import Run, RunSettings, load_run, train
from ..runs.run import load_dataset
from ..storage import fingerprint, write_whole

__all__ = ["Bench"]


class Bench:
    """A folder with the steps of an experiment; ``places``: of its data, by name; ``tell`` is told of each step."""

    def __init__(
        self,
        folder: Path,
        places: Mapping[str, str] | None = None,
        *,
        threads: int | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder, self.threads, self.tell = folder, threads, tell
        self._places = dict(places or {})
        self.seconds = 0.0  # of all steps, whenever they were done
        self.machines: list[dict[str, Any]] = []  # on which they were done
        self._digests: dict[str, dict[str, str]] = {}

    def step(
        self, name: str, depends: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """What ``make`` gives, plain JSON, with its ``seconds``: done once, and kept under what it ``depends`` on."""
        path = self.folder / "steps" / f"{name}-{fingerprint(depends)}.json"
        if path.is_file():
            try:
                kept = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                raise InputError(f"{path}: damaged; remove it, and the step is done again") from None
            self.machines.append(kept["machine"])
            self.seconds += kept["result"]["seconds"]
            return kept["result"]
        started, machine = time.perf_counter(), made_on()
        result = dict(make())
        # A training that was stopped in an earlier call took longer than this one.
        result["seconds"] = max(time.perf_counter() - started, result.get("train_seconds", 0.0))
        self.machines.append(machine)
        content = {"depends": dict(depends), "machine": machine, "result": result}
        write_whole(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
        self.seconds += result["seconds"]
        self.tell(f"{name}: {result['seconds']:.1f} s")
        return result

    def known_by(self, settings: RunSettings, depends: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What a training of these settings is known by: they, and what its data hold, wherever they lie.

        ``depends``: what else it depends on, such as the weights that it starts from, of which settings know the place.
        """
        asked = repr(settings.data)
        if asked not in self._digests:
            dataset = load_dataset(settings.with_values(**{"data.max_memory_mib": 0}), any_labels=True)
            self._digests[asked] = {"inputs": dataset.digest(), "labels": labels_digest(dataset)}
        return {
            "settings": settings.fingerprint(),
            "data": self._digests[asked],
            "depends": dict(depends or {}),
        }

    def network(self, name: str, settings: RunSettings, depends: Mapping[str, Any] | None = None) -> Run:
        """As :meth:`train`, of a run that steps start from: its time is that of the experiment too."""

        def seconds() -> dict[str, float]:
            run = self.train(name, settings, depends)
            return {"train_seconds": sum(row["seconds"] for row in run.metrics)}

        self.step(f"network {name}", self.known_by(settings, depends), seconds)
        return self.train(name, settings, depends)

    def train(
        self,
        name: str,
        settings: RunSettings,
        depends: Mapping[str, Any] | None = None,
        *,
        known: Mapping[str, Any] | None = None,
    ) -> Run:
        """The run of these settings: trained once, continued where it was stopped.

        ``depends`` as in :meth:`known_by`; ``known``: all that it is known by, where that needs no look at its data.
        """
        settings = settings.with_values(**{"runtime.threads": self.threads, **settings.paths()})
        key = fingerprint(self.known_by(settings, depends) if known is None else known)
        folder = self.folder / "runs" / f"{name}-{key[:8]}"
        if (folder / "last.safetensors").is_file():
            run = load_run(folder)
            places = [
                {name: place for name, place in one.paths().items() if name.startswith("data.")}
                for one in (run.settings, settings)
            ]
            return run if places[0] == places[1] else load_run(folder, dataset=load_dataset(settings))
        return train(settings.with_values(out=folder), resume=(folder / "config.toml").is_file())

    def place(self, name: str) -> str | None:
        """Where a set lies, as it was said; None where nothing was."""
        return self._places.get(name)

    def settings(self, name: str, **values: Any) -> RunSettings:
        """Settings of a training on a set; raises :class:`InputError` where nobody said where its images lie."""
        place = self.place(name)
        if name in data.available():
            return RunSettings.of(source=name, root=place, **values)
        if place is None:
            raise InputError(f"data must say where the images of {name} are: --data {name}=FOLDER")
        return RunSettings.of(source=place, **values)

    def features(self, name: str, **encoder: Any) -> tuple[np.ndarray, Dataset]:
        """What a frozen network gives for the items of a set, float32 ``(n, d)``, and the set; computed once.

        ``encoder``: settings of the network; by default that of photos.
        """
        # The cheapest training that brings the network.
        settings = self.settings(name, method="lsh", bits=8, finetune="none", **encoder)
        found: list[tuple[np.ndarray, Dataset]] = []

        def compute() -> dict[str, Any]:
            run = self.train(f"features-{name}", settings)
            found.append((frozen_features(run.hasher, run.dataset), run.dataset))
            return {}

        self.step(f"features {name}", self.known_by(settings), compute)
        if not found:
            compute()  # they are kept
        return found[0]
