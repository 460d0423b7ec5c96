"""One list of checks for every method, ours and those of other packages.

    from dshc import check_method
    check_method("mine")            # a name that dshc.methods knows, by entry point or otherwise

What it holds a method to is what everything around relies on: settings that describe themselves, a state dict that
holds all a code depends on, trainings that go on exactly where they were stopped.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import methods
from .data.pairs import Pairs
from .errors import InputError
from .hasher import Hasher
from .hasher.files import read_hasher
from .methods import LabelKind, Method, Spec, Step, Training
from .runs import RunSettings, load_run, train
from .settings import Settings

__all__ = ["check_method"]

N_ITEMS, N_CLASSES, N_FEATURES = 72, 3, 12


def check_method(name: str, **settings: Any) -> list[str]:
    """Check a method on a small set for every kind of labels that it accepts; returns what was checked, line by line.

    ``settings`` are set in every training (``check_method("dpsh", eta=1.0)``). Takes seconds. Raises
    ``AssertionError`` saying which check failed and how.
    """
    method = methods.get(name)
    done: list[str] = []
    with _check("settings describe themselves", done):
        _check_settings(method)
    for kind in method.label_kinds:
        with _check(f"{kind}: outputs, loss and codes", done):
            _check_alone(method, kind, settings)
        with tempfile.TemporaryDirectory() as folder:
            _check_runs(name, kind, Path(folder), settings, done)
    return done


@contextmanager
def _check(what: str, done: list[str]) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from error
    except (InputError, ValueError, TypeError, RuntimeError, KeyError) as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    done.append(what)


def _check_settings(method: type[Method]) -> None:
    assert issubclass(method.Settings, methods.MethodSettings), "Settings must be a MethodSettings"
    settings = method.Settings()
    assert settings.name == method.name, f"name must be {method.name!r} by default, got {settings.name!r}"
    for name, field in type(settings).model_fields.items():
        assert name == "name" or field.description, f"setting {name} must have a description"
    assert method.title and method.source, "title and source must say what the method is and where it is from"
    assert isinstance(settings, Settings)


def _check_alone(method: type[Method], kind: LabelKind, values: dict[str, Any]) -> None:
    settings = method.Settings(**{"bits": _bits(method), **values})
    has_labels = kind in ("ids", "multi-hot")
    spec = Spec(N_CLASSES if has_labels else 0, kind, N_FEATURES, ("a", "b", "c") if has_labels else ())
    torch.manual_seed(0)
    built = method.build(settings, spec)
    again = method.build(settings, spec, saved=built.state_dict(), earlier=None)
    again.load_state_dict(built.state_dict())
    features = torch.randn(N_ITEMS, N_FEATURES)
    outputs = built.head(features)
    assert outputs.shape == (N_ITEMS, built.n_outputs), (
        f"head must give (b, n_outputs), got {tuple(outputs.shape)}"
    )
    codes = built.encode(outputs.detach())
    width = -(-built.n_bits // 8)
    assert codes.dtype == torch.uint8 and codes.shape == (N_ITEMS, width), f"codes must be uint8 (b, {width})"
    if built.n_bits % 8:
        assert not (codes[:, -1] >> (built.n_bits % 8)).any(), "padding bits of codes must be 0"
    assert torch.equal(codes, again.encode(again.head(features).detach())), (
        "a state dict must hold all that codes need"
    )
    if not built.stages(1):
        return
    _, labels, pairs = _items(kind)
    targets = None if labels is None else torch.from_numpy(labels)
    items = torch.arange(N_ITEMS)

    def loss(of: Method) -> tuple[torch.Tensor, torch.Tensor]:
        of.begin(Training(N_ITEMS, targets, torch.Generator().manual_seed(0), torch.device("cpu"), pairs))
        leaf = outputs.detach().clone().requires_grad_()
        value = of.loss(leaf, Step(labels=targets, items=items))
        (gradient,) = torch.autograd.grad(value, leaf)
        return value.detach(), gradient

    value, gradient = loss(built)
    assert value.ndim == 0 and value.isfinite(), f"the loss must be one finite number, got {value}"
    assert gradient.isfinite().all() and gradient.any(), "the loss must have a finite gradient that is not 0"
    assert all(torch.equal(a, b) for a, b in zip((value, gradient), loss(again), strict=True)), (
        "the loss must be the same for the same outputs and step"
    )


def _check_runs(name: str, kind: LabelKind, folder: Path, values: dict[str, Any], done: list[str]) -> None:
    features, labels, pairs = _items(kind)
    data = folder / "data.npz"
    np.savez(data, features=features, **({} if labels is None else {"labels": labels}))
    if pairs is not None:
        np.save(folder / "pairs.npy", pairs.known.toarray() > 0)
        values = {**values, "data.pairs": str(folder / "pairs.npy")}
    settings = RunSettings.of(source=str(data), method=name, bits=_bits(methods.get(name)), threads=1)
    settings = settings.with_values(
        **{
            "epochs": 3,
            "batch_size": 16,
            "width": 16,
            "checkpoint_every": 1,
            "device": "cpu",
            "validation": 0.2,
        },
        **{name if "." in name else f"method.{name}": value for name, value in values.items()},
    )
    with _check(f"{kind}: trained, best and last both usable", done):
        run = train(settings.with_values(out=folder / "whole"))
        kept = [run.folder / f"{which}.safetensors" for which in ("best", "last")]
        kept = [path for path in kept if path.is_file()]
        assert kept, "a run must leave weights"
        for path in kept:
            assert len(Hasher.load(path, device="cpu").encode(features)) == N_ITEMS
    with _check(f"{kind}: stopped anywhere and resumed to the same bytes", done):
        n_checkpoints = _count(
            lambda tell: train(settings.with_values(out=folder / "counted"), on_event=tell)
        )
        for stop_at in sorted({1, max(n_checkpoints // 2, 1), n_checkpoints}):
            stopped = settings.with_values(out=folder / f"stopped-{stop_at}")
            _train_until(stopped, stop_at)
            train(stopped, resume=True)
            for path in kept:
                # The files bear their run's id, which differs; weights and the rest must not.
                _assert_same_weights(path, Path(str(stopped.out)) / path.name)
    with _check(f"{kind}: saved, loaded in a new process without the data, equal codes", done):
        expected = run.hasher.encode(features)
        run.hasher.save(folder / "saved")
        np.save(folder / "items.npy", features)
        data.unlink()
        assert np.array_equal(_encode_elsewhere(folder / "saved", folder / "items.npy"), expected), (
            "codes differ"
        )
        assert np.array_equal(load_run(run.folder, device="cpu").hasher.encode(features), expected), (
            "codes differ"
        )


def _items(kind: LabelKind) -> tuple[np.ndarray, np.ndarray | None, Pairs | None]:
    """Small, well separated items: features float32, and labels of the kind, or pairs."""
    rng = np.random.default_rng(0)
    ids = np.arange(N_ITEMS) % N_CLASSES
    features = (rng.normal(size=(N_ITEMS, N_FEATURES)) + 3 * np.eye(N_CLASSES, N_FEATURES)[ids]).astype(
        np.float32
    )
    if kind == "none":
        return features, None, None
    if kind == "pairs":
        both = np.argwhere(np.triu(np.ones((N_ITEMS, N_ITEMS), bool), 1))
        return features, None, Pairs.of(N_ITEMS, both, ids[both[:, 0]] == ids[both[:, 1]])
    if kind == "ids":
        return features, ids.astype(np.int64), None
    hot = np.eye(N_CLASSES, dtype=np.uint8)[ids]
    hot[::4, 0] = 1
    return features, hot, None


def _bits(method: type[Method]) -> int:
    """A short length that is no multiple of 8, where the method leaves the choice."""
    fixed = method.defaults(method.Settings(), N_CLASSES)["bits"]
    return fixed if fixed <= N_FEATURES else 10


class _Stop(Exception):
    """Raised in the middle of a training, as a kill would end it."""


def _count(run: Callable[[Callable[[str, dict[str, Any]], None]], Any]) -> int:
    seen: list[str] = []
    run(lambda event, _: seen.append(event))
    return seen.count("checkpoint")


def _train_until(settings: RunSettings, checkpoint: int) -> None:
    seen: list[str] = []

    def tell(event: str, _: dict[str, Any]) -> None:
        seen.append(event)
        if seen.count("checkpoint") == checkpoint:
            raise _Stop

    try:
        train(settings, on_event=tell)
    except _Stop:
        return
    raise AssertionError(f"the training had no checkpoint number {checkpoint}")


def _assert_same_weights(path: Path, other: Path) -> None:
    assert other.is_file(), f"{other.name} must be there after resuming"
    state, resumed = read_hasher(path)[0], read_hasher(other)[0]
    assert state.keys() == resumed.keys(), f"{path.name}: resuming must leave the same tensors"
    for name, tensor in state.items():
        assert torch.equal(tensor, resumed[name]), f"{path.name}: {name} differs after resuming"


def _encode_elsewhere(saved: Path, items: Path) -> np.ndarray:
    code = (
        "import json, sys, numpy; from dshc import Hasher;"
        "hasher = Hasher.load(sys.argv[1], device='cpu');"
        "print(json.dumps(hasher.encode(numpy.load(sys.argv[2])).tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(saved), str(items)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"a new process could not load it: {done.stderr[-500:]}"
    return np.array(json.loads(done.stdout), np.uint8)
