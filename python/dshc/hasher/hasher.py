"""From an input to its code: preprocessing, backbone, method (head and coding rule), as one module."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from .. import methods
from ..backbones import EncoderSettings, build_backbone
from ..backbones.enlarged import seen_shape
from ..data import ImageFit
from ..data.ahead import ahead
from ..errors import InputError
from ..kept_memory import kept_between
from ..methods import Method, MethodSettings, Spec
from ..torch_defaults import thread_defaults, torch_defaults
from . import card, files
from .arithmetic import Precision, in_precision
from .device import resolve_device
from .evaluating import evaluating
from .items import in_files, item_batches
from .preprocessing import Preprocessing, mean_of_flips

__all__ = ["Hasher", "encoding_batch"]

FORMAT = 1
Interpolation = Literal["bilinear", "bicubic"]


def encoding_batch(seen_shape: tuple[int, ...]) -> int:
    """Items per batch when encoding: 1024, fewer for images of more than 64 x 64 x 3, which would fill the memory.

    ``seen_shape``: as the network sees them. The last bits of outputs depend on the size: it is one everywhere.
    """
    size = math.prod(seen_shape) if len(seen_shape) == 3 else 1
    return max(1, min(1024, 1 << max(0, (1024 * 64 * 64 * 3 // size).bit_length() - 1)))


# What a description means that was written before these were in it.
_LATER = {"interpolation": "bilinear"}
# Where a training starts from is no part of what it leaves.
_STARTS = {"weights": None, "start_from": None, "pretrained": None}


class Hasher(nn.Module):
    """A trained (or fitted) model: inputs in, packed codes out.

    One state dict holds all that a code depends on: normalisation, backbone, head and what the method has found.
    Made by :meth:`load`, :meth:`build` or :func:`dshc.train`.

    Attributes: ``method``, ``backbone``, ``preprocessing``; ``kind`` (``"images"`` or ``"features"``) and
    ``item_shape`` of the inputs; ``interpolation``, by which image files are brought to it; ``class_names``;
    ``n_bits``; ``score``, by which its codes are ranked; ``precision``; ``about``, where it comes from (epoch, run,
    versions).

    >>> hasher = Hasher.load("runs/digits")                          # doctest: +SKIP
    >>> codes = hasher.encode(["a.png", "b.png"])                    # doctest: +SKIP
    """

    def __init__(
        self,
        encoder: EncoderSettings,
        backbone: nn.Module,
        method: Method,
        preprocessing: Preprocessing,
        *,
        item_shape: tuple[int, ...],
        precision: Precision = "fp32",
        interpolation: Interpolation = "bilinear",
        about: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.encoder_settings = encoder
        self.preprocessing = preprocessing
        self.backbone = backbone
        self.method = method
        self.item_shape = tuple(item_shape)
        self.precision = precision
        self.interpolation = interpolation
        self.about = dict(about or {})

    @classmethod
    @torch_defaults()
    def build(
        cls,
        encoder: EncoderSettings,
        settings: MethodSettings,
        *,
        kind: str,
        item_shape: tuple[int, ...],
        label_kind: methods.LabelKind,
        class_names: tuple[str, ...],
        mean: Tensor,
        std: Tensor,
        seed: int = 0,
        precision: Precision = "fp32",
        interpolation: Interpolation = "bilinear",
        saved: dict[str, Tensor] | None = None,
        earlier: Method | None = None,
        network: nn.Module | None = None,
        n_features: int | None = None,
    ) -> Self:
        """A new hasher with random weights, drawn from torch's generator: the backbone's, then the head's.

        ``saved`` is the state dict that will be loaded, from which a method may take its tables; ``earlier`` is the
        method of a hasher that a training starts from; ``network`` is a
        backbone given as an object, ``n_features`` its width (by default its ``n_features``). Raises ``ValueError``
        naming the setting that does not fit.
        """
        if encoder.average_flips and (kind != "images" or encoder.finetune == "none"):
            came = "finetune none" if kind == "images" else kind
            raise ValueError(f"average_flips must go with images and a network that is trained, got {came}")
        backbone = network if network is not None else build_backbone(encoder, item_shape)
        width: Any = backbone.n_features if n_features is None else n_features
        spec = Spec(len(class_names), label_kind, width, tuple(class_names), seed)
        own = None if saved is None else _part(saved, "method")
        method = methods.get(settings.name).build(settings, spec, saved=own, earlier=earlier)
        hasher = cls(
            encoder,
            backbone,
            method,
            Preprocessing(kind, mean, std),
            item_shape=item_shape,
            precision=precision,
            interpolation=interpolation,
        )
        # Of images; what a caller's own network holds beside them, such as filters of volumes, stays as it is.
        if not any(weight.ndim == 5 for weight in hasher.parameters()):
            hasher.to(memory_format=torch.channels_last)
        return hasher

    @property
    def kind(self) -> str:
        return self.preprocessing.kind

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.method.spec.class_names

    @property
    def n_bits(self) -> int:
        return self.method.n_bits

    @property
    def score(self) -> str:
        return self.method.score

    @property
    def image_fit(self) -> ImageFit | None:
        """How an image file becomes an item; None for features."""
        return ImageFit(*self.item_shape, self.interpolation) if self.kind == "images" else None

    @property
    def seen_shape(self) -> tuple[int, ...]:
        """``item_shape`` as the network sees it: enlarged where its settings say so."""
        if self.kind != "images":
            return self.item_shape
        return seen_shape(self.item_shape, self.encoder_settings.input_size)

    @property
    def device(self) -> torch.device:
        return self.preprocessing.mean.device

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.item_shape))
        return f"Hasher({self.method.name}, {self.n_bits} bits, {self.kind} {shape})"

    def behind_backbone(self) -> Hasher | None:
        """The part behind a frozen backbone, which takes its features; None where the backbone is trained.

        It shares its modules with this hasher: what is trained in one is trained in both.
        """
        if getattr(self.backbone, "finetune", "all") != "none":
            return None
        width = self.backbone.n_frozen
        return Hasher(
            EncoderSettings(backbone="identity"),
            self.backbone.neck,
            self.method,
            Preprocessing("features", torch.zeros(width), torch.ones(width)),
            item_shape=(width,),
            precision=self.precision,
        ).to(self.device)

    # From inputs to outputs

    def features(self, inputs: Tensor) -> Tensor:
        """The backbone's features of normalised inputs, float32 ``(b, n_features)``."""
        return in_precision(self.precision, self.backbone, inputs)

    def frozen_features(self, inputs: Tensor) -> Tensor:
        """What a frozen backbone gives before its neck, float32 ``(b, n_frozen)``."""
        return in_precision(self.precision, self.backbone.frozen_features, inputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """The method's real-valued outputs of normalised inputs, float32 ``(b, n_outputs)``."""
        if self.encoder_settings.average_flips and not self.training:
            return mean_of_flips(self._network, inputs)
        return self._network(inputs)

    def _network(self, inputs: Tensor) -> Tensor:
        return in_precision(self.precision, lambda x: self.method.head(self.backbone(x)), inputs)

    @thread_defaults()
    @torch.no_grad()
    def outputs(self, items: Any, *, batch_size: int | None = None) -> Tensor:
        """Real-valued outputs of items (as :meth:`encode` takes them), float32 ``(n, n_outputs)``."""
        return torch.cat(list(self._outputs(items, batch_size)))

    @thread_defaults()
    @torch.no_grad()
    def encode(self, items: Any, *, batch_size: int | None = None) -> np.ndarray:
        """Packed codes, uint8 ``(n, ceil(n_bits / 8))``, of one item or many, in the order given.

        ``items``: for images a path of a file or a folder, a PIL picture, a sequence of these, or uint8 arrays and
        tensors ``(n, h, w, c)``; for features float ``(n, d)``; or an iterable of such batches (a ``DataLoader``).
        Files are decoded and codes packed batch by batch. Raises :class:`dshc.errors.InputError` for items of
        another kind or shape, ``ValueError`` naming the first file that cannot be read.
        """
        return np.concatenate([self._codes(part) for part in self._outputs(items, batch_size)])

    @thread_defaults()
    @torch.no_grad()
    def predict(self, items: Any, *, batch_size: int | None = None) -> np.ndarray | None:
        """Class ids int64 ``(n,)``, or multi-hot bool ``(n, n_classes)``; None where the method predicts nothing."""
        return _joined([self.method.predict(part) for part in self._outputs(items, batch_size)])

    @thread_defaults()
    @torch.no_grad()
    def encode_and_predict(
        self, items: Any, *, batch_size: int | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """:meth:`encode` and :meth:`predict` of the same items in one pass."""
        codes, predictions = [], []
        for part in self._outputs(items, batch_size):
            codes.append(self._codes(part))
            predictions.append(self.method.predict(part))
        return np.concatenate(codes), _joined(predictions)

    def _codes(self, outputs: Tensor) -> np.ndarray:
        return self.method.encode(outputs).cpu().numpy()

    def _outputs(self, items: Any, batch_size: int | None) -> Iterator[Tensor]:
        """Outputs batch by batch; of no items, one batch of none."""
        batch_size = encoding_batch(self.seen_shape) if batch_size is None else batch_size
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)):
            raise TypeError(f"batch_size must be an int, got {type(batch_size).__name__}")
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        n = 0
        with evaluating(self):
            batches = item_batches(
                items, kind=self.kind, item_shape=self.item_shape, batch_size=batch_size, fit=self.image_fit
            )
            for array in kept_between(ahead(batches) if in_files(items) else batches):
                n += len(array)
                yield self(self.preprocessing(torch.from_numpy(array).to(self.device)))
            if not n:
                yield torch.zeros(0, self.method.n_outputs, device=self.device)

    # Saving and loading

    def description(self) -> dict[str, Any]:
        """All that the hasher is built from again, beside its weights: plain content, as config.json holds it."""
        spec = self.method.spec
        return {
            "format": FORMAT,
            "encoder": {**self.encoder_settings.values(), **_STARTS},
            "method": self.method.settings.values(),
            "kind": self.kind,
            "item_shape": list(self.item_shape),
            "n_features": spec.n_features,
            "label_kind": spec.label_kind,
            "class_names": list(spec.class_names),
            "seed": spec.seed,
            "precision": self.precision,
            "interpolation": self.interpolation,
            "n_bits": self.n_bits,
            "score": self.score,
            "about": self.about,
        }

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``model.safetensors``, a model card ``README.md`` and ``config.json`` into a folder; returns it."""
        return files.save_folder(Path(folder), self.state_dict(), self.description(), card.model_card(self))

    def save_file(self, path: str | os.PathLike[str]) -> Path:
        """Write weights and description as one safetensors file, which :meth:`load` takes too."""
        return files.write_hasher(path, self.state_dict(), self.description())

    @classmethod
    @torch_defaults()
    def load(
        cls,
        source: str | os.PathLike[str],
        *,
        weights: Literal["best", "last"] | None = None,
        device: str = "auto",
        network: nn.Module | None = None,
    ) -> Self:
        """A hasher from a folder that :meth:`save` wrote, a run, a single file, or a name on the Hugging Face hub.

        ``weights`` chooses in a run: ``"best"`` (selected on the validation split; the default where there is a
        selection) or ``"last"``. ``device``: ``"auto"`` (CUDA where torch and the core have it), ``"cpu"``,
        ``"cuda"``. ``network`` is the network of a hasher that was made from one given as an object
        (:func:`dshc.from_classifier`): one of the same layers, into which the saved weights are loaded.

        Raises ``FileNotFoundError`` or ``ValueError`` naming the file that is missing, damaged or of another version.
        """
        path = files.find_weights(source, weights)
        state, description = files.read_hasher(path)
        beside = files.read_description(path)
        if beside is not None and beside != description:
            raise InputError(
                f"{path.parent / files.CONFIG}: does not say what {files.WEIGHTS} holds; one of them was changed"
            )
        try:
            given = description["encoder"]["backbone"] is None
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: damaged, its description lacks the encoder ({error})") from None
        if given != (network is not None):
            held = "without the network it was made from" if given else "with a backbone of its own"
            wanted = "be given" if given else "not be given"
            raise InputError(f"{path}: network must {wanted}, this hasher was saved {held}")
        if description.get("format") != FORMAT:
            raise InputError(f"{path}: format {description.get('format')}, this version reads {FORMAT}")
        try:
            settings = methods.get(description["method"]["name"]).Settings(**description["method"])
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        try:
            with torch.random.fork_rng(devices=[]):  # weights are drawn, then overwritten
                hasher = cls._from(state, _LATER | description, settings, network)
        except (KeyError, TypeError, RuntimeError, ValueError) as error:
            text = f"{path}: not the weights of the hasher it describes ({error})"
            raise InputError(text) from None
        return hasher.to(resolve_device(device)).eval()

    @classmethod
    def _from(
        cls,
        state: dict[str, Tensor],
        description: dict[str, Any],
        settings: MethodSettings,
        network: nn.Module | None,
    ) -> Self:
        hasher = cls.build(
            EncoderSettings(**description["encoder"]),
            settings,
            kind=description["kind"],
            item_shape=tuple(description["item_shape"]),
            label_kind=description["label_kind"],
            class_names=tuple(description["class_names"]),
            mean=state["preprocessing.mean"],
            std=state["preprocessing.std"],
            seed=description["seed"],
            precision=description["precision"],
            interpolation=description["interpolation"],
            saved=state,
            network=network,
            n_features=description["n_features"],
        )
        hasher.load_state_dict(state)
        hasher.about = description["about"]
        return hasher

    def graph(self) -> nn.Module:
        """Raw items to real-valued outputs as one module in evaluation mode, for ``torch.export`` and the like."""
        from .export import Graph

        return Graph(self)

    @torch_defaults()
    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write :meth:`graph` for other programs: ``.onnx`` (extra ``onnx``) or ``.pt2`` (``torch.export``).

        Input ``items``: uint8 ``(b, h, w, c)`` or float32 ``(b, d)``, any b; output ``outputs`` float32
        ``(b, n_outputs)``. Codes are the method's rule on them (docs/hasher.md).
        """
        from .export import export

        return export(self, Path(path))


def _joined(predictions: list[Tensor | None]) -> np.ndarray | None:
    """Predictions of batches as one array; None where there are none."""
    known = [part for part in predictions if part is not None]
    return torch.cat(known).cpu().numpy() if known else None


def _part(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The entries of a state dict below ``name``."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
