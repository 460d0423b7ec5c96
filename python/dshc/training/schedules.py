"""The learning rate over time, as a table.

A schedule is a function of the share of all steps that is done: there is nothing to save and nothing to restore.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from .settings import OptimSettings

__all__ = ["SCHEDULES", "ScheduleRow", "learning_rate", "share_done"]


_FEW = 20  # below, no step but the first lies in the first 5 %


@dataclass(frozen=True)
class ScheduleRow:
    """A row of the table: its name, what it is, and the share of the peak rate, in [0, 1].

    ``function(done, settings, n_epochs)``: ``done`` in [0, 1) is the share of all steps that is done.
    """

    name: str
    description: str
    function: Callable[[float, OptimSettings, int], float]


def _cosine(done: float, settings: OptimSettings, n_epochs: int) -> float:
    rising = 0.05
    return done / rising if done < rising else _half_cosine_down(done, rising)


def _onecycle(done: float, settings: OptimSettings, n_epochs: int) -> float:
    rising, floor = 0.3, 1 / 25
    if done < rising:
        return floor + (1 - floor) * (1 - math.cos(math.pi * done / rising)) / 2
    return _half_cosine_down(done, rising)


def _half_cosine_down(done: float, rising: float) -> float:
    return (1 + math.cos(math.pi * (done - rising) / (1 - rising))) / 2


def _constant(done: float, settings: OptimSettings, n_epochs: int) -> float:
    return 1.0


def _step(done: float, settings: OptimSettings, n_epochs: int) -> float:
    # A third rounded up: two falls at most, none in the last epoch of 100.
    every = settings.lr_every or -(-n_epochs // 3)
    return settings.lr_factor ** (_epoch(done, n_epochs) // every)


def _exponential(done: float, settings: OptimSettings, n_epochs: int) -> float:
    # numpy.logspace(0, log10(lr_end), n_epochs)[epoch], as in DPSH's published program.
    return settings.lr_end ** (_epoch(done, n_epochs) / max(n_epochs - 1, 1))


def _epoch(done: float, n_epochs: int) -> int:
    """The epoch under way, from 0."""
    # The first step of epoch 3 of 10 has done 0.3 of all, and 0.3 * 10 may come out below 3. What is added is above
    # all such errors (a million epochs) and below a step (a billion steps an epoch).
    return min(math.floor(done * n_epochs + 1e-9), n_epochs - 1)


SCHEDULES: dict[str, ScheduleRow] = {
    row.name: row
    for row in (
        ScheduleRow("cosine", "up from 0 over the first 5 %, then down to 0 by half a cosine", _cosine),
        ScheduleRow(
            "onecycle", "up from lr/25 over the first 30 %, then down to 0, by half a cosine each", _onecycle
        ),
        ScheduleRow("constant", "lr throughout", _constant),
        ScheduleRow("step", "times lr_factor every lr_every epochs", _step),
        ScheduleRow(
            "exponential",
            "from lr in the first epoch to lr_end * lr in the last, evenly in logs",
            _exponential,
        ),
    )
}


def share_done(step: int, n_steps: int) -> float:
    """The share of all steps that is done before a step, counted from 0, in [0, 1).

    A schedule that begins and ends at 0 would leave a few steps too few: these are in the middle of their share.
    """
    return (step + 0.5) / n_steps if n_steps < _FEW else step / n_steps


def learning_rate(settings: OptimSettings, done: float, n_epochs: int) -> float:
    """The learning rate when the share ``done`` in [0, 1) of all steps is done, of ``n_epochs`` epochs.

    It is the peak rate: groups of parameters take their shares of it (:func:`~dshc.training.optimizers.
    set_learning_rate`). Raises :class:`InputError` where ``lr`` is not set.
    """
    if settings.lr is None:
        raise InputError("lr must be set to train, got nothing")
    return settings.lr * SCHEDULES[settings.schedule].function(done, settings, n_epochs)
