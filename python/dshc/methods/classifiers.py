"""What methods that learn to tell classes share: predictions and how they are counted, losses over class scores, and a
classifier on top of the code.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, log_softmax

from .base import LabelKind, Method, Spec, Step, check_class_ids
from .signs import ROTATION, THRESHOLDS, SignMethod, SignSettings

__all__ = ["ClassifierMethod", "ClasswiseMethod", "check_labels", "cross_entropy_loss", "softmax_loss"]


class ClasswiseMethod(SignMethod):
    """A method that scores classes, and so predicts them.

    A method of its own states :meth:`class_scores`. ``qualities`` says what its predictions are measured by, for each
    kind of labels for which it predicts. Of items with one class, the class with the highest score is predicted; of
    items with several labels, those with a score of more than 0.

    A training that starts from another hasher with the same classes and length keeps what that knows about classes.
    """

    qualities: ClassVar[Mapping[LabelKind, str]] = {"ids": "accuracy", "multi-hot": "micro_f1"}
    quality = "accuracy"
    label_kinds = ("ids", "multi-hot")

    def __init__(self, settings: SignSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.quality = self.qualities.get(spec.label_kind)

    @classmethod
    def build(
        cls,
        settings: SignSettings,
        spec: Spec,
        *,
        saved: Mapping[str, Tensor] | None = None,
        earlier: Method | None = None,
    ) -> Method:
        method: Any = super().build(settings, spec, saved=saved, earlier=earlier)
        if isinstance(earlier, cls) and _have_same_outputs(method, earlier):
            own = method.state_dict()
            method.load_state_dict(
                {
                    name: tensor
                    for name, tensor in earlier.state_dict().items()
                    if name in own and own[name].shape == tensor.shape and not _is_of_codes(name)
                },
                strict=False,
            )
        return method

    @abstractmethod
    def class_scores(self, outputs: Tensor) -> Tensor:
        """A score of every class, float ``(b, n_classes)``, of outputs ``(b, n_bits)``."""

    def predict(self, outputs: Tensor) -> Tensor | None:
        if self.quality is None:
            return None
        scores = self.class_scores(outputs)
        return scores.argmax(1) if self.spec.label_kind == "ids" else scores > 0


class ClassifierMethod(ClasswiseMethod):
    """A method with a linear layer for classes on top of what becomes the code, one for each of ``lengths``.

    The head is linear too. A method of its own has ``class_loss``, a module called with outputs, labels and the
    classifier of the outputs' length, and states :meth:`visible`, what the classifiers see of outputs.
    """

    class_loss: nn.Module

    def __init__(self, settings: SignSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.head = nn.Linear(spec.n_features, self.n_bits)
        self.classifiers = nn.ModuleDict(
            {str(length): nn.Linear(length, spec.n_classes) for length in self.lengths}
        )

    def classifier(self, n_bits: int) -> nn.Linear:
        """The layer on top of codes of one of ``lengths``: ``(b, n_bits)`` to ``(b, n_classes)``."""
        return self.classifiers[str(n_bits)]

    def code_loss(self, outputs: Tensor, step: Step) -> Tensor:
        return self.class_loss(outputs, step.labels, self.classifier(outputs.shape[1]))

    @abstractmethod
    def visible(self, outputs: Tensor) -> Tensor:
        """What the classifier sees of the outputs, of the same shape."""

    def class_scores(self, outputs: Tensor) -> Tensor:
        layer = self.classifier(self.n_bits)
        return layer(self.visible(outputs.to(layer.weight.dtype)))


def softmax_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """-log p(label) by the soft-max over classes, averaged over an item's labels and then over items, 0-d.

    ``scores`` float ``(b, C)``; ``labels`` class ids int64 ``(b,)`` or multi-hot ``(b, C)``. An item without labels
    adds 0 and counts as an item. With one label per item this is cross-entropy.
    """
    check_labels(scores, labels)
    if labels.ndim == 1:
        return cross_entropy(scores, labels)
    hot = labels.to(scores.dtype)
    share = hot / hot.sum(1, keepdim=True).clamp(min=1)
    return -(share * log_softmax(scores, 1)).sum(1).mean()


def cross_entropy_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of class scores, 0-d: by the soft-max for class ids, by a sigmoid per label for multi-hot.

    ``scores`` float ``(b, C)``; ``labels`` class ids int64 ``(b,)``: the mean over items; or multi-hot ``(b, C)``: the
    mean over items and labels.
    """
    check_labels(scores, labels)
    if labels.ndim == 1:
        return cross_entropy(scores, labels)
    return binary_cross_entropy_with_logits(scores, labels.to(scores.dtype))


def check_labels(scores: Tensor, labels: Tensor) -> None:
    """Refuse labels that are not of the items or classes of ``scores`` ``(b, C)``."""
    b, n_classes = scores.shape
    if tuple(labels.shape) not in ((b,), (b, n_classes)):
        raise ValueError(f"labels must have shape ({b},) or ({b}, {n_classes}), got {tuple(labels.shape)}")
    if not b:
        raise ValueError("outputs must have at least one row, got none")
    check_class_ids(labels, n_classes)


def _have_same_outputs(method: SignMethod, earlier: SignMethod) -> bool:
    """Whether a training takes over the head of an earlier method, and with it what outputs mean."""
    return method.n_bits == earlier.n_bits and method.spec.class_names == earlier.spec.class_names


def _is_of_codes(name: str) -> bool:
    return name in (ROTATION, THRESHOLDS) or name.startswith("head.")
