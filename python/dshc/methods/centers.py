"""Codes that classes own, and the base of the methods that draw outputs to them.

Every class has a center, a fixed word of -1 and 1; an item's target is the center of its class. Of several labels the
target is the sign of the sum of their centers, and where that is 0 the bit of one word that was drawn at the start
(Yuan et al., *Central Similarity Quantization*, CVPR 2020, section 3.2). Items without labels have no target; losses
leave them out.

How far centers are apart bounds how well codes can retrieve, whatever the loss. ``centers`` therefore is a setting of
every method here. None of the papers' is further apart than the default, "separated", and most are nearer
(docs/results/codebooks.md); to repeat a paper, take what its method names.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

import dshc_fast

from .. import codebooks
from ..codebooks import Codebook
from ..codebooks.usual import hadamard_centers, random_centers, rejected_centers
from ..settings import setting
from .base import LabelKind, Method, Spec, check_class_ids, in_full
from .classifiers import ClasswiseMethod
from .pairs import own_rows
from .signs import SignSettings

__all__ = [
    "CenterKind",
    "CenterMethod",
    "CenterSettings",
    "class_centers",
    "check_batch",
    "cosines",
    "directions",
    "label_shares",
    "labelled_mean",
    "target_codes",
]

CenterKind = Literal["separated", "cpbc", "kbc", "hadamard", "random", "rejected"]
_USUAL = {"hadamard": hadamard_centers, "random": random_centers, "rejected": rejected_centers}
_LEAST_NORM = 1e-6
"""A shorter output has no direction."""


class CenterSettings(SignSettings):
    """Settings of every method of :class:`CenterMethod`."""

    centers: CenterKind = setting("separated", "codes of the classes that outputs are drawn to")


def class_centers(kind: CenterKind, n_classes: int, lengths: Sequence[int], *, seed: int = 0) -> Tensor:
    """Centers of classes, -1 and 1, int8 ``(n_classes, lengths[-1])``; the same for the same arguments, everywhere.

    * ``"separated"``: as far apart as is known, at each of several lengths
      (:func:`~dshc.codebooks.separated.separated_centers`, :func:`~dshc.codebooks.nested_centers`);
    * ``"cpbc"``, ``"kbc"``: those of :func:`dshc.codebooks.build`;
    * ``"hadamard"``, ``"random"``, ``"rejected"``: see :mod:`dshc.codebooks.usual`.

    Raises ``ValueError`` where two centers are equal in their first bits, as many as one of the lengths, or the
    construction does not exist.
    """
    n_bits = lengths[-1]
    if n_classes > 2 ** lengths[0]:
        raise ValueError(
            f"bits must leave a center for each of {n_classes} classes: {lengths[0]} bits have {2 ** lengths[0]} codes"
        )
    if kind in _USUAL:
        bits = _USUAL[kind](n_classes, n_bits, seed=seed)
    elif kind == "separated":
        bits = codebooks.nested_centers(n_classes, lengths, seed=seed).bits
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of sub-codes, of which there are none
            book = codebooks.build(kind, n_classes, n_bits, seed=seed, radius=0)
        bits = np.unpackbits(book.centers, axis=1, count=n_bits, bitorder="little") == 1
    for length in lengths:
        _check_different(kind, bits[:, :length])
    return torch.from_numpy(np.where(bits, 1, -1).astype(np.int8))


def target_codes(labels: Tensor, centers: Tensor, ties: Tensor | None = None) -> Tensor:
    """The target of every item, -1 and 1, as ``centers`` ``(b, L)``.

    Class ids int64 ``(b,)``: the center of the class. Multi-hot ``(b, C)``: the sign of the sum of the labels' centers,
    and ``ties`` ``(L,)`` where that is 0 (None: 1); for an item without labels that is everywhere.
    """
    if labels.ndim == 1:
        return centers[labels]
    sums = labels.float() @ centers.float()  # whole numbers, exact
    tied = torch.ones_like(centers[0]) if ties is None else ties
    return torch.where(sums == 0, tied, torch.where(sums > 0, 1, -1).to(centers.dtype))


def labelled_mean(losses: Tensor, labels: Tensor, gather: Callable[[Tensor], Tensor] = own_rows) -> Tensor:
    """The mean of the losses ``(b,)`` of the items that have labels, 0-d; 0 where none has any.

    Class ids int64 ``(b,)``: of all. Multi-hot ``(b, C)``: of the rows with a label, which are counted over all
    processes, so that the mean over processes is the one-process value however they are spread.
    """
    if labels.ndim == 1:
        return losses.sum() / max(len(losses), 1)
    labelled = (labels != 0).any(dim=1)
    everyone = gather(labelled.long())
    n_labelled = everyone.sum().clamp(min=1).to(losses.dtype)
    processes = len(everyone) / max(len(losses), 1)
    return losses.where(labelled, 0).sum() * (processes / n_labelled)


def label_shares(labels: Tensor, n_classes: int, dtype: torch.dtype) -> Tensor:
    """Targets of a soft-max, ``(b, C)``: an item's labels get equal shares, which sum to 1; no labels get none."""
    if labels.ndim == 1:
        return torch.nn.functional.one_hot(labels, n_classes).to(dtype)
    hot = labels.to(dtype)
    return hot / hot.sum(1, keepdim=True).clamp(min=1)


def cosines(rows: Tensor, others: Tensor) -> Tensor:
    """Cosines ``(b, n)`` of the angles between rows ``(b, L)`` and ``(n, L)``.

    A row shorter than 1e-6 has no direction: its cosines are 0, and so is their gradient.
    """
    return directions(rows) @ directions(others).T


def directions(rows: Tensor) -> Tensor:
    """Rows ``(b, L)`` of length 1; 0, without a gradient, where one is shorter than 1e-6."""
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    short = lengths < _LEAST_NORM
    return (rows / lengths.masked_fill(short, 1)).masked_fill(short, 0)


def check_batch(outputs: Tensor, labels: Tensor, centers: Tensor) -> None:
    """Refuse shapes that do not fit: outputs ``(b, L)``, labels ``(b,)`` or ``(b, C)``, centers ``(C, L)``."""
    if outputs.ndim != 2 or centers.ndim != 2 or outputs.shape[1] != centers.shape[1]:
        raise ValueError(
            "outputs and centers must have shapes (b, L) and (C, L), got "
            f"{tuple(outputs.shape)} and {tuple(centers.shape)}"
        )
    b, n_classes = len(outputs), len(centers)
    if tuple(labels.shape) not in ((b,), (b, n_classes)):
        raise ValueError(f"labels must have shape ({b},) or ({b}, {n_classes}), got {tuple(labels.shape)}")
    check_class_ids(labels, n_classes)


class CenterMethod(ClasswiseMethod):
    """A method that draws the outputs of an item to the center of its class, and predicts the class of the nearest.

    ``centers`` int8 ``(C, n_bits)`` of -1 and 1 are a buffer, saved with the weights; those of a shorter length are
    their first bits. Built from saved weights they are read and not made. ``ties`` int8 ``(n_bits,)`` decide where a
    sum over several labels is 0.

    A training that starts from another of the same method and lengths keeps its head, and the centers of the classes
    that both know by name; a new class gets the farthest word (:func:`dshc.codebooks.extended`).

    It predicts the class of an item that has one, by the largest inner product of outputs and centers.
    """

    qualities: ClassVar[Mapping[LabelKind, str]] = {"ids": "accuracy"}
    code_settings = ("centers",)

    def __init__(self, settings: CenterSettings, spec: Spec, centers: Tensor | None = None) -> None:
        super().__init__(settings, spec)
        if centers is None:
            centers = class_centers(settings.centers, spec.n_classes, self.lengths, seed=spec.seed)
        elif tuple(centers.shape) != (spec.n_classes, self.n_bits):
            raise ValueError(
                f"centers must have shape ({spec.n_classes}, {self.n_bits}), got {tuple(centers.shape)}"
            )
        # In the layout of a loaded tensor, on which the last bits of products depend.
        own = centers.detach().to(torch.int8).clone(memory_format=torch.contiguous_format)
        self.register_buffer("centers", own)
        drawn = np.random.PCG64([spec.seed, 1]).random_raw(self.n_bits) >> np.uint64(63)
        ties = torch.from_numpy(np.where(drawn, 1, -1).astype(np.int8))
        self.register_buffer("ties", ties, persistent=False)  # the seed makes them again

    @classmethod
    def build(
        cls,
        settings: Any,
        spec: Spec,
        *,
        saved: Mapping[str, Tensor] | None = None,
        earlier: Method | None = None,
    ) -> Self:
        if saved is None:
            method = cls(settings, spec, _known(cls, settings, spec, earlier))
            if isinstance(earlier, cls) and earlier.spec.n_features == spec.n_features:
                if method.known_outputs(earlier)[0]:  # batch normalisation included
                    method.head.load_state_dict(earlier.head.state_dict())
            return method
        if "centers" not in saved:
            raise ValueError("the weights must hold the centers of classes, 'centers' is missing")
        n_bits = cls.complete(settings, spec.n_classes).bits
        return cls(settings, spec, saved["centers"].cpu()[:, :n_bits])

    def known_outputs(self, earlier: Method) -> tuple[list[int], list[int]]:
        """All, where the classes of the earlier one are known here and have the same centers."""
        if not isinstance(earlier, CenterMethod) or earlier.n_outputs != self.n_outputs:
            return [], []
        names = _names(self.spec)
        if not set(_names(earlier.spec)) <= set(names):
            return [], []
        places = [names.index(name) for name in _names(earlier.spec)]
        same = torch.equal(self.centers[places].cpu(), earlier.centers.cpu())
        every = list(range(self.n_outputs)) if same else []
        return every, every

    def class_scores(self, outputs: Tensor) -> Tensor:
        """Inner products of outputs and centers."""
        outputs = in_full(outputs)
        return outputs @ self.centers.to(outputs.dtype).T


def _names(spec: Spec) -> tuple[str, ...]:
    return spec.class_names or tuple(map(str, range(spec.n_classes)))


def _known(cls: type[CenterMethod], settings: Any, spec: Spec, earlier: Method | None) -> Tensor | None:
    """The centers of an earlier method with classes added; None where it has others, or knows other classes."""
    if not isinstance(earlier, CenterMethod) or earlier.name != cls.name:
        return None
    if settings.centers != earlier.settings.centers:
        return None
    names, old = _names(spec), _names(earlier.spec)
    lengths = cls.complete(settings, spec.n_classes).bits, settings.lengths
    if lengths != (earlier.n_bits, earlier.settings.lengths) or not set(old) <= set(names):
        return None
    places = [old.index(name) if name in old else None for name in names]
    if None in places and len(earlier.lengths) > 1:
        return None  # the farthest words need not be far apart in their first bits
    packed = dshc_fast.pack_codes((earlier.centers.cpu() > 0).numpy())
    book = Codebook(settings.centers, earlier.n_bits, packed, np.arange(len(packed) + 1), packed, radius=0)
    codes = codebooks.extended(book, places, seed=spec.seed).centers
    bits = np.unpackbits(codes, axis=1, count=earlier.n_bits, bitorder="little")
    return torch.from_numpy(np.where(bits == 1, 1, -1).astype(np.int8))


def _check_different(kind: str, bits: np.ndarray) -> None:
    packed = dshc_fast.pack_codes(np.ascontiguousarray(bits))
    seen: dict[bytes, int] = {}
    for number, code in enumerate(map(bytes, packed)):
        if code in seen:
            raise ValueError(
                f"centers must differ in their first {bits.shape[1]} bits, got equal ones of classes {seen[code]} and "
                f"{number} with centers = {kind!r}; take more bits, or 'separated'"
            )
        seen[code] = number
