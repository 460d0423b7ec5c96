"""Code length on a hundred classes: the paper remarks that complex data need more bits, without a figure."""

from __future__ import annotations

from typing import Any

from ..backbones.pretrained import PACKAGED
from ..runs import Run, RunSettings
from .bench import Bench
from .experiment import Experiment
from .lengths import length_tables
from .page import Page

__all__ = ["CODEBOOKS", "EXPERIMENTS"]

CODEBOOKS = (*(("separated", bits) for bits in (10, 14, 20, 32, 64)), ("cpbc", 100))
_NETWORK: dict[str, Any] = {
    "protocol": "official",
    "validation": 0.0,
    "method": "dshc",
    "construction": "separated",
    "bits": 32,
    "crop": True,
    "flip": True,
    "backbone": f"timm:{PACKAGED}",
    "pretrained": True,
    "finetune": "all",
    "precision": "bf16",
    "input_size": 64,
    "batch_size": 128,
    "optimizer": "adamw",
    "lr": 1e-3,
    "backbone_lr": 1e-3,
    "label_smoothing": 0.0,
    "epochs": 8,
    "checkpoint_seconds": 60,
}
_HEAD: dict[str, Any] = {"finetune": "none", "epochs": 10, "validation": 0.0, "protocol": "official"}


def _network(bench: Bench) -> Run:
    return bench.network("cifar100-network", bench.settings("cifar100", **_NETWORK))


def _page(bench: Bench) -> Page:
    run = _network(bench)

    def head(construction: str, bits: int) -> RunSettings:
        start = str(run.folder.resolve())
        return bench.settings("cifar100", construction=construction, bits=bits, start_from=start, **_HEAD)

    tables, found = length_tables(bench, head, {"network": run.digest}, CODEBOOKS, with_paper=False)
    about = (
        "10,000 test images are the queries, 50,000 training images the database. An ImageNet-pretrained "
        f"EfficientNet-Lite0, trained for {_NETWORK['epochs']} epochs at {_NETWORK['input_size']} pixels by DSHC at "
        f"{_NETWORK['bits']} bits; every row is a head of its own on its features, {_HEAD['epochs']} epochs. The paper "
        "has no experiment on CIFAR-100; it remarks that complex data need more bits."
    )
    return Page("Code length on CIFAR-100", about, tables, found)


EXPERIMENTS = (
    Experiment(
        "lengths-cifar100",
        "code length on a hundred classes",
        "its remark that complex data need more bits",
        ("cifar100",),
        "40 minutes on 2 cores with bfloat16, other work beside",
        _page,
    ),
)
