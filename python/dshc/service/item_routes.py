"""Addresses that tell of items, of the index, and of the service itself."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from fastapi import FastAPI, Query, Response

import dshc_fast

from ..errors import InputError
from .models import Info, ItemAnswer, Map, RandomAnswer, State
from .ranking import has_outputs, rescored_kinds
from .replies import as_json, errors
from .service import Service
from .variants import Variant

__all__ = ["add_items", "add_state"]

_Name = Annotated[str, Query(max_length=4096, description="Id of an item.")]


def add_items(app: FastAPI, service: Service) -> None:
    @app.get("/item", response_model=ItemAnswer, responses=errors(404, 422), summary="One item")
    async def item(id: _Name) -> Response:
        """Code, label and metadata of an item."""
        return as_json(await service.item(id))

    @app.get(
        "/picture",
        responses={200: {"content": {"image/png": {}, "image/jpeg": {}}}, **errors(404, 422)},
        response_class=Response,
        summary="Picture of an item",
    )
    async def picture(id: _Name) -> Response:
        """A small picture of an item, of at most 192 pixels a side."""
        found = await service.picture(id)
        return Response(
            found.content, media_type=found.media_type, headers={"cache-control": "private, max-age=3600"}
        )

    @app.get("/random", response_model=RandomAnswer, responses=errors(422), summary="Items at random")
    async def random(n: Annotated[int, Query(ge=1, le=1000, description="How many.")] = 1) -> Response:
        """Ids of different items drawn at random."""
        return as_json({"ids": await service.random(n)})

    @app.get("/map", response_model=Map, responses=errors(), summary="The codes in the plane")
    async def code_map() -> Response:
        """The most frequent codes laid out by t-SNE. It is computed when it is first asked for, and kept."""
        return as_json(service.map())


def add_state(app: FastAPI, service: Service) -> None:
    @app.get("/info", response_model=Info, responses=errors(), summary="What is served")
    async def info() -> Response:
        """What the index holds, what queries it accepts, and the limits."""
        return as_json(_info(service))

    @app.head("/health", include_in_schema=False)
    @app.get("/health", response_model=State, summary="Whether the process answers")
    async def health() -> Response:
        """Always `ok`."""
        return as_json({"status": "ok"})

    @app.head("/ready", include_in_schema=False)
    @app.get(
        "/ready",
        response_model=State,
        responses={503: {"model": State, "description": "not yet, or not any more"}},
        summary="Whether requests should be sent",
    )
    async def ready() -> Response:
        """`ready` once the hasher is loaded and the codes are prepared, until the process is told to end."""
        return as_json({"status": "ready"}) if service.is_ready else as_json({"status": "not ready"}, 503)

    @app.get(
        "/metrics",
        responses={200: {"content": {"text/plain": {}}}, **errors()},
        response_class=Response,
        summary="Numbers for Prometheus",
    )
    async def metrics() -> Response:
        """Requests, seconds, batches and items in Prometheus' text format."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _info(service: Service) -> dict[str, Any]:
    index, hasher, settings = service.served.index, service.served.hasher, service.settings
    layout = index.layout
    try:
        measured = index.radius_for(1e-9) >= 0
    except InputError:
        measured = False
    return {
        "name": service.served.name,
        "version": dshc_fast.__version__,
        "n_items": len(index),
        "n_bits": layout.n_bits,
        "score": layout.score,
        "ids": layout.ids,
        "labels": layout.labels,
        "class_names": list(layout.class_names),
        "metadata": dict(layout.metadata),
        "images": hasher is not None and hasher.kind == "images",
        "n_features": hasher.item_shape[0] if hasher is not None and hasher.kind == "features" else None,
        "image_variants": list(get_args(Variant)) if _has_variants(service) else [],
        "rescore": rescored_kinds(service.served),
        "asymmetric": has_outputs(service.served),
        "n_dimensions": layout.n_dimensions or None,
        "pictures": service.served.pictures is not None,
        "precision": measured,
        "limits": {
            "max_k": settings.max_k,
            "max_queries": settings.max_queries,
            "max_upload": settings.max_upload,
            "max_pixels": settings.max_pixels,
            "max_seconds": settings.max_seconds,
        },
    }


def _has_variants(service: Service) -> bool:
    hasher = service.served.hasher
    return hasher is not None and hasher.kind == "images" and service.served.index.score == "hamming"
