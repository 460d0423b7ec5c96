"""``dshc serve``: an index, or the database of a run, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..progress import progress
from ..service import Served, ServiceSettings, read_keys
from ..service.settings import check_address

__all__ = ["run_cluster_serve", "run_serve"]


def run_serve(
    target: Path, *, api_key_file: Path | None, images: Path | None, threads: int | None, **settings: Any
) -> None:
    """Serve ``target`` until the process is told to end. Whatever is wrong is said before anything is read."""
    from ..service.server import serve  # says what to install where a part is missing

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    told = ServiceSettings(**settings)
    keys = () if api_key_file is None else read_keys(api_key_file)
    check_address(told, keys)
    with progress(f"indexing {target}") as update:
        served = Served.open(target, images=images, max_pixels=told.max_pixels, on_items=update)
    try:
        serve(served, told, keys)
    finally:
        served.close()


def run_cluster_serve(
    target: Path,
    address: str,
    *,
    api_key_file: Path | None,
    run_folder: Path | None,
    images: Path | None,
    partial: bool,
    copies: int,
    hedge: float | None,
    threads: int | None,
    **settings: Any,
) -> None:
    """Serve shards by a cluster until the process is told to end."""
    from ..service.by_ray import serve_by_ray  # says what to install where a part is missing

    told = ServiceSettings(**settings)
    keys = () if api_key_file is None else read_keys(api_key_file)
    opened: dict[str, Any] = {
        "path": target.absolute(),
        "run": None if run_folder is None else run_folder.absolute(),
        "images": None if images is None else images.absolute(),
        "max_pixels": told.max_pixels,
        "partial": partial,
        "threads": threads,
        "copies": copies,
        "hedge": hedge,
    }
    serve_by_ray(address, opened, told, keys)
