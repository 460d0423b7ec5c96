"""``dshc doctor``: what is installed, what the core was built for, and whether it computes what it should."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
from collections.abc import Callable

import numpy as np
import torch

import dshc_fast

from .console import say, table

__all__ = ["run_doctor"]

OPTIONAL = {"timm": "backbones by name (extra: vision)", "torchvision": "with timm (extra: vision)"}
LIBRARIES = (
    "torch",
    "numpy",
    "lightning-fabric",
    "torchmetrics",
    "safetensors",
    "scikit-learn",
    "matplotlib",
    "typer",
)


def run_doctor(*, as_json: bool) -> bool:
    """Print versions, build and checks; returns whether every check passed."""
    facts = _facts()
    checks = {name: _outcome(check) for name, check in CHECKS.items()}
    passed = not any(checks.values())
    if as_json:
        say(json.dumps({"facts": facts, "checks": {name: error or "ok" for name, error in checks.items()}}))
        return passed
    table("This installation", ("part", "value"), list(facts.items()))
    table("Checks", ("check", "outcome"), [(name, error or "ok") for name, error in checks.items()])
    say(
        "all checks passed"
        if passed
        else "some checks failed: the numbers of this installation cannot be trusted"
    )
    return passed


def _facts() -> dict[str, str]:
    facts = {
        "dshc_fast": dshc_fast.__version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "threads": f"{torch.get_num_threads()} (torch.get_num_threads)",
    }
    build = dshc_fast.build_info()
    for key in sorted(build.keys() - {"version", "torch", "python", "platform", "n_threads"}):
        value = build[key]
        facts[f"core: {key}"] = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    facts["GPU"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none that torch can use"
    for name in LIBRARIES:
        facts[name] = _version(name) or "missing"
    for name, purpose in OPTIONAL.items():
        facts[name] = _version(name) or f"not installed; {purpose}"
    return facts


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _outcome(check: Callable[[], bool]) -> str:
    """Empty where the check holds, else what went wrong."""
    try:
        return "" if check() else "wrong result"
    except Exception as error:  # a broken part must not hide the state of the others
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((33, 100)), rng.standard_normal((517, 100))


def _packs() -> bool:
    values, _ = _data()
    codes = dshc_fast.pack_codes(values)
    expected = np.packbits(values > 0, axis=1, bitorder="little")
    return np.array_equal(codes, expected) and np.array_equal(dshc_fast.unpack_codes(codes, 100), values > 0)


def _ranks() -> bool:
    queries, database = _data()
    distances = ((queries > 0)[:, None] != (database > 0)[None]).sum(axis=2)
    order = np.argsort(distances, axis=1, kind="stable")[:, :50]
    found = dshc_fast.hamming_topk(dshc_fast.pack_codes(queries), dshc_fast.pack_codes(database), 50)
    sorted_distances = np.take_along_axis(distances, order, axis=1)
    return np.array_equal(found.indices, order) and np.array_equal(found.distances, sorted_distances)


def _measures() -> bool:
    """Distances 0, 1, 1, 2, 2, 2 with relevance 1, 0, 1, 1, 0, 0: AP worked out by hand is 49/60, and 97/108
    at 4.
    """
    database = np.array([[0b00], [0b01], [0b10], [0b11], [0b11], [0b11]], np.uint8)
    operands = np.zeros((1, 1), np.uint8), database, np.array([1]), np.array([1, 0, 1, 1, 0, 0])
    whole = dshc_fast.average_precision(*operands)[0]
    cut = dshc_fast.average_precision(*operands, k=4)[0]
    return abs(whole - 49 / 60) < 1e-12 and abs(cut - 97 / 108) < 1e-12


def _loses() -> bool:
    """The loss and its gradient against soft-max written out, in float64."""
    logits = torch.linspace(-2, 3, 24, dtype=torch.float64).reshape(4, 6).requires_grad_()
    labels, offsets = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 2, 6])
    target = torch.tensor([[0.5, 0.5, 0, 0, 0, 0], [0, 0, 0.25, 0.25, 0.25, 0.25]], dtype=torch.float64)[
        labels
    ]
    loss = dshc_fast.class_softmax_loss(logits, labels, offsets)
    expected = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    (gradient,) = torch.autograd.grad(loss, logits)
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    return torch.allclose(loss, expected, rtol=1e-12) and torch.allclose(
        gradient, expected_gradient, atol=1e-12
    )


CHECKS: dict[str, Callable[[], bool]] = {
    "packing against numpy": _packs,
    "ranking against a stable sort": _ranks,
    "average precision worked by hand": _measures,
    "loss and gradient against PyTorch": _loses,
}
