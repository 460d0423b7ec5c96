"""DSHC for single-label data: a classifier over sub-classes, each of which owns a code.

Luo et al., *Deep Supervised Hashing by Classification*, section 3. The loss (equation 2) puts equal targets on all
sub-classes of the true class, so the network is free to spread a class over them; the code of an item is looked up
from the sub-classes it is most likely in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

import dshc_fast

from .. import codebooks
from ..codebooks import DEFAULT_STEPS, Codebook
from ..settings import setting
from .base import Method, Pass, Spec, Step, Training, count_right
from .nested import NestedSettings
from .subclasses import Assigner, KMeansAssigner, SinkhornAssigner

__all__ = ["DSHC"]


class DSHCSettings(NestedSettings):
    """Settings of DSHC."""

    name: Literal["dshc"] = "dshc"
    bits: int | None = setting(
        None,
        "code length in bits (default: 3 bits per class; separated: as few as separate)",
        ge=1,
        le=codebooks.MAX_BITS,
    )
    construction: Literal[codebooks.constructions()] | None = setting(  # type: ignore[valid-type]
        None, "how codes are laid out (default: cpbc from 3 bits per class on, else separated)"
    )
    threshold: int = setting(3, "kbc: least distance of a sub-code to the centers of other classes", ge=0)
    radius: int = setting(1, "sub-codes of a class are those within this distance of its center", ge=0)
    sub_codes: int | None = setting(
        None, "most sub-codes per class, the nearest to its center (default: all)", ge=1
    )
    search_steps: int = setting(
        DEFAULT_STEPS, "separated: steps of each search for a better code", ge=0, le=10**9
    )
    per_class: int | None = setting(None, "sub-codes used per class, those far apart (default: all)", ge=1)
    subclass: Literal["uniform", "learned"] = setting(
        "uniform", "what a sub-class means: nothing (the paper's loss) or learned"
    )
    assignment: Literal["kmeans", "sinkhorn"] = setting(
        "kmeans", "learned: how items are assigned to sub-classes of their class"
    )
    assigned_share: float = setting(0.5, "learned: share of the target on the assigned sub-class", gt=0, le=1)
    queue: int = setting(
        0, "learned by sinkhorn: recent items per class balanced with the batch", ge=0, le=10**6
    )
    topk: int = setting(1, "sub-classes whose codes are averaged; 0: the center of the likeliest class", ge=0)
    weighting: Literal["mean", "probability"] = setting("mean", "weights of that average")
    rounding: Literal["majority", "dithered"] = setting(
        "majority", "of the average to bits; dithered: an item between classes gets a code between theirs"
    )
    temperature: float = setting(
        1.0, "dithered: logits are divided by it before they are probabilities", gt=0
    )
    target: Literal["normalized", "paper"] = setting(
        "normalized", "weight of a sub-class in the loss: 1/m_c or the paper's 1/H"
    )
    head: Literal["linear", "identity"] = setting(
        "linear", "layer behind the features; identity: they are the logits already"
    )
    label_smoothing: float | None = setting(
        None, "share of the target that is spread over all sub-classes (default: 0)", ge=0, lt=1
    )


class DSHC(Method):
    """DSHC over the sub-classes of a codebook.

    * ``topk``: an item's code is the sign of the mean code of its ``topk`` likeliest sub-classes, a tied bit taking
      the first one's. 1 reproduces the paper's figures. 0: the center of the likeliest class, which is better where
      classes are closer than sub-classes (fewer than 3 bits per class). From 3 on a CPBC vote returns the center too
      wherever the sub-classes agree on the class.
    * ``rounding="dithered"``: the average is over all sub-classes, by their probabilities, and each bit has a threshold
      of its own, which lie evenly between never and always (and do so for the first so many bits). An item of two
      thirds one class and one third another so gets about two thirds of the bits in which they differ from the one and
      a third from the other, where a majority takes all from the one. Where classes are mistaken for each other, this
      ranks much better (docs/methods.md says by how much). ``temperature``, the weight to tune then, is a matter of
      validation: less than 1 for a network that is less sure than it is right.
    * ``target``: weight of each sub-class of the true class in the loss. ``"normalized"``: 1/m_c, so that weights sum
      to one; ``"paper"``: 1/H for H bits per class, which multiplies the loss by about the number of classes.
    * ``lengths``: the first so many bits of a code are a code too. The loss is the same, whatever the lengths: they are
      in the codebook alone, whose first bits are as far apart as they can be (``separated`` only).
    * ``subclass="learned"``: every training item is given a sub-class of its own class (``assignment``); that one
      then gets the share ``assigned_share`` of the target and the rest is equal as before, so that the class-level
      part of the loss stays what it is.
    """

    name: ClassVar[str] = "dshc"
    title: ClassVar[str] = "Deep Supervised Hashing by Classification"
    source: ClassVar[str] = (
        "Luo et al., Deep Supervised Hashing by Classification, sections 3.2 and 3.3, equation 2"
    )
    Settings = DSHCSettings
    label_kinds = ("ids",)
    code_settings = ("radius", "sub_codes", "per_class", "threshold", "lengths")
    quality: ClassVar[str | None] = "accuracy"

    def __init__(self, settings: DSHCSettings, spec: Spec, codebook: Codebook) -> None:
        settings = settings.replaced(construction=codebook.construction)
        super().__init__(settings, spec)
        if codebook.n_classes != spec.n_classes:
            raise ValueError(f"codebook must have {spec.n_classes} classes, got {codebook.n_classes}")
        _check(settings, codebook)
        self._codebook = codebook
        self.n_bits, self.n_outputs = codebook.n_bits, codebook.n_subclasses
        self.target: Literal["normalized"] | float = (
            1 / (self.n_bits // spec.n_classes) if settings.target == "paper" else "normalized"
        )
        # Of cpbc, whose classes all have as many sub-classes.
        n_each = self.n_outputs / spec.n_classes
        self._target_sum = 1.0 if self.target == "normalized" else self.target * n_each
        if settings.head == "identity" and spec.n_features != self.n_outputs:
            raise ValueError(
                f"head must be 'linear' where {spec.n_features} features are not {self.n_outputs} sub-classes"
            )
        linear = settings.head == "linear"
        self.head = nn.Linear(spec.n_features, self.n_outputs) if linear else nn.Identity()
        self.register_buffer("codes", torch.from_numpy(codebook.codes.copy()))
        self.register_buffer("centers", torch.from_numpy(codebook.centers.copy()))
        self.register_buffer("offsets", torch.from_numpy(codebook.class_offsets.copy()))
        ids = np.arange(codebook.n_classes, dtype="<i4").view(np.uint8).reshape(-1, 4)
        self.register_buffer("class_ids", torch.from_numpy(ids.copy()), persistent=False)
        self.register_buffer("single", torch.arange(codebook.n_subclasses + 1), persistent=False)
        whole = torch.tensor([0, codebook.n_subclasses])
        self.register_buffer("whole", whole, persistent=False)
        thresholds = _dithering(self.n_bits)
        self.register_buffer("dithering", thresholds, persistent=False)
        self._assigners: list[Assigner] = []  # in a list, for it is training state and no part of the model

    @classmethod
    def build(
        cls,
        settings: Any,
        spec: Spec,
        *,
        saved: Mapping[str, Tensor] | None = None,
        earlier: Method | None = None,
    ) -> Self:
        asked, settings = settings, cls.complete(settings, spec.n_classes)
        if saved is None:
            if settings.target == "paper" and (settings.sub_codes, settings.radius) != (None, 1):
                raise ValueError(
                    "target must be 'normalized' with sub_codes or another radius: the paper's 1/H is for a center and "
                    f"its neighbours, got {settings.sub_codes} and {settings.radius}"
                )
            return cls(settings, spec, _extended(earlier, asked, spec) or make_codebook(settings, spec))
        try:
            arrays = [saved[name].cpu().numpy() for name in ("codes", "offsets", "centers")]
        except KeyError as error:
            raise ValueError(f"the weights must hold the codes of sub-classes, {error} is missing") from None
        return cls(
            settings, spec, Codebook(settings.construction, settings.bits, *arrays, radius=settings.radius)
        )

    @classmethod
    def defaults(cls, settings: Any, n_classes: int) -> dict[str, Any]:
        """cpbc where a class has its 3 bits, by which it separates classes; else ``separated``, which needs fewer.

        Nested lengths are separated in the first bits too.
        """
        construction, bits = settings.construction, settings.bits
        if construction is None and settings.lengths is not None:
            construction = "separated"
        if construction is None:
            short = codebooks.is_short(n_classes, bits) and settings.target == "normalized"
            construction = "separated" if short else "cpbc"
        if bits is None:
            bits = codebooks.default_bits(n_classes, construction, settings.radius)
        return {"construction": construction, "bits": bits}

    @classmethod
    def weight_to_tune(cls, settings: Any) -> str | None:
        """The temperature, where there is one; the paper's method has no weight."""
        return "temperature" if settings.rounding == "dithered" else None

    def known_outputs(self, earlier: Method) -> tuple[list[int], list[int]]:
        """Sub-classes with the same code, of classes that both know by name."""
        if not isinstance(earlier, DSHC):
            return [], []
        rows: list[int] = []
        old_rows: list[int] = []
        book, old_book, names = self._codebook, earlier.codebook(), self.spec.class_names
        for old_class, name in enumerate(earlier.spec.class_names):
            if name not in names:
                continue
            own = {bytes(book.codes[i]): i for i in _rows_of(book, names.index(name))}
            for j in _rows_of(old_book, old_class):
                if (i := own.get(bytes(old_book.codes[j]))) is not None:
                    rows.append(i)
                    old_rows.append(j)
        return rows, old_rows

    def begin(self, training: Training) -> None:
        settings, offsets = self.settings, torch.from_numpy(self._codebook.class_offsets.copy())
        self._assigners = []
        if settings.subclass == "learned":
            sinkhorn = settings.assignment == "sinkhorn"
            assigner = (
                SinkhornAssigner(offsets, queue=settings.queue) if sinkhorn else KMeansAssigner(offsets)
            )
            self._assigners = [assigner.to(training.device)]

    def begin_epoch(self, everything: Pass) -> None:
        for assigner in self._assigners:
            assigner.start_epoch(everything.features, everything.labels, everything.generator)

    def loss(self, outputs: Tensor, step: Step) -> Tensor:
        """Equation 2; with learned sub-classes, the assigned one's share of the target moved onto it."""
        loss = dshc_fast.class_softmax_loss(outputs, step.labels, self.offsets, target=self.target)
        for assigner in self._assigners:
            # A class of its own for every sub-class makes the same kernel plain cross-entropy.
            rows = (step.gather(part) for part in (outputs, step.labels, step.items))
            assigned = assigner(*rows)[step.own]
            tilted = dshc_fast.class_softmax_loss(outputs, assigned, self.single)
            loss = (1 - self.settings.assigned_share) * loss + self.settings.assigned_share * tilted
        if share := self.settings.label_smoothing:
            # One class that owns everything: the mean over all sub-classes.
            anything = dshc_fast.class_softmax_loss(outputs, torch.zeros_like(step.labels), self.whole)
            loss = (1 - share) * loss + share * self._target_sum * anything
        return loss

    def encode(self, outputs: Tensor) -> Tensor:
        if self.settings.rounding == "dithered":
            return dshc_fast.pack_codes(self.relaxed(outputs) - self.dithering)  # which refuses NaN
        if self.settings.topk == 0:
            return dshc_fast.center_codes_from_logits(outputs, self.offsets, self.centers)
        return dshc_fast.codes_from_logits(
            outputs, self.codes, self.settings.topk, weighting=self.settings.weighting
        )

    def relaxed(self, outputs: Tensor) -> Tensor:
        """The mean code under the probabilities of all sub-classes, bits being -1 and 1 (section 3.3, unrounded)."""
        bits = dshc_fast.unpack_codes(self.codes, self.n_bits, signed=True).float()
        return (outputs.float() / self.settings.temperature).softmax(1) @ bits

    def predict(self, outputs: Tensor) -> Tensor:
        """The likeliest class, its probability being the sum over its sub-classes."""
        # With its own number as its "center", the likeliest class comes out of one kernel.
        ids = dshc_fast.center_codes_from_logits(outputs, self.offsets, self.class_ids)
        return ids.view(torch.int32).reshape(-1).long()

    def tally(self, predictions: Tensor, labels: Tensor) -> Tensor:
        return count_right(predictions, labels)

    def training_state(self) -> dict[str, Tensor]:
        return {name: value for a in self._assigners for name, value in a.state().items()}

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        if not self._assigners:
            return super().load_training_state(state)
        self._assigners[0].load_state(state)

    def codebook(self) -> Codebook:
        """The codes of its sub-classes."""
        return self._codebook


def _dithering(n_bits: int) -> Tensor:
    """Thresholds of ``n_bits`` bits between -1 and 1, float32: multiples of the golden ratio, without their whole part.

    Those of any first bits lie apart almost evenly.
    """
    golden = (math.sqrt(5) - 1) / 2
    places = torch.arange(1, n_bits + 1, dtype=torch.float64)
    return (2 * (places * golden).frac() - 1).float()


def _rows_of(book: Codebook, c: int) -> range:
    """The sub-classes of a class."""
    return range(int(book.class_offsets[c]), int(book.class_offsets[c + 1]))


def make_codebook(settings: DSHCSettings, spec: Spec) -> Codebook:
    """The codebook that settings ask for."""
    settings = DSHC.complete(settings, spec.n_classes)
    book = codebooks.build(
        settings.construction,
        spec.n_classes,
        settings.bits,
        seed=spec.seed,
        threshold=settings.threshold,
        radius=settings.radius,
        sub_codes=settings.sub_codes,
        search_steps=settings.search_steps,
        lengths=settings.shorter(settings.bits),
    )
    return book if settings.per_class is None else book.thinned(settings.per_class)


def _extended(earlier: Method | None, settings: DSHCSettings, spec: Spec) -> Codebook | None:
    """The codebook of an earlier DSHC with classes added; None where other codes are asked for or it knows others."""
    if not isinstance(earlier, DSHC) or settings.bits not in (None, earlier.n_bits):
        return None
    if settings.construction not in (None, earlier.codebook().construction):
        return None
    if any(getattr(settings, name) != getattr(earlier.settings, name) for name in DSHC.code_settings):
        return None
    names = earlier.spec.class_names
    if not set(names) <= set(spec.class_names):
        return None
    places = [names.index(name) if name in names else None for name in spec.class_names]
    if None in places and settings.lengths is not None:
        return None  # the farthest words need not be far apart in their first bits
    sizes = {"sub_codes": settings.sub_codes, "per_class": settings.per_class}
    return codebooks.extended(earlier.codebook(), places, seed=spec.seed, **sizes)


def _check(settings: DSHCSettings, codebook: Codebook) -> None:
    """Refuse settings that do not go together; what a single one may be is in its field."""
    if settings.bits not in (None, codebook.n_bits):
        raise ValueError(f"bits must be {codebook.n_bits} for this codebook, got {settings.bits}")
    if settings.topk > codebook.n_subclasses:
        raise ValueError(
            f"topk must be at most {codebook.n_subclasses} (the number of sub-classes), got {settings.topk}"
        )
    if settings.rounding == "dithered" and (settings.topk, settings.weighting) != (1, "mean"):
        raise ValueError(
            "topk and weighting must be left out with rounding = 'dithered', which averages over all sub-classes; got "
            f"{settings.topk} and {settings.weighting!r}"
        )
    if settings.rounding == "majority" and settings.temperature != 1:
        raise ValueError(f"temperature must be 1 with rounding = 'majority', got {settings.temperature}")
    if settings.target == "paper":
        if settings.per_class is not None:
            raise ValueError(
                "target must be 'normalized' with per_class: the paper's 1/H is for all codes of a class"
            )
        if codebook.construction != "cpbc":
            raise ValueError(f"target must be 'normalized' with {codebook.construction}: 1/H is cpbc's")
    if settings.subclass == "uniform":
        return
    if settings.target != "normalized":
        raise ValueError(f"target must be 'normalized' with subclass = 'learned', got {settings.target!r}")
    if codebook.n_subclasses == codebook.n_classes:
        raise ValueError(
            "per_class must leave some class two sub-classes with subclass = 'learned', got one for each"
        )
    if settings.queue and settings.assignment == "kmeans":
        raise ValueError(f"queue must be 0 with assignment = 'kmeans', got {settings.queue}")
