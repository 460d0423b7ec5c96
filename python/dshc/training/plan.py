"""A training before its first step: everything that can be wrong about it is found here, and nothing is written."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .. import methods
from ..backbones import EncoderSettings, image_input
from ..backbones.enlarged import seen_shape
from ..backbones.probe import features_of
from ..data import Dataset, Split, is_photos
from ..data.batches import Batches, TensorFeatures, make_batches
from ..data.fetched_images import statistics_items
from ..data.samplers import epoch_order
from ..data.settings import DataSettings
from ..hasher import Hasher
from ..hasher.arithmetic import computed_in
from ..hasher.frozen import frozen_features
from ..methods import MethodSettings
from ..methods.base import Method, Stage, describe_labels
from .processes import Processes
from .seeding import generator
from .settings import OptimSettings, RuntimeSettings
from .start_from import check_fits, start_from

if TYPE_CHECKING:
    from ..data.pairs import Pairs

__all__ = ["Plan", "check_label_kind", "label_kind", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """A training that can start.

    ``whole`` is the hasher that comes of it, and ``hasher`` the part of it that is trained: all of it, or what is
    behind a frozen backbone, whose features :meth:`prepared` brings (``batches`` is None until then). ``labels`` of
    all items on the device, or None; ``batch_size`` items per step over all processes, ``n_steps`` per epoch;
    ``stages`` with the iteration (step over all epochs) each ends at.
    """

    hasher: Hasher
    whole: Hasher
    dataset: Dataset
    batches: Batches | None
    split: Split
    labels: Tensor | None
    optim: OptimSettings
    runtime: RuntimeSettings
    processes: Processes
    batch_size: int
    n_steps: int
    stages: tuple[tuple[Stage, int], ...]

    @property
    def n_total(self) -> int:
        """All steps of the training; 0 for a method that is only fitted."""
        return self.stages[-1][1] if self.stages else 0

    @property
    def n_epochs(self) -> int:
        return -(-self.n_total // self.n_steps)

    def size_at(self, epoch: int) -> int | None:
        """The side that an epoch's images are enlarged to instead of the network's ``input_size``; None: to that."""
        first = self.optim.first_epochs or self.n_epochs // 2
        return self.optim.first_size if epoch < first else None

    def prepared(self, check: Callable[[int], None] = lambda done: None) -> Plan:
        """This plan with what takes long before the first step: the features of a frozen backbone.

        ``check`` is told after every batch how many items have theirs, and may raise to stop there.
        """
        if self.batches is not None:
            return self
        features = frozen_features(self.whole, self.dataset, keep=self.processes.first, check=check)
        width, device = features.shape[1], self.processes.device
        known = {"mean": torch.zeros(width), "std": torch.ones(width), "device": device}
        return dataclasses.replace(self, batches=TensorFeatures(features, **known))

    @property
    def train_labels(self) -> Tensor | None:
        """Labels of the training items, in their order."""
        if self.labels is None:
            return None
        return self.labels[torch.from_numpy(self.split.train).to(self.labels.device)]

    @property
    def train_pairs(self) -> Pairs | None:
        """The pairs among the training items, numbered in their order."""
        return None if self.dataset.pairs is None else self.dataset.pairs.take(self.split.train)

    def order(self, epoch: int) -> Tensor:
        """Numbers of the training items in the order of an epoch, by its own generator."""
        sampling, labels = self.hasher.method.sampling, self.train_labels
        return epoch_order(
            len(self.split.train),
            generator(self.runtime.seed, epoch),
            labels=None if labels is None else labels.cpu(),
            sampler=self.optim.sampler,
            per_class=None if sampling is None else sampling.n_items,
            batch_size=self.batch_size,
        )

    def stage_at(self, iteration: int) -> str:
        """The name of the stage an iteration belongs to."""
        return next((stage.name for stage, end in self.stages if iteration < end), "end")


def label_kind(dataset: Dataset) -> methods.LabelKind:
    """The kind of a set's labels; ``"pairs"`` where it has these instead."""
    if dataset.labels is None:
        return "none" if dataset.pairs is None else "pairs"
    return "multi-hot" if dataset.multilabel else "ids"


def check_label_kind(kind: str, method: str) -> None:
    """Raise ``ValueError`` where a method cannot use labels of this kind, naming the methods that can."""
    if kind in methods.get(method).label_kinds:
        return
    fitting = [name for name in methods.available() if kind in methods.get(name).label_kinds]
    raise ValueError(
        f"method must be one of {', '.join(fitting)} for items with {describe_labels(kind)}, got {method!r}"
    )


def make_plan(
    dataset: Dataset,
    split: Split,
    *,
    data: DataSettings,
    encoder: EncoderSettings,
    method: MethodSettings,
    optim: OptimSettings,
    runtime: RuntimeSettings,
    processes: Processes,
    saved: dict[str, Tensor] | None = None,
    earlier: Hasher | None = None,
) -> Plan:
    """Plan a training of resolved settings on a split; draws the weights from the seed.

    ``saved``: the state dict of a checkpoint that will be loaded; ``earlier``: a hasher whose normalisation and
    weights the training starts from. Raises ``ValueError`` naming the setting that does
    not fit the data; warns where all items are of one class, and where bfloat16 is computed in float32.
    """
    _check_labels(dataset, method)
    device = processes.device
    if computed_in(runtime.precision, device) != runtime.precision:
        warnings.warn(
            f"precision {runtime.precision} must have a processor with it, got one without; float32 takes its place",
            stacklevel=3,
        )
    if earlier is not None:
        check_fits(earlier, dataset.kind, dataset.item_shape)
    frozen = encoder.finetune == "none"
    _check_first_size(optim, encoder, dataset)
    if saved is not None:  # and with it all that the training started from
        encoder = encoder.replaced(pretrained=None, weights=None)
        statistics = {name: saved[f"preprocessing.{name}"] for name in ("mean", "std")}
    elif earlier is not None:
        statistics = {"mean": earlier.preprocessing.mean.cpu(), "std": earlier.preprocessing.std.cpu()}
    elif dataset.kind == "images" and (known := image_input(encoder)) is not None:
        statistics = dict(zip(("mean", "std"), known.statistics(dataset.item_shape[2]), strict=True))
    else:
        photos = is_photos(data.source)  # the same ones whether they lie in memory or in files
        statistics = {"train_indices": statistics_items(split.train) if photos else split.train}
    if frozen and "train_indices" in statistics and encoder.weights is None:
        raise ValueError(
            "finetune must be 'all' where the backbone starts from random weights, got 'none'; pretrained, weights or "
            "start_from give it others"
        )
    batches = make_batches(
        dataset.inputs,
        **statistics,
        device="cpu" if frozen else device,
        crop=bool(data.crop),
        flip=bool(data.flip),
        standardize=data.standardize is not False,
        augment="none" if frozen else data.augment,
        workers=runtime.workers,
    )
    torch.manual_seed(runtime.seed)
    whole = Hasher.build(
        encoder,
        method,
        kind=dataset.kind,
        item_shape=dataset.item_shape,
        label_kind=label_kind(dataset),
        class_names=dataset.class_names,
        mean=batches.mean,
        std=batches.std,
        seed=runtime.seed,
        precision=runtime.precision,
        interpolation=data.interpolation or "bilinear",
        saved=saved,
        earlier=None if earlier is None else earlier.method,
    )
    if (first := optim.first_size) is not None:
        features_of(
            whole.backbone.at_size(),
            encoder.backbone or "",
            seen_shape(dataset.item_shape, first),
            "first_size",
        )
    if earlier is not None and saved is None:
        start_from(whole, earlier)
    whole.to(device).train()
    hasher = whole.behind_backbone() or whole
    stages = hasher.method.stages(optim.epochs or 1)
    n_steps, batch_size = _batches(len(split.train), optim, processes, hasher.method)
    ends = np.cumsum([stage.iterations or (stage.epochs or 0) * n_steps for stage in stages]).tolist()
    labels = None if dataset.labels is None else torch.from_numpy(dataset.labels).to(device)
    plan = Plan(
        hasher,
        whole,
        dataset,
        None if frozen else batches,
        split,
        labels,
        optim,
        runtime,
        processes,
        batch_size,
        n_steps,
        tuple(zip(stages, ends, strict=True)),
    )
    _check_first_epochs(plan)
    if stages:
        plan.order(0)  # thrown away: what the sampler refuses is refused before anything is written
    return plan


def _check_first_size(optim: OptimSettings, encoder: EncoderSettings, dataset: Dataset) -> None:
    """Refuse a size of the first epochs that no images can have."""
    if (first := optim.first_size) is None:
        if optim.first_epochs is not None:
            raise ValueError(f"first_epochs must go with first_size, got {optim.first_epochs}")
        return
    size = encoder.input_size
    if size is None or encoder.finetune == "none" or dataset.kind != "images":
        raise ValueError(f"first_size must go with input_size and a network that is trained, got {first}")
    side = max(dataset.item_shape[:2])
    if not side <= first < size:
        raise ValueError(
            f"first_size must be at least {side}, the side of the images, and below input_size {size}, got {first}"
        )


def _check_first_epochs(plan: Plan) -> None:
    """Refuse smaller first epochs that are none, or all."""
    if plan.optim.first_size is None:
        return
    if plan.n_epochs < 2:
        raise ValueError(f"first_size must go with at least 2 epochs, got {plan.n_epochs}")
    if (first := plan.optim.first_epochs) is not None and first >= plan.n_epochs:
        raise ValueError(f"first_epochs must be fewer than the {plan.n_epochs} epochs, got {first}")


def _batches(n_items: int, optim: OptimSettings, processes: Processes, method: Method) -> tuple[int, int]:
    """Steps per epoch and items per step: batches of equal size, at most the one asked for.

    The few items left over differ from epoch to epoch. Every process gets as many items per step, and where a method
    wants several items of each class in a batch, whole groups of them.
    """
    asked, group = optim.batch_size or 1, processes.size
    n_steps = -(-n_items // asked)
    if method.sampling is not None:
        group *= method.sampling.n_items
    batch_size = n_items // n_steps // group * group
    least = max(2 * processes.size, group)
    if method.stages(1) and n_items < least:
        raise ValueError(f"the training part must have at least {least} items, got {n_items}")
    if method.stages(1) and batch_size < least:
        share = f" for {processes.size} processes" if processes.size > 1 else ""
        raise ValueError(
            f"batch_size must leave at least {least} items per step{share} (batch normalisation needs 2 per process, "
            f"pairs their groups), got {asked}, which cuts {n_items} training items into smaller ones"
        )
    if group > processes.size:  # whole groups leave more over
        n_steps = n_items // max(batch_size, 1)
    return n_steps, max(batch_size, 1)


def _check_labels(dataset: Dataset, settings: MethodSettings) -> None:
    kind = label_kind(dataset)
    check_label_kind(kind, settings.name)
    if kind == "ids" and len(np.unique(dataset.labels)) == 1:
        warnings.warn(
            f"{dataset.name}: all {dataset.n_items} items are of one class; each is relevant to each, so that mAP "
            "is 1 whatever the codes",
            stacklevel=3,
        )
