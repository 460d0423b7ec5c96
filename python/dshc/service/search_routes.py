"""Addresses that search: what they accept, checked, and what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, File, Form, Request, Response

from ..errors import InputError
from .conditions import Condition
from .models import Answer, Detail, FilterBody, SearchBody, Where
from .replies import as_json, errors
from .service import Service

__all__ = ["add_search"]

DEFAULT_K = 10


def add_search(app: FastAPI, service: Service) -> None:
    @app.post(
        "/search",
        response_model=Answer,
        responses=errors(400, 404, 422),
        summary="Search by ids, codes, vectors",
    )
    async def search(request: Request, body: SearchBody) -> Response:
        """The nearest items of one or many queries; `/search/images` accepts images."""
        given = [name for name in ("ids", "codes", "vectors") if getattr(body, name) is not None]
        if len(given) != 1:
            raise InputError(
                f"one of ids, codes and vectors must be given, got {' and '.join(given) or 'none'}"
            )
        queries: list[Any] = getattr(body, given[0])
        _check_number(len(queries), service)
        wanted = _Wanted(service, body.k, body.radius, body.precision, body.filter, body.include)
        predicted: list[str | None] = [None] * len(queries)
        if body.ids is not None:
            codes = await service.codes_of_items(body.ids)
        elif body.codes is not None:
            codes = service.read_codes(body.codes, body.code_format)
        else:
            codes, predicted = await service.encode_vectors(queries)
        names = queries if body.ids is not None else range(len(queries))
        return await wanted.answer(request, codes, names, predicted)

    @app.post(
        "/search/images",
        response_model=Answer,
        responses=errors(400, 404, 422),
        summary="Search by uploaded images",
    )
    async def search_images(
        request: Request,
        images: Annotated[list[bytes], File(description="Files of images, each a query.", min_length=1)],
        k: Annotated[int | None, Form(ge=1, description="The so many nearest items; by default 10.")] = None,
        radius: Annotated[int | None, Form(ge=0, description="All items within this distance.")] = None,
        precision: Annotated[float | None, Form(gt=0, le=1, description="As in /search.")] = None,
        label: Annotated[list[str] | None, Form(description="One of these classes.", max_length=1000)] = None,
        where: Annotated[Where | None, Form(description="A condition on metadata.")] = None,
        ids: Annotated[list[str] | None, Form(description="One of these ids.", max_length=1000)] = None,
        include: Annotated[list[Detail] | None, Form(description="By default label.", max_length=3)] = None,
    ) -> Response:
        """The nearest items of images (`multipart/form-data`), which the hasher of the index encodes."""
        _check_number(len(images), service)
        narrow = FilterBody(ids=ids and [*ids], label=label and [*label], where=where)
        wanted = _Wanted(service, k, radius, precision, narrow, ["label"] if include is None else include)
        codes, predicted = await service.encode_images(images)
        return await wanted.answer(request, codes, range(len(images)), predicted)


class _Wanted:
    """What a search asks for beside its queries, checked."""

    def __init__(
        self,
        service: Service,
        k: int | None,
        radius: int | None,
        precision: float | None,
        narrow: FilterBody,
        include: Sequence[str],
    ) -> None:
        index, most = service.served.index, service.settings.max_k
        if sum(value is not None for value in (k, radius, precision)) > 1:
            raise InputError("one of k, radius and precision must be given, got several")
        if k is not None and k > most:
            raise InputError(f"k must be at most {most}, got {k}")
        if precision is not None:
            radius = index.radius_for(precision)
        self.k, self.radius = (None if radius is not None else k or DEFAULT_K), radius
        self._service, self._details = service, frozenset(include)
        self._condition = Condition(_tuple(narrow.ids), _tuple(narrow.label), narrow.where)
        self._condition.arguments(index.layout)  # so that it is refused before anything is encoded

    async def answer(
        self, request: Request, codes: np.ndarray, names: Sequence[Any], predicted: Sequence[str | None]
    ) -> Response:
        service, index = self._service, self._service.served.index
        most = service.settings.max_k
        # All within a radius: the nearest, up to one more than are answered, and of these the ones within it. So an
        # answer is never large, and says whether it is whole.
        found, missing = await service.search(codes, self.k or most + 1, self._condition, self._details)
        results = []
        for name, code, label, items in zip(names, codes, predicted, found, strict=True):
            truncated = False
            if self.radius is not None:
                items = [item for item in items if _is_within(item["distance"], self.radius, index.score)]
                items, truncated = items[:most], len(items) > most
            results.append(
                {
                    "query": name,
                    "code": code.tobytes().hex(),
                    "predicted": label,
                    "items": items,
                    "truncated": truncated,
                }
            )
        counts = request.scope["state"]
        counts["queries"], counts["items"] = len(results), sum(len(result["items"]) for result in results)
        content = {
            "n_bits": index.n_bits,
            "score": index.score,
            "k": self.k,
            "radius": self.radius,
            "results": results,
        }
        if missing:
            content["missing_shards"] = [service.without_path(path) for path in missing]
        return as_json(content)


def _is_within(distance: int, radius: int, score: str) -> bool:
    return distance >= radius if score == "overlap" else distance <= radius


def _tuple(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def _check_number(n: int, service: Service) -> None:
    most = service.settings.max_queries
    if n > most:
        raise InputError(f"a request must have at most {most} queries, got {n}")
