"""Small data and small trained runs for the tests of the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from dshc.cli.app import app

N_CLASSES, PER_CLASS, N_FEATURES = 3, 40, 12


def dshc(*arguments: object) -> tuple[int, str]:
    """Run a command in this process: its exit code, and what it printed to stdout and stderr together."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def dshc_ok(*arguments: object) -> str:
    """What a command printed, which must have succeeded."""
    code, output = dshc(*arguments)
    assert code == 0, output
    return output


def dshc_fails(*arguments: object) -> str:
    """The one line with which a command must refuse its input."""
    code, output = dshc(*arguments)
    lines = output.splitlines()
    assert code == 2, f"exit code {code}: {output}"
    assert len(lines) == 1 and lines[0].startswith("dshc: "), output
    assert "Traceback" not in output
    return lines[0]


def write_embeddings(path: Path, *, seed: int = 0) -> Path:
    """Three well separated classes as an .npz of features, labels and ids."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(N_CLASSES), PER_CLASS)
    centers = np.random.default_rng(99).normal(size=(N_CLASSES, N_FEATURES)) * 3
    features = centers[labels] + rng.normal(size=(len(labels), N_FEATURES)) * 0.5
    ids = np.array([f"item-{i}" for i in range(len(labels))])
    np.savez(path, features=features.astype(np.float32), labels=labels, ids=ids)
    return path


def write_images(folder: Path, *, per_class: int = 15, side: int = 12) -> Path:
    """A folder of class folders: red, green and blue squares with noise."""
    rng = np.random.default_rng(1)
    for channel, name in enumerate(("blue", "green", "red")):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            pixels = rng.integers(0, 60, (side, side, 3))
            pixels[..., 2 - channel] += 180
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i:02}.png")
    return folder


def train_embeddings(folder: Path) -> Path:
    """A run on :func:`write_embeddings` in ``folder``: a second of training."""
    data = write_embeddings(folder / "embeddings.npz")
    run = folder / "run"
    dshc_ok("train", data, "--bits", 9, "--epochs", 6, "--batch-size", 16, "--width", 32, "--out", run)
    return run


def train_images(folder: Path) -> Path:
    """A run on :func:`write_images` in ``folder``."""
    images = write_images(folder / "images")
    flags = (
        "--no-pretrained",
        "--image-size",
        12,
        "--bits",
        9,
        "--epochs",
        4,
        "--batch-size",
        8,
        "--width",
        8,
    )
    run = folder / "run"
    dshc_ok("train", images, *flags, "--out", run, "--no-report")
    return run
