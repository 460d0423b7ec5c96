"""What an experiment is: a name, what of the paper it repeats, what it needs, and the steps it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .bench import Bench
from .page import Page

__all__ = ["Experiment"]


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    ``name`` on the command line; ``title`` in a line; ``paper``: what of it is repeated, and where it stands;
    ``data``: the sets that it reads, by name, each to be found by ``--data NAME=PLACE`` or among the known sets;
    ``cost``: what it takes, in words; ``run``: the steps, and the page that comes of them; ``optional``: places that it
    takes, and can do without.
    """

    name: str
    title: str
    paper: str
    data: tuple[str, ...]
    cost: str
    run: Callable[[Bench], Page]
    optional: tuple[str, ...] = ()
