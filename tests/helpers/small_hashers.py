"""Hashers with random weights, made in a moment, for the tests of what is done with a hasher."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from dshc import Hasher, methods
from dshc.backbones import EncoderSettings
from dshc.methods import Pass, Training

SHAPES = {"images": (8, 8, 3), "features": (12,)}
VALUES = {
    "dshc": {},
    "dshc-multilabel": {},
    "itq": {"bits": 6},
    "dpsh": {"bits": 11},
    "hashnet": {"bits": 16},
}
KINDS = {"dshc-multilabel": "multi-hot", "itq": "none"}


def a_hasher(name: str = "dshc", kind: str = "features", *, precision: str = "fp32", **values: Any) -> Hasher:
    """A hasher of five classes (none for itq, which is fitted to 60 items), in evaluation mode."""
    torch.manual_seed(3)
    label_kind = KINDS.get(name, "ids")
    width = 3 if kind == "images" else 1
    backbone = "small_net" if kind == "images" else "mlp"
    hasher = Hasher.build(
        EncoderSettings(backbone=backbone, width=4 if kind == "images" else 16),
        methods.get(name).Settings(**{**VALUES[name], **values}),
        kind=kind,
        item_shape=SHAPES[kind],
        label_kind=label_kind,
        class_names=() if label_kind == "none" else ("ant", "bee", "cat", "dog", "elk"),
        mean=torch.full((width if kind == "images" else 12,), 0.4),
        std=torch.full((width if kind == "images" else 12,), 0.3),
        precision=precision,
    )
    with torch.no_grad():  # so that outputs differ between items, as those of a trained network do
        for module in hasher.backbone.modules():
            if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                module.running_mean.normal_(0, 0.1)
    hasher.eval()
    if not hasher.method.stages(1):
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            inputs = hasher.preprocessing(torch.from_numpy(items_of(kind, 60, seed=5)))
            features = hasher.features(inputs)
        hasher.method.begin(Training(60, None, generator, torch.device("cpu")))
        hasher.method.finish(Pass(lambda: features, lambda: features, None, generator))
    return hasher


def items_of(kind: str, n: int = 9, seed: int = 0) -> np.ndarray:
    """Random items of a kind: uint8 ``(n, 8, 8, 3)``, each of its own colour, or float32 ``(n, 12)``."""
    random = np.random.default_rng(seed)
    if kind == "images":
        colours = random.integers(0, 256, (n, 1, 1, 3))
        return (colours * random.random((n, *SHAPES[kind]))).astype(np.uint8)
    return random.normal(size=(n, *SHAPES[kind])).astype(np.float32)
