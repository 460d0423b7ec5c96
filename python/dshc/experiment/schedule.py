"""Trials in the order they are needed, several at a time: what a step leads to is asked for once it is done."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .trial import Trial
from .workshop import Workshop

__all__ = ["Steps", "Todo", "carry_out"]

T = TypeVar("T")


@dataclass(frozen=True)
class Todo:
    """A trial that is to be trained, and ``measure``d perhaps."""

    trial: Trial
    measure: bool

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.trial.trained() is not None and (not self.measure or self.trial.measured() is not None)

    def start(self, shop: Workshop, jobs: int) -> None:
        """Begin what is left; all of it where the weights that it needs were removed."""
        if self.trial.trained() is not None and not self.trial.run_folder.is_dir():
            self.trial.forget_training()
        shop.start(self.trial, measure=self.measure, jobs=jobs)


Steps = Generator[list[Todo], None, T]
"""Lists of trials; the next is asked for once all of a list are done. What is returned in the end is the result."""


def carry_out(
    shop: Workshop,
    work: Sequence[Steps[T]],
    *,
    jobs: int,
    first_alone: bool,
    done: Callable[[Todo, bool], None],
) -> Iterator[tuple[int, T]]:
    """Carry out every work, at most ``jobs`` trials at a time; the place and result of each as it ends.

    Works are begun in their order, the next where those before leave a job free. ``first_alone``: until a trial has
    been trained each has the machine to itself, for that one leaves what the others need. ``done`` is told of each
    trial, and whether it had to be carried out.
    """
    begun: list[_UnderWay[T]] = []
    waiting = iter(work)
    running: dict[str, tuple[_UnderWay[T], Todo]] = {}
    n_jobs = 1 if first_alone else jobs
    while True:
        while len(running) < n_jobs:
            at_hand = next((one for one in begun if one.todo), None)
            if at_hand is None:
                if (steps := next(waiting, None)) is None:
                    break
                begun.append(_UnderWay(len(begun), steps))
                yield from begun[-1].go_on(done)
                continue
            todo = at_hand.todo.pop(0)
            at_hand.n_running += 1
            todo.start(shop, jobs)
            running[todo.trial.name] = at_hand, todo
        if not running:
            return
        owner, todo = running.pop(shop.ended().name)
        n_jobs = jobs if todo.trial.trained() is not None else n_jobs
        owner.n_running -= 1
        done(todo, True)
        yield from owner.go_on(done)


@dataclass
class _UnderWay(Generic[T]):
    """One work under way: what of its list is still to be begun, and how many of it run."""

    place: int
    steps: Steps[T]
    todo: list[Todo] = field(default_factory=list)
    n_running: int = 0

    def go_on(self, done: Callable[[Todo, bool], None]) -> Iterator[tuple[int, T]]:
        """Ask for lists until one leaves something to do; gives the result where there is no further."""
        while not self.todo and not self.n_running:
            try:
                found = next(self.steps)
            except StopIteration as end:
                yield self.place, end.value
                return
            for one in found:
                if one.is_done:
                    done(one, False)
                else:
                    self.todo.append(one)
