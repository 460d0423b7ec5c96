"""An exponential moving average of weights, kept beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage", "swapped_in"]

_COUNT = "n_averaged"


class WeightAverage:
    """The average of a module's parameters: ``decay`` times itself plus ``1 - decay`` times the new, every update.

    The first update copies the weights. ``weights`` are by name and lie in memory as the parameters do.

    The arithmetic is that of ``torch.optim.swa_utils.AveragedModel``. The module is not copied as there: a method
    holds more than weights (a bank of all items' outputs), which a deep copy would double and then let go stale.
    Buffers are not averaged, which would round the codes in them, but taken as the live module has them; to copy
    them at every update would come to the same.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay must be more than 0 and less than 1, got {decay}")
        self.decay = decay
        self.n_averaged = 0
        self.weights: dict[str, Tensor] = {
            name: weight.detach().clone() for name, weight in module.named_parameters()
        }
        self._average = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the weights of ``module`` as they are into the average; after every step of the optimizer."""
        live = _parameters(module, self.weights)
        if self.n_averaged == 0:
            _copy(live, self.weights)
        elif live:
            self._average(list(self.weights.values()), list(live.values()), self.n_averaged)
        self.n_averaged += 1

    @torch.no_grad()
    def outputs(self, module: nn.Module, *inputs: Any) -> Any:
        """What ``module`` gives with the averaged weights, in the mode it is in; neither it nor its buffers change.

        Its graph of gradients may be in use: nothing is written to its weights, as :func:`swapped_in` would.
        """
        buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
        return functional_call(module, {**self.weights, **buffers}, inputs)

    def state(self) -> dict[str, Tensor]:
        """The averaged weights by name, contiguous, and ``n_averaged`` int64 ``()``: for a checkpoint."""
        count = torch.tensor(self.n_averaged, dtype=torch.int64)
        return {**{name: weight.contiguous() for name, weight in self.weights.items()}, _COUNT: count}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`state` gave; raises ``ValueError`` naming what is missing, unknown or misshapen."""
        missing, unknown = {*self.weights, _COUNT} - {*state}, {*state} - {*self.weights, _COUNT}
        if missing or unknown:
            raise ValueError(
                f"averaged weights must be of this module, got {', '.join(sorted(unknown)) or 'nothing'} that it does "
                f"not have, and lack {', '.join(sorted(missing)) or 'nothing'}"
            )
        for name, weight in self.weights.items():
            if (given := state[name]).shape != weight.shape or given.dtype != weight.dtype:
                raise ValueError(
                    f"averaged weight {name} must be {weight.dtype} {tuple(weight.shape)}, got {given.dtype} "
                    f"{tuple(given.shape)}"
                )
        _copy(state, self.weights)  # into their places, which keeps the layout and with it the last bits
        self.n_averaged = int(state[_COUNT])


@contextlib.contextmanager
def swapped_in(module: nn.Module, average: WeightAverage | None) -> Iterator[None]:
    """The averaged weights in the live module inside, the live ones again afterwards, bit for bit.

    Buffers too are put back as they were: what :meth:`~dshc.methods.Method.finish` finds inside belongs to the
    averaged weights. Parameters and buffers stay the objects that they are, as optimizers and wrappers hold them.
    With None nothing happens.
    """
    if average is None:
        yield
        return
    live = _parameters(module, average.weights)
    before = {name: weight.clone() for name, weight in live.items()}
    buffers = [(owner, dict(owner._buffers)) for owner in module.modules()]
    contents = [(b, b.detach().clone()) for _, named in buffers for b in named.values() if b is not None]
    try:
        _copy(average.weights, live)
        yield
    finally:
        _copy(before, live)
        for owner, named in buffers:
            owner._buffers.clear()
            owner._buffers.update(named)
        with torch.no_grad():
            for buffer, content in contents:
                buffer.copy_(content)


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, weight in target.items():
        weight.copy_(source[name])


def _parameters(module: nn.Module, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The module's parameters in the order of the known names, which they must have."""
    live = {name: weight.detach() for name, weight in module.named_parameters()}
    if {*live} != {*known}:
        others = sorted({*live} ^ {*known})
        raise ValueError(
            f"the module must have the averaged parameters and no others, got {', '.join(others)} apart"
        )
    return {name: live[name] for name in known}
