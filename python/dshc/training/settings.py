"""Settings of the optimisation and of the machine it runs on."""

from __future__ import annotations

from typing import Literal

from ..settings import Settings, setting
from .optimizers import OPTIMIZERS
from .schedules import SCHEDULES

__all__ = ["MAX_THREADS", "OptimSettings", "RuntimeSettings"]

MAX_THREADS = 1024
"""More CPU threads than any machine; torch dies of numbers far beyond."""


class OptimSettings(Settings):
    """How the weights are found. None is chosen by method and data when a run starts."""

    epochs: int | None = setting(None, "passes over the training items", ge=1, le=1_000_000)
    first_size: int | None = setting(
        None,
        "with input_size: a smaller side that the first epochs are trained at, in less time",
        later=True,
        ge=1,
        le=4096,
    )
    first_epochs: int | None = setting(None, "epochs of first_size (default: half of all)", later=True, ge=1)
    batch_size: int | None = setting(None, "items per step, over all processes", ge=1, le=1_000_000)
    optimizer: Literal[tuple(OPTIMIZERS)] | None = setting(None, "optimizer")  # type: ignore[valid-type]
    lr: float | None = setting(None, "peak learning rate", gt=0)
    backbone_lr: float | None = setting(
        None, "peak learning rate of the backbone (default: lr; where photos fine-tune it 0.3 lr)", gt=0
    )
    momentum: float = setting(0.9, "sgd, rmsprop, muon: momentum", ge=0, lt=1)
    weight_decay: float = setting(5e-4, "weight decay; not on biases and normalisation", ge=0)
    schedule: Literal[tuple(SCHEDULES)] = setting("cosine", "learning rate over time")  # type: ignore[valid-type]
    lr_factor: float = setting(0.1, "step: the rate is multiplied by this every lr_every epochs", gt=0, le=1)
    lr_every: int | None = setting(None, "step: epochs between two falls (default: a third of all)", ge=1)
    lr_end: float = setting(1e-4, "exponential: share of lr that is left at the end", gt=0, le=1)
    clip_norm: float | None = setting(None, "largest norm of all gradients together (default: none)", gt=0)
    accumulate: int = setting(
        1, "batches whose gradients are added before a step of the optimizer", ge=1, le=100_000
    )
    ema: float = setting(
        0.0, "weight averaging: share of the average kept at every step; 0: none", ge=0, lt=1
    )
    sampler: Literal["uniform", "balanced"] = setting(
        "uniform", "every item once an epoch, or every class equally often"
    )


class RuntimeSettings(Settings):
    """Seed, arithmetic and machine."""

    seed: int = setting(0, "seed of split, codebook, weights, order and augmentation", ge=0, le=2**63 - 1)
    precision: Literal["fp32", "bf16"] = setting(
        "fp32", "arithmetic; a CPU without bf16 computes in fp32 instead"
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to run", result=False)
    threads: int | None = setting(
        None, "CPU threads (default: as torch has it)", result=False, ge=1, le=MAX_THREADS
    )
    workers: int | None = setting(
        None,
        "processes that decode and augment training images (default: one per core with augment; 0: none)",
        result=False,
        ge=0,
        le=256,
    )
    checkpoint_every: int | None = setting(
        None, "steps between checkpoints (default: once an epoch)", result=False, ge=1
    )
    checkpoint_seconds: int = setting(
        0,
        "least seconds from one epoch whose checkpoint and weights are written to the next",
        result=False,
        ge=0,
    )
