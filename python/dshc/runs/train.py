"""Training, from settings to a run folder; read it from top to bottom.

import dshc

run = dshc.train("digits", bits=30, out="runs/digits")
codes = run.hasher.encode(images)
"""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dshc_fast

from ..data import Split
from ..hasher.device import resolve_device
from ..hasher.files import write_hasher
from ..storage import folder_lock
from ..torch_defaults import torch_defaults
from ..training import Interrupted, Processes, Trainer, make_plan
from ..training.callbacks import Callback, EpochLines, Event, Events, ProgressBar
from ..training.checkpoint import Checkpoint, MisfitError, Position, read_checkpoint, write_checkpoint
from ..training.cpu_threads import cpu_threads
from .advice import about_training
from .earlier import earlier_hasher, with_earlier
from .photos import for_photos
from .run import Run, load_dataset, load_run, split_of
from .run_folder import CHECKPOINT, RunFolder
from .settings import RunSettings

__all__ = ["train"]

# Random draws, threads and the default dtype are one for all threads of a process. A callback may train, too.
_one_at_a_time = threading.RLock()


def train(
    settings: RunSettings | str | os.PathLike[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    on_event: Event | None = None,
    **values: Any,
) -> Run:
    """Train as settings say (or a data source and settings by name) and return the finished run.

    ``resume`` continues the run in ``out``, from its start where it has no checkpoint yet; settings that differ from
    the run's own are refused, and those left open are its own. Without it a folder that holds a run is refused, unless
    the run is to be replaced (``overwrite``): then its files are removed right before the first new one is written.
    ``on_event(name, values)`` is called with ``"read"`` (``items``, and ``text``: what was read, what was left out),
    ``"start"``, ``"resume"``, ``"epoch"`` (a row of metrics.jsonl), ``"checkpoint"`` and ``"end"``.

    In several processes (``torchrun``) all call this alike; the first writes. In several threads one trains after the
    other: torch has one generator of random numbers for all of them.

    Raises ``ValueError``, ``TypeError`` or ``FileNotFoundError`` naming the setting or file, before anything is
    written where that can be known before; :class:`dshc.training.Interrupted` after Ctrl-C, SIGTERM or SIGHUP.
    """
    if not isinstance(settings, RunSettings):
        source = os.fspath(settings)
        # What is left open is the run's own: that of its method, too.
        settings = RunFolder.of(values.get("out"), source).settings if resume else RunSettings()
        settings = settings.with_values(source=source)
    settings = settings.with_values(**values)
    on_cuda = resolve_device(settings.runtime.device).type == "cuda"
    seeded = [torch.cuda.current_device()] if on_cuda else []
    random, threads = torch.random.fork_rng(devices=seeded), cpu_threads(settings.runtime.threads)
    with _one_at_a_time, torch_defaults(), torch.enable_grad(), random, threads:
        return _train(settings, resume, overwrite, on_event or (lambda name, values: None))


def _train(settings: RunSettings, resume: bool, overwrite: bool, tell: Event) -> Run:
    processes = Processes(settings.runtime.device)
    folder = settings.folder
    existing: RunFolder | None = None
    with contextlib.ExitStack() as held:
        # The folder, the data, the method, the network: what can be wrong is found before a file is written.
        settings.paths()  # refuses what the run's files cannot hold
        if resume:
            RunFolder.read(folder)  # a folder without a run is not made one by its lock
            if processes.first:
                held.enter_context(folder_lock(folder))
            existing = RunFolder.read(folder).continued_by(settings)
            settings = existing.settings
            # Once there is a checkpoint, that holds all of the earlier hasher.
            earlier = None if (folder / CHECKPOINT).is_file() else earlier_hasher(settings)
        else:
            RunFolder.check_apart(folder, settings.data.source)
            RunFolder.check_free(folder, overwrite=overwrite)
            RunFolder.check_not_started_from(folder, settings.encoder.start_from)
            earlier = earlier_hasher(settings)
            settings = for_photos(with_earlier(settings, earlier), earlier)
        dataset = load_dataset(settings)
        if processes.first:
            reading = dataset.reading
            tell("read", {"items": dataset.n_items, "text": "" if reading is None else reading.line()})
        if existing is None:
            settings = settings.resolved(dataset)
        else:
            existing.check_inputs(dataset.sample_digest(), settings.data.source)
        split = split_of(dataset, settings)
        checkpoint = _checkpoint_of(existing)
        plan = make_plan(
            dataset,
            split,
            data=settings.data,
            encoder=settings.encoder,
            method=settings.method,
            optim=settings.optim,
            runtime=settings.runtime,
            processes=processes,
            saved=None if checkpoint is None else checkpoint.tensors["hasher"],
            earlier=earlier,
        )
        earlier = None  # whose weights the plan has, where they are of use
        trainer = Trainer(plan)

        processes.wait()  # all have looked at the folder; from here on the first changes it
        if processes.first:
            if existing is None:
                held.enter_context(folder_lock(folder))
                RunFolder.check_free(folder, overwrite=overwrite)  # again, now that nobody else can write
            run = RunFolder.create(settings, dataset.sample_digest()) if existing is None else existing
            _open(run, split, checkpoint)
            trainer.callbacks = [_RunFiles(run), ProgressBar(), EpochLines(), Events(tell)]
        processes.wait()
        _fit(trainer, checkpoint, folder)
        processes.wait()  # until its last file is there
        if processes.first:
            tell("end", {"folder": str(folder)})
    finished = load_run(folder, dataset=dataset, device=settings.runtime.device)
    if processes.first and (text := about_training(finished.metrics, dataset, split, settings)):
        warnings.warn(text, stacklevel=3)
    return finished


def _checkpoint_of(run: RunFolder | None) -> Checkpoint | None:
    """The checkpoint of a run to be continued.

    Raises ``FileNotFoundError`` where a finished run lacks it: to train it again in silence is nobody's wish.
    """
    if run is None:
        return None
    path = run.path / CHECKPOINT
    if path.is_file():
        checkpoint = read_checkpoint(path)
        run.check_owner(path, checkpoint.run, checkpoint.settings)
        return checkpoint
    for name in ("last.safetensors", "best.safetensors"):
        if (run.path / name).is_file():
            raise FileNotFoundError(
                f"{path}: no such file, though the run has {name}; put the checkpoint back, or train again with "
                "--overwrite"
            )
    return None


def _open(run: RunFolder, split: Split, checkpoint: Checkpoint | None) -> None:
    """Bring the folder to where the training starts: what a run begins with, or what it held at its checkpoint."""
    run.clear_left_overs()
    run.keep_split(split)
    run.write_metrics([] if checkpoint is None else checkpoint.position.history)


def _fit(trainer: Trainer, checkpoint: Checkpoint | None, folder: Path) -> Position:
    try:
        return trainer.fit(checkpoint)
    except Interrupted as stop:
        again = f"dshc train --resume --out {shlex.quote(str(folder))}"
        raise Interrupted(f"{stop}; nothing is lost, continue with: {again}", stop.signal_name) from None
    except MisfitError as error:
        raise ValueError(f"{folder / CHECKPOINT}: {error}") from None


class _RunFiles(Callback):
    """Writes the files of a run as the training goes."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.settings = run.fingerprint
        self._epoch: int | None = None  # of the last checkpoint, once there is one of this process
        # Selected weights of an epoch without a checkpoint, and their description.
        self._kept: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    def checkpoint(self, trainer: Trainer, position: Position) -> None:
        # Selected weights go first: who goes on from the checkpoint does not come by them again.
        if self._kept is not None:
            write_hasher(self.run.path / "best.safetensors", *self._kept)
            self._kept = None
        self._epoch = position.epoch
        write_checkpoint(
            self.run.path / CHECKPOINT,
            trainer.plan.whole,
            trainer.optimizers,
            {} if trainer.average is None else trainer.average.state(),
            position,
            run=self.run.run_id,
            settings=self.settings,
        )

    def epoch(self, trainer: Trainer, position: Position, row: dict[str, Any]) -> None:
        self.run.write_metrics(position.history)

    def weights(
        self, trainer: Trainer, position: Position, state: dict[str, Tensor], *, selected: bool, last: bool
    ) -> None:
        description = trainer.plan.whole.description()
        description["about"] = {
            "epoch": position.epoch,
            "run": self.run.run_id,
            "settings": self.settings,
            "split": trainer.plan.split.checksum,
            "version": dshc_fast.__version__,
        }
        if self._epoch not in (None, position.epoch):
            if selected:
                self._kept = {name: tensor.clone() for name, tensor in state.items()}, description
            return
        for name, due in (("best", selected), ("last", last)):
            if due:
                write_hasher(self.run.path / f"{name}.safetensors", state, description)
