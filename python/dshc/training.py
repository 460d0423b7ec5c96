"""Training, from a config to a run folder; read it from top to bottom.

    from dshc.config import Config
    from dshc.training import train

    run = train(Config(dataset="digits", out="runs/digits"))
    codes, predictions = run.encode(run.split.query)

The run folder holds

    config.toml                    every setting, with what was chosen for those left open
    split.json                     which items are queries, database, training and validation
    codebook.safetensors           the codes of the sub-classes (methods that have some)
    metrics.jsonl                  a line an epoch
    best.safetensors               weights of the epoch selected by validation mAP
    model.safetensors              weights of the last epoch, written when the training is done
    checkpoint/state.safetensors   where to continue from

A training killed at any step and resumed ends, in fp32 on the CPU, with the bytes it would have ended with: a
checkpoint holds the whole state, and what is random about a step follows from (seed, epoch, step) alone.
Limits: one device; resuming on another machine, torch version or number of threads continues, but to other
last bits.
"""

from __future__ import annotations

import math
import shlex
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from . import data, methods
from .batches import make_batches
from .checkpoint import CHECKPOINT, Position, load_checkpoint, save_checkpoint, save_weights
from .codebooks import Codebook
from .config import Config
from .models import Network, build_backbone
from .progress import progress
from .run import Run, backbone_features, load_data, load_run, make_fabric
from .run_folder import check_folder, open_folder, write_metrics
from .session import cpu_threads, ctrl_c
from .validation import Validation

__all__ = ["Interrupted", "Run", "load_run", "train"]

Event = Callable[[str, dict[str, Any]], None]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a training, after its checkpoint was written; the message says how to continue."""


def train(
    config: Config, *, resume: bool = False, overwrite: bool = False, on_event: Event | None = None
) -> Run:
    """Train as ``config`` says and return the finished run, with its best weights.

    ``resume`` continues the run in ``config.out``, from its start where it has no checkpoint yet; settings
    that differ from the run's own are refused. Without it a folder that holds a run is refused, unless the
    run is to be replaced (``overwrite``): then its files are removed right before the first new one is written.
    ``on_event(name, values)`` is called with ``"start"``, ``"resume"``, ``"epoch"`` (a row of metrics.jsonl),
    ``"checkpoint"`` and ``"end"``.

    Raises ``ValueError``, ``TypeError`` or ``FileNotFoundError`` naming the setting or file, before anything
    is written where that can be known before; :class:`Interrupted` after Ctrl-C.
    """
    tell: Event = on_event or (lambda name, values: None)
    with torch.random.fork_rng(), cpu_threads(config.threads):
        return _train(config, resume, overwrite, tell)


def _train(config: Config, resume: bool, overwrite: bool, tell: Event) -> Run:
    # The data, the method, the network: what can be wrong is found before a file is written.
    dataset = load_data(config)
    config = config.resolved(dataset)
    folder = Path(config.out)
    if not dataset.multilabel and len(np.unique(dataset.labels)) == 1:
        warnings.warn(
            f"{dataset.name}: all {dataset.n_items} items are of one class; each is relevant to each, so that mAP "
            "is 1 whatever the codes",
            stacklevel=3,
        )
    check_folder(folder, config, resume=resume, overwrite=overwrite)
    split = data.make_split(dataset, config.protocol, seed=config.seed, validation=config.validation)
    method_class = methods.get(config.method)
    if method_class.multilabel != dataset.multilabel:
        kind = "multi-label" if dataset.multilabel else "single-label"
        fitting = [name for name in methods.available() if methods.get(name).multilabel == dataset.multilabel]
        raise ValueError(f"method: got {config.method!r}, {kind} data take {', '.join(fitting)}")
    book = folder / "codebook.safetensors"
    codebook = Codebook.load(book) if resume and book.is_file() else None
    method = method_class.build(config, dataset.n_classes, codebook=codebook)

    fabric = make_fabric(config)
    torch.manual_seed(config.seed)
    backbone = build_backbone(config, dataset.item_shape)
    network = Network(backbone, method.head(backbone.n_features)).to(memory_format=torch.channels_last)
    method = method.to(fabric.device)
    wrapped = fabric.setup_module(network)
    optimizer = _optimizer(network, config)
    batches = make_batches(
        dataset.inputs,
        train_indices=split.train,
        device=fabric.device,
        augment=bool(config.augment),
        flip=bool(config.flip),
    )
    labels = torch.from_numpy(dataset.labels).to(fabric.device)
    validation = Validation(split, labels, config.seed)

    # Batches of equal size, at most the one asked for; the few items left over differ from epoch to epoch.
    n_steps = -(-len(split.train) // config.batch_size)
    batch_size = len(split.train) // n_steps
    if batch_size < 2:
        raise ValueError(
            f"batch_size: got {config.batch_size}, which cuts {len(split.train)} training items into batches of "
            "one; batch normalisation takes at least 2 items a step"
        )
    n_total = n_steps * config.epochs

    # The folder: what does not change, then where the training stands.
    position = Position(threads=torch.get_num_threads())
    if resume and (folder / CHECKPOINT).is_file():
        position = load_checkpoint(folder, network, method, optimizer)
        if config.threads is None and position.threads is not None:
            torch.set_num_threads(position.threads)
        position.threads = torch.get_num_threads()
    open_folder(folder, config, split, method, position, resume=resume)
    about = {
        "kind": dataset.kind,
        "item_shape": dataset.item_shape,
        "class_names": dataset.class_names,
        "has_codebook": method.codebook() is not None,
    }
    inputs = {"mean": batches.mean, "std": batches.std}
    if position.step == 0 and position.epoch == position.selected_epoch:
        # Perhaps it was killed before these were written.
        save_weights(folder / "best.safetensors", network, inputs, {**about, "epoch": position.epoch})

    start = {"folder": str(folder), "split": split.summary(), "epoch": position.epoch, "step": position.step}
    tell("resume" if position.epoch or position.step else "start", {**start, "steps": n_total})

    with ctrl_c() as stop, progress("training") as update:
        update(position.epoch * n_steps + position.step, n_total)
        for epoch in range(position.epoch, config.epochs):
            shuffled = torch.randperm(len(split.train), generator=_generator(config.seed, epoch))
            order = torch.from_numpy(split.train)[shuffled]
            wrapped.train()
            started = time.perf_counter() - position.seconds
            loss_sum = torch.tensor(position.loss, dtype=torch.float64, device=fabric.device)
            tally = torch.tensor(position.tally, device=fabric.device)
            if position.step == 0:
                method.start_epoch(
                    lambda: backbone_features(network, batches, split.train),
                    labels[torch.from_numpy(split.train).to(fabric.device)],
                    _generator(config.seed, epoch, n_steps),
                )
            for step in range(position.step, n_steps):
                generator = _generator(config.seed, epoch, step)
                torch.manual_seed(generator.initial_seed())  # what dropout and its like draw from
                picked = order[step * batch_size : (step + 1) * batch_size]
                targets = labels[picked.to(fabric.device)]
                lr = _learning_rate(config, (epoch * n_steps + step) / n_total)
                for group in optimizer.param_groups:
                    group["lr"] = lr

                outputs = wrapped(batches.batch(picked, train=True, generator=generator))
                items = shuffled[step * batch_size : (step + 1) * batch_size].to(fabric.device)
                loss = method.loss(outputs, targets, items)
                if fabric.device.type == "cpu":  # a GPU would be waited for; there the mean is checked
                    _check_finite(loss.item(), config, epoch)
                fabric.backward(loss)
                optimizer.step()
                optimizer.zero_grad()

                with torch.no_grad():
                    loss_sum += loss.double() * batch_size
                    tally += method.tally(method.predict(outputs), targets)
                position.step = step + 1
                position.items += batch_size
                done = epoch * n_steps + step + 1
                update(done, n_total)
                due = config.checkpoint_every and done % config.checkpoint_every == 0
                if stop.asked or due:
                    position.loss, position.tally = loss_sum.item(), tally.tolist()
                    position.seconds = time.perf_counter() - started
                    save_checkpoint(folder, network, method, optimizer, position)
                    tell("checkpoint", {"epoch": epoch, "step": step + 1})
                    if stop.asked:
                        raise _interrupted(folder, f"in epoch {epoch + 1}, step {step + 1} of {n_steps}")

            mean_loss = loss_sum.item() / position.items
            _check_finite(mean_loss, config, epoch)
            # The last step may have gone too far, which no loss of a step has seen.
            seen = torch.from_numpy(split.train[:batch_size])
            with torch.no_grad():
                outputs = wrapped.eval()(batches.batch(seen))
            _check_finite(outputs.double().sum().item(), config, epoch, "sum of the outputs")
            numerator, denominator = tally.tolist()
            row = {
                "epoch": epoch + 1,
                "loss": mean_loss,
                "lr": _learning_rate(config, ((epoch + 1) * n_steps - 1) / n_total),
                f"train_{method.quality}": numerator / max(denominator, 1),
                **validation.measure(wrapped, method, batches),
                "seconds": round(time.perf_counter() - started, 3),
            }
            selected = validation.selects(row, position.best_map)
            measured = [
                value for value in (position.best_map, row.get("validation_map")) if value is not None
            ]
            position = Position(
                epoch=epoch + 1,
                selected_epoch=epoch + 1 if selected else position.selected_epoch,
                best_map=max(measured, default=None),
                threads=position.threads,
                history=[*position.history, row],
            )
            # The checkpoint goes first: should the rest be lost, resuming writes it again from there.
            save_checkpoint(folder, network, method, optimizer, position)
            write_metrics(folder, position)
            if selected:
                save_weights(folder / "best.safetensors", network, inputs, {**about, "epoch": epoch + 1})
            tell("epoch", row)
            if stop.asked:
                raise _interrupted(folder, f"after epoch {epoch + 1} of {config.epochs}")

    save_weights(folder / "model.safetensors", network, inputs, {**about, "epoch": config.epochs})
    tell("end", {"folder": str(folder), "selected_epoch": position.selected_epoch})
    return load_run(folder, dataset=dataset)


def _interrupted(folder: Path, where: str) -> Interrupted:
    again = f"dshc train --resume --out {shlex.quote(str(folder))}"
    return Interrupted(f"interrupted {where}; nothing is lost, continue with: {again}")


def _optimizer(network: nn.Module, config: Config) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW; biases and normalisation are not decayed."""
    decayed = [weight for weight in network.parameters() if weight.ndim > 1]
    others = [weight for weight in network.parameters() if weight.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True)


def _learning_rate(config: Config, done: float) -> float:
    """The rate when the share ``done`` of all steps is done: up to ``lr``, then down to 0 by half a cosine.

    ``cosine`` rises linearly over the first 5 %, ``onecycle`` from lr/25 by half a cosine over the first 30
    %.
    """
    if config.schedule == "onecycle":
        rising, floor = 0.3, 1 / 25
        up = floor + (1 - floor) * (1 - math.cos(math.pi * done / rising)) / 2
    else:
        rising = 0.05
        up = done / rising
    down = (1 + math.cos(math.pi * (done - rising) / (1 - rising))) / 2
    return config.lr * (up if done < rising else down)


def _generator(*numbers: int) -> torch.Generator:
    """A generator on the CPU seeded by some numbers, such as (seed, epoch, step)."""
    # The length goes in too, for SeedSequence takes (1,) and (1, 0) to be the same.
    words = np.random.SeedSequence([len(numbers), *numbers]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))


def _check_finite(number: float, config: Config, epoch: int, what: str = "loss") -> None:
    if not math.isfinite(number):
        raise ValueError(
            f"lr: the {what} is {number} in epoch {epoch + 1} with lr = {config.lr}; take a lower one"
        )
