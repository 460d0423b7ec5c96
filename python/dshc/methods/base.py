"""The seam between a hashing method and everything around it: what a method states, is asked for and is told.

A method is a file of this folder: its settings, its loss and its coding rule, entered in the table of
``methods/__init__.py`` (other packages: by the entry point ``dshc.methods``). It is a module that holds the head,
the layers behind the features, and whatever else it has found that a code depends on: a rotation, centers,
thresholds. All of that is in its ``state_dict``, and with it in a saved :class:`dshc.Hasher`. What is needed only to
go on training, such as a bank of all items' outputs, is in :meth:`Method.training_state` and goes into checkpoints
alone.

docs/adding-a-method.md walks through the smallest one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..settings import Settings, setting

if TYPE_CHECKING:
    from ..data.pairs import Pairs

__all__ = [
    "LabelKind",
    "Method",
    "MethodSettings",
    "Pass",
    "PerClass",
    "Spec",
    "Stage",
    "Step",
    "Training",
]

MAX_BITS = 4096
LabelKind = Literal["ids", "multi-hot", "none", "pairs"]


class MethodSettings(Settings):
    """The settings that every method has; a method's own are a subclass, with its name as ``name``."""

    name: str
    bits: int | None = setting(None, "code length in bits (default: as the method has it)", ge=1, le=MAX_BITS)


@dataclass(frozen=True)
class Spec:
    """What a method is built for; saved with it, so that it is built again without the data.

    ``n_classes`` classes or labels (0: items without labels, or of which pairs are known), ``label_kind`` of the items,
    ``n_features`` of the backbone, ``class_names``, and ``seed`` for whatever a method draws when it is built.
    """

    n_classes: int
    label_kind: LabelKind
    n_features: int
    class_names: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Stage:
    """A stretch of a training: its name and its length, in epochs or in iterations (steps)."""

    name: str
    epochs: int | None = None
    iterations: int | None = None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.iterations is None):
            raise ValueError(
                f"stage {self.name!r} must have a length in epochs or in iterations, and not both"
            )
        length = self.epochs if self.epochs is not None else self.iterations
        if length is None or length < 1:
            raise ValueError(f"stage {self.name!r} must last at least 1, got {length}")


@dataclass(frozen=True)
class PerClass:
    """Batches made of ``n_items`` items of each of some classes, for losses over pairs or triplets."""

    n_items: int


class Step:
    """One step of a training, as :meth:`Method.loss` sees it.

    * ``labels``: of the batch, class ids int64 ``(b,)`` or multi-hot uint8 ``(b, n_classes)``; None without labels.
    * ``items``: int64 ``(b,)``, the rows' numbers among the training items, 0 to n_items - 1.
    * ``stage``: its name; ``epoch`` and ``iteration`` count from 0 over all stages; ``progress`` in [0, 1) is the
      share of all iterations that is done.
    * ``generator``: on the CPU, of this step and this process alone: whatever a loss draws comes from it, but for
      what all processes must keep alike.
    * ``gather(tensor)``: the rows of all processes, ``(b * processes, ...)``, in their order, without gradients;
      ``own`` says which of them are this process's.
    * ``averaged_outputs()``: the batch's outputs by the averaged weights, where they are kept (``ema``), else None.
    """

    # A plain class: containers and dataclasses are copied on the way through a wrapped module.
    def __init__(
        self,
        *,
        labels: Tensor | None,
        items: Tensor,
        stage: str = "train",
        epoch: int = 0,
        iteration: int = 0,
        progress: float = 0.0,
        generator: torch.Generator | None = None,
        gather: Callable[[Tensor], Tensor] = lambda rows: rows.detach(),
        own: slice = slice(None),
        averaged_outputs: Callable[[], Tensor | None] = lambda: None,
    ) -> None:
        self.labels, self.items = labels, items
        self.stage, self.epoch, self.iteration, self.progress = stage, epoch, iteration, progress
        self.generator = generator or torch.Generator().manual_seed(0)
        self.gather, self.own = gather, own
        self.averaged_outputs = averaged_outputs


@dataclass(frozen=True)
class Training:
    """What only a training knows: its items, their labels (on ``device``) or pairs, and a generator on the CPU."""

    n_items: int
    labels: Tensor | None
    generator: torch.Generator
    device: torch.device
    pairs: Pairs | None = None


@dataclass(frozen=True)
class Pass:
    """A look at all training items with the weights as they are, in evaluation mode and in item order.

    ``features()`` float32 ``(n_items, n_features)`` and ``outputs()`` float32 ``(n_items, n_outputs)`` are computed
    when first asked for, gathered over processes, and equal however many there are. ``labels`` are of all items;
    ``epoch`` and ``stage`` say where the training stands; ``generator`` is on the CPU.
    """

    features: Callable[[], Tensor]
    outputs: Callable[[], Tensor]
    labels: Tensor | None
    generator: torch.Generator
    epoch: int = 0
    stage: str = "train"


class Method(nn.Module, ABC):
    """A head, a loss over its outputs, and the rule that turns outputs into codes (and, where it can, predictions).

    ``outputs`` is everywhere float ``(b, n_outputs)``. Class attributes: ``name``; ``title`` and ``source`` (paper and
    equation) for ``dshc methods``; ``Settings``; ``label_kinds`` it takes; ``score``, by which its codes are ranked
    (``"hamming"`` or ``"overlap"``); ``quality``, the name of what :meth:`tally` counts (None: it predicts nothing;
    an instance may have its own, by the labels it is for); ``recipe``, its own defaults for settings of other tables,
    by ``"table.name"``; ``main_weight``, the setting that a fair comparison tunes beside the learning rate (None: it
    has no such weight); ``bit_per_label``, whether codes have a bit per label, hence one length; ``code_settings``,
    which settings decide the codes of classes: a training that starts from another has that one's in place of its own
    defaults. An instance has
    ``settings``, ``spec``, ``n_bits``, ``n_outputs`` and ``head``.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    Settings: ClassVar[type[MethodSettings]]
    label_kinds: ClassVar[tuple[LabelKind, ...]]
    score: ClassVar[str] = "hamming"
    quality: str | None = None
    recipe: ClassVar[Mapping[str, Any]] = {}
    main_weight: ClassVar[str | None] = None
    bit_per_label: ClassVar[bool] = False
    code_settings: ClassVar[tuple[str, ...]] = ()

    n_bits: int
    n_outputs: int
    head: nn.Module

    def __init__(self, settings: MethodSettings, spec: Spec) -> None:
        super().__init__()
        if spec.label_kind not in self.label_kinds:
            raise ValueError(
                f"method {self.name} must be given {' or '.join(map(describe_labels, self.label_kinds))}, got "
                f"{describe_labels(spec.label_kind)}"
            )
        self.settings, self.spec = settings, spec

    @classmethod
    def build(
        cls,
        settings: MethodSettings,
        spec: Spec,
        *,
        saved: Mapping[str, Tensor] | None = None,
        earlier: Method | None = None,
    ) -> Method:
        """The method, its head included; ``saved`` is a state dict that will be loaded into it.

        ``earlier`` is the method of a hasher from which a training starts, perhaps with fewer classes: one that owns
        codes of classes keeps those of the known ones.

        A method whose shapes or tables depend on more than settings and spec takes them from ``saved`` where it is
        given, so that nothing is searched for again. The default takes settings and spec alone.
        """
        return cls(settings, spec)

    @classmethod
    def defaults(cls, settings: Any, n_classes: int) -> dict[str, Any]:
        """Values for those of its settings that the number of classes decides, by name: at least ``bits``.

        They hold where the setting is None.
        """
        return {"bits": 32}

    @classmethod
    def complete(cls, settings: Any, n_classes: int) -> Any:
        """Settings with :meth:`defaults` in the place of every None that they decide."""
        chosen = cls.defaults(settings, n_classes)
        return settings.replaced(**{n: v for n, v in chosen.items() if getattr(settings, n) is None})

    @classmethod
    def weight_to_tune(cls, settings: Any) -> str | None:
        """The main weight where a method has one under these settings."""
        return cls.main_weight

    @classmethod
    def is_fitted(cls) -> bool:
        """Whether it takes features as they are and trains nothing: its recipe leaves no network to train."""
        return cls.recipe.get("encoder.backbone") == "identity"

    def known_outputs(self, earlier: Method) -> tuple[list[int], list[int]]:
        """Outputs of this method and of an earlier one, of the same name and length, that stand for the same.

        A training that starts from the earlier one takes over their rows of the head. The default: all of them where
        the classes are the same.
        """
        same = self.spec.class_names == earlier.spec.class_names and self.n_outputs == earlier.n_outputs
        every = list(range(self.n_outputs)) if same else []
        return every, every

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        """The stages of a training of ``epochs`` epochs, in order; none for a method that is only fitted."""
        return (Stage("train", epochs=epochs),)

    @property
    def sampling(self) -> PerClass | None:
        """How batches are made; None: all items once an epoch, in random order."""
        return None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters, the head's or others, that want options of their own, as optimizers take them.

        Parameters named here are left out of the usual groups. ``lr_factor`` multiplies the learning rate.
        """
        return []

    def begin(self, training: Training) -> None:
        """Called once, before the first step or before a checkpoint is loaded, with what only training knows."""

    def begin_epoch(self, everything: Pass) -> None:
        """Called before the first step of every epoch, not where a resumed training goes on within one.

        Random is only what comes from the generator.
        """

    def loss(self, outputs: Tensor, step: Step) -> Tensor:
        """The loss of a batch, 0-d, differentiable in ``outputs``; a method without stages needs none."""
        raise ValueError(f"method {self.name} must be fitted by finish, it has no loss to train by")

    def finish(self, everything: Pass) -> None:
        """Find what is found once training ends, such as a rotation: called for every set of weights before it is
        validated and saved. What it changes must not disturb a training that goes on.
        """

    @abstractmethod
    def encode(self, outputs: Tensor) -> Tensor:
        """Packed codes, uint8 ``(b, ceil(n_bits / 8))``."""

    def relaxed(self, outputs: Tensor) -> Tensor | None:
        """The codes before they are codes, float ``(b, n_bits)``, whose signs or nearest codes they are: what is
        lost by binarising is measured against these. None where the method has no such thing.
        """
        return None

    def predict(self, outputs: Tensor) -> Tensor | None:
        """Class ids int64 ``(b,)``, or multi-hot bool ``(b, n_classes)``; None where the method predicts nothing."""
        return None

    def tally(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Numerator and denominator of ``quality``, int64 ``(2,)``; they add up over batches."""
        raise ValueError(f"predictions must come from a method that predicts, {self.name} predicts nothing")

    def training_state(self) -> dict[str, Tensor]:
        """What is needed to go on training and not to encode; kept in checkpoints."""
        return {}

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`training_state` gave, after :meth:`begin`."""
        if state:
            raise ValueError(f"{self.name} keeps no training state, got {', '.join(state)}")


def check_class_ids(labels: Tensor, n_classes: int) -> None:
    """Refuse class ids ``(b,)`` that are no int64 in 0 to ``n_classes`` - 1; multi-hot ``(b, C)`` pass.

    As an index -1 would be the last class, and bytes or truth values a mask. On a GPU the range is not looked at, which
    would wait for it.
    """
    if labels.ndim != 1:
        return
    if labels.dtype != torch.int64:
        raise TypeError(
            f"labels holding class ids must be int64, got {str(labels.dtype).removeprefix('torch.')}"
        )
    traced = torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(labels)
    if type(labels) is Tensor and labels.device.type == "cpu" and len(labels) and not traced:
        low, high = (int(end) for end in labels.aminmax())
        if low < 0 or high >= n_classes:
            raise ValueError(f"labels must lie in 0..{n_classes - 1}, got {low if low < 0 else high}")


def describe_labels(kind: str) -> str:
    """A kind of labels in words."""
    return {
        "ids": "one class per item",
        "multi-hot": "several labels per item",
        "none": "no labels",
        "pairs": "pairs of similar items",
    }[kind]


def in_full(outputs: Tensor) -> Tensor:
    """Outputs in the precision that losses are computed in: float64 as it is, everything else as float32."""
    return outputs if outputs.dtype == torch.float64 else outputs.float()


def count_right(predictions: Tensor, labels: Tensor) -> Tensor:
    """Right items and all items: the tally of accuracy."""
    right = (predictions == labels).sum()
    return torch.stack([right, torch.full_like(right, len(labels))])


def count_labels(predictions: Tensor, labels: Tensor) -> Tensor:
    """Twice the labels both predicted and true, and labels predicted plus true: the tally of micro F1."""
    labels = labels.bool()
    return torch.stack([2 * (predictions & labels).sum(), predictions.sum() + labels.sum()])
