"""What None means: settings by kind of input and by data set. Data, no code.

The later of these wins: what holds for all, the kind of input, the trained weights that photos start from, the data
set, the method (whose recipe is in its class), that nothing is augmented. An optimizer that is asked for brings its own
learning rate.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BY_DATA_SET",
    "BY_FINETUNE",
    "BY_KIND",
    "BY_OPTIMIZER",
    "FOR_ALL",
    "LEAST_STEPS",
    "NOT_AUGMENTED",
]

FOR_ALL: dict[str, Any] = {"data.flip": False, "data.crop": True, "data.standardize": True}
# Embeddings, images whose features are computed once, and whatever a method is only fitted to.
NOT_AUGMENTED: dict[str, Any] = {"data.augment": "none", "data.crop": False, "data.flip": False}
BY_KIND: dict[str, dict[str, Any]] = {
    "features": {
        "encoder.backbone": "mlp",
        "encoder.width": 512,
        "optim.epochs": 40,
        "optim.batch_size": 128,
        "optim.optimizer": "adamw",
        "optim.lr": 2e-3,
    },
    "images": {
        "encoder.backbone": "small_net",
        "encoder.width": 64,
        "optim.epochs": 30,
        "optim.batch_size": 128,
        "optim.optimizer": "sgd",
        "optim.lr": 0.1,
    },
}
_FINE_TUNED: dict[str, Any] = {
    "data.flip": True,
    "method.label_smoothing": 0.2,
    "optim.batch_size": 64,
    "optim.optimizer": "adamw",
    "optim.lr": 1e-3,
    "optim.backbone_lr": 3e-4,
    "optim.epochs": 12,
}
# Photos with a backbone that starts from trained weights, by what of it is trained.
BY_FINETUNE: dict[str, dict[str, Any]] = {
    "none": {
        "encoder.width": 512,
        "method.label_smoothing": 0.2,
        "optim.batch_size": 128,
        "optim.optimizer": "adamw",
        "optim.lr": 1e-3,
        "optim.epochs": 30,
    },
    "last": _FINE_TUNED,
    "all": _FINE_TUNED,
}
# Steps that a training takes at least, by what is trained: an epoch of a small set has few. Named sets have epochs of
# their own.
LEAST_STEPS: dict[str, int] = {"none": 400, "last": 200, "all": 200, "features": 600, "images": 1000}
BY_DATA_SET: dict[str, dict[str, Any]] = {
    "digits": {"encoder.width": 32, "optim.epochs": 30, "optim.batch_size": 64},
    "mnist": {"encoder.width": 32, "optim.epochs": 8},
    # Without crops the training images, which are the database, are classified nearly all right; mAP is about the
    # product of query and database accuracy, so that this is worth more than the last tenths on the queries.
    "fashion-mnist": {"encoder.width": 48, "optim.epochs": 12, "data.flip": True, "data.crop": False},
    "cifar10": {"data.flip": True},
    "cifar100": {"data.flip": True},
    "cifar100-coarse": {"data.flip": True},
}
BY_OPTIMIZER: dict[str, float] = {"sgd": 0.1, "adamw": 2e-3, "rmsprop": 1e-3, "muon": 2e-3}
