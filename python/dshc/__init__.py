"""Train deep hashing models, turn items into binary codes, search them and measure retrieval.

The program around `dshc_fast`. The public face, loaded when first asked for:

* ``train(source or settings, ...)`` trains and returns a :class:`dshc.runs.Run`; ``RunSettings`` is all it can be told;
* ``Hasher`` (``load``, ``save``, ``encode``, ``predict``) is what was trained; ``from_classifier`` makes one of a
  classifier, without training;
* ``evaluate(...)`` under ``Conventions`` gives an ``Evaluation``; ``evaluate_outputs`` measures real-valued outputs;
* ``compare(settings, methods, bits=..., out=...)`` trains and measures several methods alike;
* ``HashIndex`` keeps codes with their ids in a folder, searched exactly and changed safely;
* ``load_data`` reads a set; ``methods``, ``codebooks``, ``exchange`` (codes to and from databases) and ``cluster``
  (codes on several machines) are packages.

``dshc --help`` is the same from the command line.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import cluster, codebooks, exchange, methods
    from .data import load as load_data
    from .evaluation import Conventions, Evaluation, evaluate, evaluate_outputs
    from .experiment import compare
    from .hasher import Hasher, from_classifier
    from .index import HashIndex
    from .method_checks import check_method
    from .runs import Run, RunSettings, load_run, train

__all__ = [
    "Conventions",
    "Evaluation",
    "HashIndex",
    "Hasher",
    "Run",
    "RunSettings",
    "check_method",
    "cluster",
    "codebooks",
    "compare",
    "evaluate",
    "evaluate_outputs",
    "exchange",
    "from_classifier",
    "load_data",
    "load_run",
    "methods",
    "train",
]

_PLACES = {
    "Conventions": "evaluation",
    "Evaluation": "evaluation",
    "HashIndex": "index",
    "Hasher": "hasher",
    "Run": "runs",
    "check_method": "method_checks",
    "RunSettings": "runs",
    "compare": "experiment",
    "evaluate": "evaluation",
    "evaluate_outputs": "evaluation",
    "from_classifier": "hasher",
    "load_data": "data:load",
    "load_run": "runs",
    "train": "runs",
}


def __getattr__(name: str) -> Any:
    if name in ("cluster", "codebooks", "exchange", "methods"):
        return importlib.import_module(f".{name}", __name__)
    if name not in _PLACES:
        raise AttributeError(f"module 'dshc' has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    return getattr(importlib.import_module(f".{module}", __name__), attribute or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
