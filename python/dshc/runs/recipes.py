"""What None means: settings by kind of input and by data set. Data, no code.

The later of these wins: what holds for all, the kind of input, the data set, the method (whose recipe is in its
class). An optimizer that is asked for brings its own learning rate.
"""

from __future__ import annotations

from typing import Any

__all__ = ["BY_DATA_SET", "BY_KIND", "BY_OPTIMIZER", "FOR_ALL"]

FOR_ALL: dict[str, Any] = {"data.flip": False, "data.crop": True, "data.standardize": True}
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
