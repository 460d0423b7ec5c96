"""A run folder, read again: the trained model, the data and split it was trained on, and encoding."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

import dshc_fast

from . import data, methods
from .batches import Batches, make_batches
from .checkpoint import load_weights
from .codebooks import Codebook
from .config import Config
from .methods import Method
from .models import Network, build_backbone

__all__ = ["Run", "encode", "load_data", "load_run", "make_fabric"]

# Fabric tells on every start which precision it was asked for.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


class Run:
    """A trained model with its surroundings; made by :func:`load_run` and :func:`dshc.training.train`.

    Attributes: ``folder``, ``config``, ``method``; ``weights`` (``"best"`` or ``"last"``) and ``epoch``,
    which epoch's weights these are; ``kind`` and ``item_shape`` of the inputs and ``class_names``.
    ``dataset`` and ``split`` are read when first asked for: encoding other items needs neither.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        method: Method,
        network: Network,
        inputs: dict[str, Tensor],
        about: dict[str, Any],
        weights: Literal["best", "last"],
    ) -> None:
        self.folder, self.config, self.weights = folder, config, weights
        self.kind: str = about["kind"]
        self.item_shape = tuple(about["item_shape"])
        self.class_names = tuple(about["class_names"])
        self.epoch: int = about["epoch"]
        self._fabric = make_fabric(config)
        self.method = method.to(self._fabric.device)
        self._network = network
        self._module = self._fabric.setup_module(network.eval())
        self._inputs = inputs

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.config.method}, {self.method.n_bits} bits, {self.weights})"

    def model(self) -> Network:
        """The network, in evaluation mode: inputs to the method's outputs."""
        return self._network

    @cached_property
    def dataset(self) -> data.Dataset:
        """The data set of the run, loaded again from where the config says."""
        return load_data(self.config)

    @cached_property
    def split(self) -> data.Split:
        """The split of the run, checked against the data set's labels."""
        return data.Split.load(self.folder / "split.json", self.dataset)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, one an epoch."""
        path = self.folder / "metrics.jsonl"
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except ValueError as error:
            raise ValueError(f"{path}: damaged ({error})") from None
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, dict):
                raise ValueError(f"{path}: damaged (line {number} is no JSON object)")
        return rows

    @cached_property
    def _batches(self) -> Batches:
        return make_batches(self.dataset.inputs, **self._inputs, device=self._fabric.device)

    def encode(self, indices: np.ndarray, batch_size: int = 1024) -> tuple[np.ndarray, np.ndarray]:
        """Packed codes uint8 ``(b, bytes)`` and predictions of items of the run's data set.

        Predictions are class ids int64 ``(b,)``, or multi-hot bool ``(b, n_labels)``.
        """
        codes, predictions = encode(self._module, self.method, self._batches, indices, batch_size)
        return codes.cpu().numpy(), predictions.cpu().numpy()

    def encode_inputs(self, inputs: np.ndarray, batch_size: int = 1024) -> tuple[np.ndarray, np.ndarray]:
        """The same for other items, images uint8 or features float32 of the run's ``item_shape``."""
        if inputs.shape[1:] != self.item_shape:
            raise ValueError(
                f"inputs: got items of shape {inputs.shape[1:]}, this run takes {self.item_shape}"
            )
        batches = make_batches(inputs, **self._inputs, device=self._fabric.device)
        codes, predictions = encode(self._module, self.method, batches, np.arange(len(inputs)), batch_size)
        return codes.cpu().numpy(), predictions.cpu().numpy()


def load_run(
    folder: str | os.PathLike[str],
    *,
    weights: Literal["best", "last"] = "best",
    device: Literal["auto", "cpu", "cuda"] | None = None,
    dataset: data.Dataset | None = None,
) -> Run:
    """The run in ``folder``, with the weights selected on the validation split or those of the last epoch.

    A run without validation has no selection; its last weights are taken then. ``device`` overrides the
    config's; ``dataset`` is the run's where it has been read before. Raises ``FileNotFoundError`` or
    ``ValueError`` naming the file that is missing or damaged.
    """
    folder = Path(folder)
    config = Config.from_run(folder).override(device=device, out=folder)
    if weights == "best" and config.validation == 0:
        weights = "last"
    path = folder / {"best": "best.safetensors", "last": "model.safetensors"}[weights]
    if not path.is_file():
        if (folder / "model.safetensors").is_file():
            raise FileNotFoundError(
                f"{path}: no such file, though the run is finished: the selected weights are lost; put the file "
                "back, train again with --overwrite, or take the last weights (load_run(..., weights='last'))"
            )
        raise FileNotFoundError(f"{path}: no such file; the run is not finished, continue it with --resume")
    state, inputs, about = load_weights(path)
    book = folder / "codebook.safetensors"
    codebook = Codebook.load(book) if about["has_codebook"] else None
    method = methods.get(config.method).build(config, len(about["class_names"]), codebook=codebook)
    backbone = build_backbone(dataclasses.replace(config, weights=None), tuple(about["item_shape"]))
    network = Network(backbone, method.head(backbone.n_features)).to(memory_format=torch.channels_last)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path}: not the weights of this run's network ({error})") from None
    run = Run(folder, config, method, network, inputs, about, weights)
    if dataset is not None:
        run.dataset = dataset
    return run


@torch.inference_mode()
def encode(
    network: nn.Module, method: Method, batches: Batches, indices: np.ndarray | Tensor, batch_size: int
) -> tuple[Tensor, Tensor]:
    """Packed codes and predictions of items of a set; ``network`` is left in evaluation mode."""
    network.eval()
    indices = torch.as_tensor(indices)
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected at least 1")
    codes, predictions = [], []
    for part in indices.split(batch_size):  # an empty set is one empty part
        outputs = network(batches.batch(part))
        codes.append(method.encode(outputs))
        predictions.append(method.predict(outputs))
    return torch.cat(codes), torch.cat(predictions)


@torch.no_grad()
def backbone_features(
    network: Network, batches: Batches, indices: np.ndarray | Tensor, batch_size: int = 1024
) -> Tensor:
    """What the backbone makes of items of a set, unaugmented: float32 ``(n, n_features)``."""
    training = network.training
    network.eval()
    parts = torch.as_tensor(indices).split(batch_size)
    features = torch.cat([network.backbone(batches.batch(part)).float() for part in parts])
    network.train(training)
    return features


def load_data(config: Config) -> data.Dataset:
    """The data set a config names."""
    return data.load(
        config.dataset,
        root=config.root,
        image_size=config.image_size,
        labels=config.labels,
        n_channels=config.n_channels,
        skip_unreadable=config.skip_unreadable,
    )


def make_fabric(config: Config) -> Fabric:
    """Device and precision as the config says; one device."""
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() and dshc_fast.build_info()["cuda"] else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: got 'cuda', but torch finds none; take 'cpu' or 'auto'")
    precision = {"fp32": "32-true", "bf16": "bf16-mixed"}[config.precision]
    return Fabric(accelerator=device, devices=1, precision=precision)
