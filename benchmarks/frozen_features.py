"""Features of a named set of images by a network with ImageNet weights, as embeddings that methods are compared on.

    python benchmarks/frozen_features.py cifar10 --out cifar10-lite0.npz [--root FOLDER] [--size 96]
    dshc compare cifar10-lite0.npz --protocol cifar10-5k-59k --methods all --bits 16,32,48,64

Images are brought to the size by bicubic interpolation (antialiased) and normalised as the network was trained. The
file holds features float32 (n, d) and labels in the set's own order, and which items are its test part, so that every
protocol of the set holds for it.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

import dshc
from dshc.backbones import EncoderSettings, build_backbone, image_input
from dshc.backbones.pretrained import PACKAGED
from dshc.data import Dataset
from dshc.progress import progress
from dshc.storage import write_whole

BATCH = 128


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="a named set of images, such as cifar10")
    parser.add_argument("--root", help="folder of the official files of a named set")
    parser.add_argument("--backbone", default=f"timm:{PACKAGED}")
    parser.add_argument("--size", type=int, help="side in pixels (default: the network's own)")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    encoder = EncoderSettings(backbone=given.backbone, pretrained=True, finetune="none")
    known = image_input(encoder)
    size = given.size or known.size
    data = dshc.load_data(given.source, root=given.root)
    net = build_backbone(encoder, (size, size, 3)).eval()
    mean, std = (values.view(1, -1, 1, 1) for values in known.statistics(3))
    started, rows = time.perf_counter(), []
    with progress(f"features of {data.n_items} images") as update:
        for start in range(0, data.n_items, BATCH):
            images = torch.from_numpy(np.ascontiguousarray(data.inputs[start : start + BATCH]))
            images = images.permute(0, 3, 1, 2).float() / 255
            images = images.expand(-1, 3, -1, -1)
            images = interpolate(images, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
            rows.append(net.frozen_features((images - mean) / std).numpy())
            update(min(start + BATCH, data.n_items), data.n_items)
    seconds = time.perf_counter() - started
    write_npz(given.out, np.concatenate(rows), data)
    width = rows[0].shape[1]
    print(f"{data.n_items} x {width} features at {size} pixels in {seconds:.0f} s: {given.out}")


def write_npz(path: Path, features: np.ndarray, data: Dataset) -> None:
    """Features and labels; the official test part, where there is one, as the items from ``n_train`` on."""
    test, part = data.test_mask, {}
    if test is not None:
        part["n_train"] = np.array(int((~test).sum()))
        if test[: part["n_train"]].any():
            raise SystemExit(f"{data.name}: the test part must be its last items")
    buffer = io.BytesIO()
    np.savez(buffer, features=features.astype(np.float32), labels=data.labels, **part)
    write_whole(path, buffer.getvalue())


if __name__ == "__main__":
    main()
