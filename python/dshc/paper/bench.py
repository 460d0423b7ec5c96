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
from ..errors import InputError
from ..hasher.frozen import frozen_features
from ..machine import made_on
from ..runs import Run, RunSettings, load_run, train
from ..storage import fingerprint, write_whole

__all__ = ["Bench", "known_by"]


def known_by(settings: RunSettings) -> dict[str, Any]:
    """What a training of these settings is known by: they, and the places of its data, which their digest lacks."""
    return {
        "settings": settings.fingerprint(),
        "source": settings.data.source,
        "root": settings.data.root,
    }


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

    def train(self, name: str, settings: RunSettings, depends: Mapping[str, Any] | None = None) -> Run:
        """The run of these settings: trained once, continued where it was stopped.

        ``depends``: what else it depends on, such as what its files hold; of these, settings know the places alone.
        """
        settings = settings.with_values(**{"runtime.threads": self.threads, **settings.paths()})
        key = fingerprint({**known_by(settings), "depends": dict(depends or {})})
        folder = self.folder / "runs" / f"{name}-{key[:8]}"
        if (folder / "last.safetensors").is_file():
            return load_run(folder)
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
        run = self.train(
            f"features-{name}", self.settings(name, method="lsh", bits=8, finetune="none", **encoder)
        )
        return frozen_features(run.hasher, run.dataset), run.dataset
