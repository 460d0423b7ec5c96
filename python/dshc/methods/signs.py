"""The bases of the methods whose code is the sign of real-valued outputs: all but those that own a table of codes.

:class:`SignCoding` has what belongs to codes: the rule of coding, and a rotation or thresholds found afterwards
(``methods/postprocessing.py``), which are a part of the weights that are saved. :class:`SignMethod` adds a loss, and
several lengths from one network.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import torch
from torch import Tensor

import dshc_fast

from ..settings import setting
from .base import MAX_BITS, Method, MethodSettings, Spec, Step, count_labels, count_right
from .nested import NestedSettings

__all__ = ["SignCoding", "SignMethod", "SignSettings"]

ROTATION, THRESHOLDS = "rotation", "thresholds"


class SignCoding(Method):
    """A method with one output per bit; a bit is 1 where its output is more than 0.

    Codes are the signs of ``(outputs - thresholds) @ rotation``, where these were found afterwards; both are buffers,
    of size 0 and in no state dict where they were not. ``lengths`` holds every length whose codes the first outputs
    give, rising; the last is ``n_bits``, and here the only one. A method of its own builds ``head``.
    """

    lengths: tuple[int, ...]

    def __init__(self, settings: MethodSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.n_bits = self.n_outputs = self.complete(settings, spec.n_classes).bits
        self.lengths = (self.n_bits,)
        self.register_buffer(ROTATION, torch.zeros(0, 0))
        self.register_buffer(THRESHOLDS, torch.zeros(0))

    def transformed(self, outputs: Tensor) -> Tensor:
        """What the signs are taken of, float ``(b, n_bits)``: the outputs, shifted and rotated where that was found."""
        if outputs.dtype != torch.float64 and (self.thresholds.numel() or self.rotation.numel()):
            outputs = outputs.float()
        if self.thresholds.numel():
            outputs = outputs - self.thresholds.to(outputs.dtype)
        if self.rotation.numel():
            outputs = outputs @ self.rotation.to(outputs.dtype)
        return outputs

    def relaxed(self, outputs: Tensor) -> Tensor:
        return self.transformed(outputs)

    def encode(self, outputs: Tensor) -> Tensor:
        return dshc_fast.pack_codes(self.transformed(outputs))

    @torch.no_grad()
    def set_transform(self, *, rotation: Tensor | None = None, thresholds: Tensor | None = None) -> None:
        """Take a rotation ``(n_bits, n_bits)`` and thresholds ``(n_bits,)`` for the codes; None: none.

        Raises ``ValueError`` where shapes do not fit or lengths are nested: a rotation mixes all bits.
        """
        if rotation is not None and len(self.lengths) > 1:
            raise ValueError(f"a rotation must be of codes of one length, got lengths {self.lengths}")
        wanted = (
            (ROTATION, rotation, (self.n_bits, self.n_bits)),
            (THRESHOLDS, thresholds, (self.n_bits,)),
        )
        for name, value, shape in wanted:
            if value is not None and tuple(value.shape) != shape:
                raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")
        for name, value, shape in wanted:
            old = getattr(self, name)
            # A copy, laid out as loading will lay it out: products round by it.
            new = old.new_zeros((0,) * len(shape)) if value is None else old.new_empty(shape).copy_(value)
            setattr(self, name, new)

    def shortened(self, bits: int) -> Self:
        """This method with only its first ``bits`` bits, one of ``lengths``; it shares nothing with this one.

        Raises ``ValueError`` for a length that was not trained, or where codes are rotated.
        """
        if bits not in self.lengths:
            raise ValueError(f"bits must be one of {', '.join(map(str, self.lengths))}, got {bits}")
        if self.rotation.numel() and bits < self.n_bits:
            raise ValueError("codes must not be rotated where bits are left out, got a rotation")
        own = self.state_dict()
        # Tables that are found by search are read from there.
        method = type(self).build(self.shortened_settings(bits), self.spec, saved=own)
        if self.thresholds.numel():
            method.thresholds = torch.zeros(bits)
        if self.rotation.numel():
            method.rotation = torch.zeros(bits, bits)
        # Every tensor that grows with the length has its bits in order: weights by row, centers by column.
        state = {
            name: own[name][tuple(slice(0, size) for size in value.shape)]
            for name, value in method.state_dict().items()
        }
        method.load_state_dict(state)
        return method.to(next(iter(own.values())).device).train(self.training)

    def shortened_settings(self, bits: int) -> Any:
        """The settings of :meth:`shortened`: those of this method, but for what depends on the length."""
        return self.settings.replaced(bits=bits)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in (ROTATION, THRESHOLDS):
            if not getattr(self, name).numel():
                del destination[prefix + name]

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        *lists: list[str],
    ) -> None:
        # What is there to load decides whether they have a place.
        absent = []
        for name in (ROTATION, THRESHOLDS):
            old, is_there = getattr(self, name), prefix + name in state_dict
            shape = (self.n_bits if is_there else 0,) * old.ndim
            if old.shape != shape:
                setattr(self, name, old.new_zeros(shape))
            if not is_there:
                absent.append(prefix + name)
        found: list[str] = []
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, found, *lists)
        missing_keys += [name for name in found if name not in absent]


class SignSettings(NestedSettings):
    """Settings of every method of :class:`SignMethod`."""

    bits: int | None = setting(None, "code length (default: 32)", ge=1, le=MAX_BITS)


class SignMethod(SignCoding):
    """A method whose code is the sign of its outputs, trained by a loss over them.

    A method of its own states :meth:`code_loss` and builds ``head``. ``lengths`` holds every length that is trained,
    the shorter ones of the settings and ``n_bits``, rising. The loss is the sum of :meth:`code_loss` over them, each
    given the first outputs (the plain sum of nested lengths: He et al., arXiv 2412.08922, of which the paper's
    weighting is left out). :meth:`observe` is told all outputs once per step, before that.
    """

    def __init__(self, settings: SignSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.lengths = (*settings.shorter(self.n_bits), self.n_bits)

    def loss(self, outputs: Tensor, step: Step) -> Tensor:
        """The sum of :meth:`code_loss` over the lengths."""
        self.observe(outputs.detach(), step)
        losses = [self.code_loss(outputs[:, :length], step) for length in self.lengths]
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]

    def observe(self, outputs: Tensor, step: Step) -> None:
        """Told the batch's outputs once per step, before the loss: for what is kept of them, such as a bank."""

    @abstractmethod
    def code_loss(self, outputs: Tensor, step: Step) -> Tensor:
        """The loss of codes of ``outputs.shape[1]`` bits, 0-d; that is one of ``lengths``."""

    def shortened_settings(self, bits: int) -> Any:
        return self.settings.replaced(bits=bits, lengths=None)

    def tally(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """The parts of accuracy, where one class is predicted, or of micro F1, where several labels are."""
        if self.quality is None:
            return super().tally(predictions, labels)
        return (count_right if predictions.ndim == 1 else count_labels)(predictions, labels)
