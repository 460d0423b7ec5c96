"""The training loop: stages, epochs, steps. Read :meth:`Trainer.fit` from top to bottom.

A training killed at any step and resumed ends, in fp32 on the CPU, with the bytes it would have ended with: a
checkpoint holds the whole state, and what is random about a step follows from (seed, epoch, step) alone. Limits: the
same number of processes; another machine, torch version or number of threads continues, but to other last bits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from ..data.fetched_images import lost_workers
from ..hasher import Hasher
from ..kept_memory import kept_memory
from ..methods import Pass, Step, Training
from .averaging import WeightAverage, swapped_in
from .callbacks import Callback
from .checkpoint import Checkpoint, MisfitError, Position, restore
from .optimizers import build_optimizers, set_learning_rate
from .passes import make_pass
from .plan import Plan
from .schedules import learning_rate, share_done
from .seeding import generator
from .stop_signals import Interrupted, Stop, stop_signals
from .validation import Validation

__all__ = ["Trainer"]


class _WithLoss(nn.Module):
    """Network and loss as one module: what learns in either is synchronised between processes alike."""

    def __init__(self, hasher: Hasher) -> None:
        super().__init__()
        self.hasher = hasher

    def forward(self, inputs: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        outputs = self.hasher(inputs)
        return self.hasher.method.loss(outputs, step), outputs.detach()


class Trainer:
    """A planned training. ``fit`` runs it, from its start or from a checkpoint, and tells ``callbacks``.

    Attributes: ``plan``; ``hasher``, whose weights are those of the last step (the part that is
    trained: ``plan.whole`` is all of it); ``optimizers``; ``average``, the
    averaged weights, or None.
    """

    def __init__(self, plan: Plan, callbacks: Sequence[Callback] = ()) -> None:
        self.plan = plan
        self.hasher = plan.hasher
        self.processes = plan.processes
        self.callbacks = list(callbacks) if plan.processes.first else []
        self.optimizers = build_optimizers(plan.hasher, plan.optim) if plan.stages else []
        averaged = plan.optim.ema > 0 and bool(plan.stages)
        self.average = WeightAverage(plan.hasher, plan.optim.ema) if averaged else None
        self.validation = Validation(plan.split, plan.labels, plan.runtime.seed)
        self._labels = plan.train_labels
        self._wrapped: nn.Module | None = None
        # Here, for it may refuse the items: before anybody has written anything.
        self.hasher.method.begin(
            Training(
                n_items=len(plan.split.train),
                labels=self._labels,
                generator=generator(plan.runtime.seed, 0, 0, 0),
                device=self.processes.device,
                pairs=plan.train_pairs,
            )
        )

    def fit(self, checkpoint: Checkpoint | None = None) -> Position:
        """Train to the end; returns the final position.

        Raises ``ValueError`` where a loss is no longer finite, :class:`~dshc.training.checkpoint.MisfitError` for a
        checkpoint of something else, :class:`Interrupted` after a signal.
        """
        position = self._begin(checkpoint)
        # When an epoch was last told as one to continue from, and whether some were not since.
        self._checkpointed, self._is_behind = -math.inf, False
        with stop_signals() as stop, kept_memory():
            # Behind the checkpoint: what is kept of a frozen backbone is of the weights that it holds.
            plan = self.plan = self.plan.prepared(lambda done: self._stop_before_start(done, stop))
            try:
                self._tell("start", position)
                if position.step == 0 and position.history:
                    self._save_again(position)
                if not plan.stages:
                    position = self._fitted(position)
                for epoch in range(position.epoch, plan.n_epochs):
                    with lost_workers(getattr(plan.batches, "workers", 0)):
                        self._run_epoch(position, stop)
                    position = self._end_epoch(position, last=epoch + 1 == plan.n_epochs)
                    if self.processes.any(stop.asked) and epoch + 1 < plan.n_epochs:
                        if self._is_behind:
                            self._tell("checkpoint", position)
                        raise self._interrupted(f"after epoch {epoch + 1} of {plan.n_epochs}", stop)
                if self.processes.any(stop.asked):
                    raise self._interrupted("after the training, whose weights are written", stop)
            finally:
                self._tell("end", position)
        return position

    # Start

    def _stop_before_start(self, done: int, stop: Stop) -> None:
        if stop.asked:
            images = self.plan.dataset.n_items
            raise self._interrupted(f"with the features of {done} of {images} images", stop)

    def _begin(self, checkpoint: Checkpoint | None) -> Position:
        plan = self.plan
        position = Position(threads=torch.get_num_threads(), processes=self.processes.size)
        if checkpoint is not None:
            restore(checkpoint, plan.whole, self.optimizers)
            if self.average is not None:
                try:
                    self.average.load_state(checkpoint.tensors["average"])
                except ValueError as error:
                    raise MisfitError(str(error)) from None
            position = checkpoint.position
            if position.step and position.processes != self.processes.size:
                raise MisfitError(
                    f"it stands within an epoch of {position.processes} processes, which must be resumed with as "
                    f"many, got {self.processes.size}"
                )
            if plan.runtime.threads is None and position.threads is not None:
                torch.set_num_threads(position.threads)
            if position.counted:
                position.loss, position.items, *position.tally = position.counted[self.processes.rank]
            position.threads, position.processes = torch.get_num_threads(), self.processes.size
        if plan.stages:
            self._wrapped = self.processes.setup(_WithLoss(self.hasher))
        return position

    # An epoch

    def _run_epoch(self, position: Position, stop: Stop) -> None:
        plan, optim = self.plan, self.plan.optim
        seed, epoch, device = plan.runtime.seed, position.epoch, self.processes.device
        method, shuffled = self.hasher.method, plan.order(epoch)
        order = torch.from_numpy(plan.split.train)[shuffled]
        self._wrapped.train()
        if optim.first_size is not None:
            self.hasher.backbone.train_size = plan.size_at(epoch)
        started = time.perf_counter() - position.seconds
        loss_sum = torch.tensor(position.loss, dtype=torch.float64, device=device)
        tally = torch.tensor(position.tally, device=device)
        own_size = plan.batch_size // self.processes.size
        n_steps = min(plan.n_steps, plan.n_total - epoch * plan.n_steps)  # the last stage may end within
        if position.step == 0:
            method.begin_epoch(self._pass(epoch, end=False))
        every = plan.runtime.checkpoint_every  # the first update at or behind each multiple
        n_kept = (epoch * plan.n_steps + position.step) // (every or 1)
        # To ask all processes makes a GPU wait for its step.
        ask_every = 16 if self.processes.size > 1 and device.type == "cuda" else 1
        n_updates = 0
        rows = [self._own_rows(step) for step in range(n_steps)]
        fetched = plan.batches.fetch([order[own] for own in rows[position.step :]], (seed, epoch))
        for step in range(position.step, n_steps):
            # Whatever draws from torch's own generator, such as dropout, draws from this step's seed.
            random = generator(seed, epoch, step, *([self.processes.rank] if self.processes.rank else []))
            torch.manual_seed(random.initial_seed())
            picked, items = order[rows[step]], shuffled[rows[step]].to(device)
            iteration = epoch * plan.n_steps + step
            set_learning_rate(
                self.optimizers, learning_rate(optim, share_done(iteration, plan.n_total), plan.n_epochs)
            )
            inputs = plan.batches.inputs(next(fetched), train=True, generator=random)
            labels = None if plan.labels is None else plan.labels[picked.to(device)]
            about = self._describe_step(inputs, labels, items, iteration, random)

            # Gradients of some batches are added up; the last of them, and of the epoch, moves the weights.
            n_added = min(optim.accumulate, n_steps - step // optim.accumulate * optim.accumulate)
            updated = (step + 1) % optim.accumulate == 0 or step + 1 == n_steps
            loss, outputs = self._backward(inputs, about, n_added, more=not updated)
            if updated:
                self._update()
            with torch.no_grad():
                loss_sum += loss.double() * own_size
                if method.quality is not None and labels is not None:
                    tally += method.tally(method.predict(outputs), labels)
            position.step = step + 1
            position.items += own_size
            self._tell("step", iteration + 1)
            if not updated:
                continue
            n_updates += 1
            asked = n_updates % ask_every == 0 and self.processes.any(stop.asked)
            if asked or (every and (iteration + 1) // every > n_kept):
                n_kept = (iteration + 1) // (every or 1)
                position.loss, position.tally = loss_sum.item(), tally.tolist()
                position.seconds = time.perf_counter() - started
                self._tell("checkpoint", self._with_others(position))
                self.processes.wait()
                if asked:
                    raise self._interrupted(f"in epoch {epoch + 1}, step {step + 1} of {plan.n_steps}", stop)
        position.loss, position.tally = loss_sum.item(), tally.tolist()
        position.seconds = time.perf_counter() - started

    def _own_rows(self, step: int) -> slice:
        """Which items of an epoch's order are this process's in a step."""
        own_size = self.plan.batch_size // self.processes.size
        start = step * self.plan.batch_size + self.processes.rank * own_size
        return slice(start, start + own_size)

    def _backward(self, inputs: Tensor, about: Step, n_added: int, *, more: bool) -> tuple[Tensor, Tensor]:
        """Adds the gradients of a batch, one of ``n_added``; returns its loss and outputs."""
        with self.processes.adding_up(self._wrapped, more=more):
            loss, outputs = self._wrapped(inputs, about)
            if self.processes.device.type == "cpu":  # a GPU would be waited for; there the mean is checked
                _check_finite(loss.item(), self.plan, about.epoch)
            self.processes.backward(loss if n_added == 1 else loss / n_added)
        return loss.detach(), outputs

    def _update(self) -> None:
        """Moves the weights by the gradients that were added up, and the averaged ones after them."""
        if self.plan.optim.clip_norm is not None:
            clip_grad_norm_(self.hasher.parameters(), self.plan.optim.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.hasher)

    def _describe_step(
        self, inputs: Tensor, labels: Tensor | None, items: Tensor, iteration: int, random: torch.Generator
    ) -> Step:
        plan = self.plan

        @torch.no_grad()
        def averaged() -> Tensor | None:
            return None if self.average is None else self.average.outputs(self.hasher, inputs)

        return Step(
            labels=labels,
            items=items,
            stage=plan.stage_at(iteration),
            epoch=iteration // plan.n_steps,
            iteration=iteration,
            progress=iteration / plan.n_total,
            generator=random,
            gather=self.processes.gather,
            own=slice(self.processes.rank * len(items), (self.processes.rank + 1) * len(items)),
            averaged_outputs=averaged,
        )

    def _pass(self, epoch: int, *, end: bool) -> Pass:
        """A look at all training items at the start of an epoch, or at its end."""
        plan = self.plan
        first = epoch * plan.n_steps
        iteration = min(first + plan.n_steps, plan.n_total) - 1 if end else first
        return make_pass(
            self.hasher,
            plan.batches,
            plan.split.train,
            self._labels,
            generator(plan.runtime.seed, epoch, plan.n_steps + end),
            self.processes,
            epoch=epoch,
            stage=plan.stage_at(iteration),
        )

    # Its end

    def _end_epoch(self, position: Position, *, last: bool) -> Position:
        plan, epoch = self.plan, position.epoch
        method, optim = self.hasher.method, plan.optim
        started = time.perf_counter() - position.seconds
        self.processes.share_buffers(self.hasher)
        counted = torch.tensor([position.loss, position.items, *position.tally], dtype=torch.float64)
        loss, items, numerator, denominator = self.processes.sum(counted.to(self.processes.device)).tolist()
        _check_finite(loss / items, plan, epoch)
        self._check_outputs(epoch)
        done = min((epoch + 1) * plan.n_steps, plan.n_total) - 1
        row: dict[str, Any] = {"epoch": epoch + 1, "loss": loss / items}
        row["lr"] = learning_rate(optim, share_done(done, plan.n_total), plan.n_epochs)
        if method.quality is not None and self._labels is not None:
            row[f"train_{method.quality}"] = numerator / max(denominator, 1)
        return self._ended(position, row, started, last=last)

    def _ended(self, position: Position, row: dict[str, Any], started: float, *, last: bool) -> Position:
        """Measures what an epoch has left, tells of it, and returns the position behind it."""
        state = self._measured(position.epoch, row)
        row["seconds"] = round(time.perf_counter() - started, 3)
        row = self.processes.agreed(row)
        position = position.after(row)
        # The checkpoint goes first: should the rest be lost, resuming writes it again from there.
        now, least = time.monotonic(), self.plan.runtime.checkpoint_seconds
        self._is_behind = not last and now - self._checkpointed < least
        if not self._is_behind:
            self._checkpointed = now
            self._tell("checkpoint", position)
        self._tell("epoch", position, row)
        self._tell_weights(position, state, last=last)
        return position

    @contextlib.contextmanager
    def _saved_weights(self, epoch: int) -> Iterator[None]:
        """Inside, the hasher holds what is saved for an epoch: the averaged weights where they are kept, finished."""
        with swapped_in(self.hasher, self.average):
            self.hasher.method.finish(self._pass(epoch, end=True))
            yield

    def _measured(self, epoch: int, row: dict[str, Any]) -> dict[str, Tensor]:
        """Adds the validation of the weights that are saved to a row; returns these weights."""
        with self._saved_weights(epoch):
            row |= self.validation.measure(self.hasher, self.plan.batches, self.processes)
            return self._state()

    def _state(self) -> dict[str, Tensor]:
        state = self.plan.whole.state_dict()
        return state if self.average is None else {name: tensor.clone() for name, tensor in state.items()}

    def _save_again(self, position: Position) -> None:
        """The weights of the epoch that a checkpoint ends: perhaps the training was killed before they were saved."""
        with self._saved_weights(max(position.epoch - 1, 0)):
            state = self._state()
        self._tell_weights(position, state, last=position.epoch == self.plan.n_epochs)

    def _fitted(self, position: Position) -> Position:
        """A method without stages: its one pass over the items."""
        if position.history:
            return position
        return self._ended(position, {"epoch": 0}, time.perf_counter(), last=True)

    def _check_outputs(self, epoch: int) -> None:
        """The last step may have gone too far, which no loss of a step has seen."""
        plan = self.plan
        seen = torch.from_numpy(plan.split.train[: plan.batch_size])
        with torch.no_grad():
            outputs = self.hasher.eval()(plan.batches.batch(seen))
        _check_finite(outputs.double().sum().item(), plan, epoch, "sum of the outputs")

    # Telling

    def _tell(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self, *arguments)

    def _tell_weights(self, position: Position, state: dict[str, Tensor], *, last: bool) -> None:
        selected = position.selected_epoch is not None and position.selected_epoch == position.epoch
        for callback in self.callbacks:
            callback.weights(self, position, state, selected=selected, last=last)
        self.processes.wait()

    def _with_others(self, position: Position) -> Position:
        """The position with what every process has counted in the epoch under way."""
        own = [position.loss, position.items, *position.tally]
        return dataclasses.replace(position, counted=self.processes.all(own))

    def _interrupted(self, where: str, stop: Stop) -> Interrupted:
        # A process without a signal of its own is stopped by another's.
        return Interrupted(f"interrupted {where}", stop.signal_name or "SIGTERM")


def _check_finite(number: float, plan: Plan, epoch: int, what: str = "loss") -> None:
    if not math.isfinite(number):
        raise ValueError(
            f"lr must be lower than {plan.optim.lr}: the {what} is {number} in epoch {epoch + 1} (or another number is "
            "too large for float32: a setting of the method or optimizer, or the features)"
        )
