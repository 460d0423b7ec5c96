"""A hasher for programs that know neither this one nor its training."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import InputError, install
from ..storage import write_whole
from .preprocessing import mean_of_flips

if TYPE_CHECKING:
    from .hasher import Hasher

__all__ = ["Graph", "export"]


class Graph(nn.Module):
    """Raw items to real-valued outputs, normalisation included; float32 on the CPU, in evaluation mode."""

    def __init__(self, hasher: Hasher) -> None:
        super().__init__()
        own = copy.deepcopy(hasher).cpu().eval()
        self.preprocessing, self.backbone, self.head = own.preprocessing, own.backbone, own.method.head
        self.average_flips = own.encoder_settings.average_flips
        self.eval()

    def forward(self, items: Tensor) -> Tensor:
        inputs = self.preprocessing(items)
        return mean_of_flips(self.network, inputs) if self.average_flips else self.network(inputs)

    def network(self, inputs: Tensor) -> Tensor:
        return self.head(self.backbone(inputs))


def export(hasher: Hasher, path: Path) -> Path:
    """See :meth:`dshc.Hasher.export`."""
    dtype = torch.uint8 if hasher.kind == "images" else torch.float32
    example = (torch.zeros(2, *hasher.item_shape, dtype=dtype),)
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    graph = Graph(hasher)
    if path.suffix == ".pt2":
        buffer = io.BytesIO()
        torch.export.save(torch.export.export(graph, example, dynamic_shapes=shapes), buffer)
        return write_whole(path, buffer.getvalue())
    if path.suffix != ".onnx":
        raise InputError(f"path must end in .onnx or .pt2, got {path}")
    try:
        import onnx  # noqa: F401 - torch's exporter fails late and unclearly without it
        import onnxscript  # noqa: F401
    except ImportError:
        raise ImportError(f"export to ONNX needs the extra: {install('onnx')}") from None
    program: Any = torch.onnx.export(
        graph,
        example,
        dynamo=True,
        dynamic_shapes=shapes,
        input_names=["items"],
        output_names=["outputs"],
        verbose=False,
    )
    buffer = io.BytesIO()
    program.save(buffer)
    return write_whole(path, buffer.getvalue())
