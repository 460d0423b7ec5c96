"""The experiments of the DSHC paper, each by one command: ``dshc experiment NAME``.

>>> from dshc.paper import available
>>> "pairs" in available()
True
"""

from __future__ import annotations

from ..errors import one_of
from .bench import Bench
from .cifar10 import EXPERIMENTS as _CIFAR10
from .cifar100 import EXPERIMENTS as _CIFAR100
from .experiment import Experiment
from .multilabel import EXPERIMENTS as _MULTILABEL
from .others import EXPERIMENTS as _OTHERS
from .page import Page, Table
from .pairs import EXPERIMENTS as _PAIRS

__all__ = ["Bench", "Experiment", "Page", "Table", "available", "get"]

_EXPERIMENTS = {
    experiment.name: experiment for experiment in (*_CIFAR10, *_CIFAR100, *_OTHERS, *_MULTILABEL, *_PAIRS)
}


def available() -> tuple[str, ...]:
    """The names of the experiments."""
    return tuple(_EXPERIMENTS)


def get(name: str) -> Experiment:
    """The experiment of a name; raises :class:`dshc.errors.InputError` naming the nearest."""
    if name not in _EXPERIMENTS:
        raise one_of("experiment", name, _EXPERIMENTS)
    return _EXPERIMENTS[name]
