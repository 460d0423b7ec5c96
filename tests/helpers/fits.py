"""Methods that are fitted to features, and features to fit them to."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dshc import methods
from dshc.methods import Pass, Spec

__all__ = ["a_pass", "bits_of", "blobs", "fitted", "generator"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(n: int, d: int, seed: int = 0) -> Tensor:
    """Correlated features far from the origin."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(n, d)) @ random.normal(size=(d, d)) + random.normal(size=d) * 5
    return torch.from_numpy(values).float()


def a_pass(features: Tensor, seed: int = 0) -> Pass:
    return Pass(lambda: features, lambda: features, None, generator(seed))


def fitted(name: str, features: Tensor, bits: int, seed: int = 0, **values: Any) -> Any:
    method = methods.get(name)
    built = method.build(method.Settings(bits=bits, **values), Spec(0, "none", features.shape[1]))
    built.finish(a_pass(features, seed))
    return built


def bits_of(method: Any, features: Tensor) -> np.ndarray:
    """The bits of the codes, bool ``(n, n_bits)``."""
    codes = method.encode(method.head(features)).numpy()
    return np.unpackbits(codes, axis=1, count=method.n_bits, bitorder="little").astype(bool)
