"""The hashing methods: each a loss over a network's outputs and a rule that turns outputs into codes.

A new method is one file here, entered in the table below; another package registers its own by the entry point
``dshc.methods`` (name: the method's, value: its class).

>>> available()[:2]
('dshc', 'dshc-multilabel')
>>> get("dshc").name
'dshc'
"""

from __future__ import annotations

import functools
from importlib.metadata import entry_points

from ..errors import one_of
from .base import LabelKind, Method, MethodSettings, Pass, PerClass, Spec, Stage, Step, Training
from .cross_entropy import CrossEntropy
from .csq import CSQ
from .dcwh import DCWH
from .dhn import DHN
from .dpn import DPN
from .dpsh import DPSH
from .dsdh import DSDH
from .dsh import DSH
from .dshc import DSHC
from .dshc_multilabel import DSHCMultiLabel
from .dtsh import DTSH
from .greedyhash import GreedyHash
from .hashnet import HashNet
from .itq import ITQ
from .lsh import LSH
from .mdsh import MDSH
from .orthohash import OrthoHash
from .pcah import PCAH
from .relahash import RelaHash
from .sdsh import SDSH
from .sh import SH
from .signs import SignCoding, SignMethod, SignSettings
from .ssdh import SSDH
from .vmf import VMF

__all__ = [
    "CSQ",
    "DCWH",
    "DHN",
    "DPN",
    "DPSH",
    "DSDH",
    "DSH",
    "DSHC",
    "DTSH",
    "ITQ",
    "LSH",
    "MDSH",
    "PCAH",
    "SDSH",
    "SH",
    "SSDH",
    "VMF",
    "CrossEntropy",
    "DSHCMultiLabel",
    "GreedyHash",
    "HashNet",
    "LabelKind",
    "Method",
    "MethodSettings",
    "OrthoHash",
    "Pass",
    "PerClass",
    "RelaHash",
    "SignCoding",
    "SignMethod",
    "SignSettings",
    "Spec",
    "Stage",
    "Step",
    "Training",
    "available",
    "get",
]

_OURS: tuple[type[Method], ...] = (
    DSHC,
    DSHCMultiLabel,
    ITQ,
    DPSH,
    HashNet,
    LSH,
    PCAH,
    SH,
    DSDH,
    DHN,
    DSH,
    DTSH,
    SDSH,
    DCWH,
    VMF,
    SSDH,
    GreedyHash,
    CrossEntropy,
    CSQ,
    DPN,
    OrthoHash,
    MDSH,
    RelaHash,
)


@functools.cache
def _table() -> dict[str, type[Method]]:
    table = {method.name: method for method in _OURS}
    for point in entry_points(group="dshc.methods"):
        if point.name in table:
            raise ValueError(f"method {point.name!r} is there already; {point.value} must take another name")
        table[point.name] = point.load()
    return table


def available() -> tuple[str, ...]:
    """The names that :func:`get` takes."""
    return tuple(_table())


def get(name: str) -> type[Method]:
    """The class of a method; raises :class:`dshc.errors.InputError` naming the known ones."""
    if name not in _table():
        raise one_of("method", name, _table())
    return _table()[name]
