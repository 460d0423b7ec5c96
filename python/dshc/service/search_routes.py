"""Addresses that search: what they accept, checked, and what they answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin

from fastapi import FastAPI, File, Form, Request, Response
from fastapi.exceptions import RequestValidationError

from ..errors import InputError, shortened
from ..index.rescoring import Rescoring
from .batches import Job
from .conditions import Condition
from .models import (
    ASYMMETRIC,
    METRIC,
    MOST_RADIUS,
    NEAREST,
    RESCORE,
    Answer,
    Detail,
    FilterBody,
    Metric,
    SearchBody,
    Where,
)
from .queries import Queries
from .ranking import Kind, Ranking
from .replies import as_json, errors
from .service import Service
from .variants import Variant, n_variants_of

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
        kinds: tuple[Kind, ...] = ("ids", "codes", "vectors")
        given = [name for name in kinds if getattr(body, name) is not None]
        if len(given) != 1:
            raise InputError(
                f"one of ids, codes and vectors must be given, got {' and '.join(given) or 'none'}"
            )
        queries: list[Any] = getattr(body, given[0])
        _check_number(len(queries), service)
        ranking = Ranking(body.rescore, body.metric, body.asymmetric, body.n_variants)
        wanted = _Wanted(service, body.k, body.radius, body.precision, body.filter, body.include, ranking)
        wanted.check(given[0], len(queries))
        _check_rescore_vectors(body)
        if body.ids is not None:
            found = await service.queries_of_items(body.ids, ranking)
        elif body.codes is not None:
            found = service.queries_of_codes(body.codes, body.code_format, body.rescore_vectors, ranking)
        else:
            found = await service.encode_vectors(queries, ranking)
        names = queries[:: body.n_variants] if body.ids is not None else range(len(found.codes))
        return await wanted.answer(request, found, names)

    @app.post(
        "/search/images",
        response_model=Answer,
        responses=errors(400, 404, 422),
        summary="Search by uploaded images",
    )
    async def search_images(
        request: Request,
        images: Annotated[list[bytes], File(description="Files of images, each a query.", min_length=1)],
        k: Annotated[int | None, Form(ge=1, description=NEAREST)] = None,
        radius: Annotated[
            int | None, Form(ge=0, le=MOST_RADIUS, description="All items within this distance.")
        ] = None,
        precision: Annotated[float | None, Form(gt=0, le=1, description="As in /search.")] = None,
        label: Annotated[list[str] | None, Form(description="One of these classes.", max_length=1000)] = None,
        where: Annotated[Where | None, Form(description="A condition on metadata.")] = None,
        ids: Annotated[list[str] | None, Form(description="One of these ids.", max_length=1000)] = None,
        include: Annotated[list[Detail] | None, Form(description="By default label.", max_length=3)] = None,
        variants: Annotated[
            list[Variant] | None,
            Form(description="An item is as near as it is to the nearest of them.", max_length=3),
        ] = None,
        rescore: Annotated[int | None, Form(ge=1, description=RESCORE)] = None,
        metric: Annotated[Metric | None, Form(description=METRIC)] = None,
        asymmetric: Annotated[bool, Form(description=ASYMMETRIC)] = False,
    ) -> Response:
        """The nearest items of images (`multipart/form-data`), which the hasher of the index encodes.

        `variants`: `rotations`, by 90, 180 and 270 degrees; `crops`, five of three quarters of the sides; `flip`, the
        mirror images of all.
        """
        await _check_fields(request, fields)
        more = variants or []
        ranking = Ranking(rescore, metric, asymmetric, n_variants_of(more))
        n_codes = len(images) * ranking.n_variants
        _check_number(
            n_codes, service, "queries" if ranking.n_variants == 1 else "images and variants of them"
        )
        narrow = FilterBody(ids=ids and [*ids], label=label and [*label], where=where)
        details = ["label"] if include is None else include
        wanted = _Wanted(service, k, radius, precision, narrow, details, ranking)
        wanted.check("images", n_codes)
        found = await service.encode_images(images, more, ranking)
        return await wanted.answer(request, found, range(len(images)))

    fields = _fields_of(search_images)


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
        ranking: Ranking,
    ) -> None:
        index, most = service.served.index, service.settings.max_k
        if sum(value is not None for value in (k, radius, precision)) > 1:
            raise InputError("one of k, radius and precision must be given, got several")
        if k is not None and k > most:
            raise InputError(f"k must be at most {most}, got {k}")
        if precision is not None:
            radius = index.radius_for(precision)
        self.k, self.radius = (None if radius is not None else k or min(DEFAULT_K, most)), radius
        self._service, self._details, self._ranking = service, frozenset(include), ranking
        self._condition = Condition(_tuple(narrow.ids), _tuple(narrow.label), narrow.where)
        self._condition.arguments(index.layout)  # so that it is refused before anything is encoded

    def check(self, kind: Kind, n: int) -> None:
        """Refuse an order of the items that ``n`` queries of this kind cannot have."""
        service = self._service
        self._ranking.check(service.served, kind, n=n, k=self.k, most=service.settings.max_k)

    def _job(self, queries: Queries) -> Job:
        rescore, metric = self._ranking.rescore, self._ranking.metric or "inner_product"
        # All within a radius: the nearest, up to one more than are answered, and of these the ones within it. So an
        # answer is never large, and says whether it is whole.
        k = self.k or self._service.settings.max_k + 1
        asked = queries.codes if queries.codes.shape[1] > 1 else queries.codes[:, 0]
        rescoring = None
        if queries.outputs is not None:
            asked = queries.outputs
        if rescore is not None:
            assert queries.vectors is not None
            rescoring = Rescoring(rescore, queries.vectors, metric)
        return Job(asked, k, self._condition, self._details, rescoring)

    async def answer(self, request: Request, queries: Queries, names: Sequence[Any]) -> Response:
        service, index = self._service, self._service.served.index
        most = service.settings.max_k
        found, missing = await service.search(self._job(queries))
        results = []
        for name, codes, label, items in zip(names, queries.codes, queries.predicted, found, strict=True):
            truncated = False
            if self.radius is not None:
                items = [item for item in items if _is_within(item["distance"], self.radius, index.score)]
                items, truncated = items[:most], len(items) > most
            results.append(
                {
                    "query": name,
                    "code": codes[0].tobytes().hex(),
                    "variants": [code.tobytes().hex() for code in codes] if len(codes) > 1 else None,
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
            "ranked_by": self._ranking.by(index.score),
            "k": self.k,
            "radius": self.radius,
            "results": results,
        }
        if missing:
            content["missing_shards"] = [service.without_path(path) for path in missing]
        return as_json(content)


def _check_rescore_vectors(body: SearchBody) -> None:
    if body.codes is not None and body.rescore is not None:
        if body.rescore_vectors is None:
            raise InputError("rescore_vectors must be given with codes and rescore, got none")
    elif body.rescore_vectors is not None:
        raise InputError("rescore_vectors must go with codes and rescore, got them without")


def _is_within(distance: int, radius: int, score: str) -> bool:
    return distance >= radius if score == "overlap" else distance <= radius


def _tuple(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def _check_number(n: int, service: Service, what: str = "queries") -> None:
    most = service.settings.max_queries
    if n > most:
        raise InputError(f"a request must have at most {most} {what}, got {n}")


def _fields_of(route: Callable[..., object]) -> dict[str, bool]:
    """The fields of the form that a route reads, and whether a field may come several times."""
    found = {}
    for name, parameter in inspect.signature(route, eval_str=True).parameters.items():
        if get_origin(parameter.annotation) is Annotated:
            kind = get_args(parameter.annotation)[0]
            found[name] = any(get_origin(one) is list for one in (kind, *get_args(kind)))
    return found


async def _check_fields(request: Request, fields: Mapping[str, bool]) -> None:
    """A condition that is misspelt, empty or given twice must not become none: FastAPI reads a form by the names that
    the route has, passes over all others and what is empty, and takes the last of several."""
    seen: set[str] = set()
    for name, value in (await request.form()).multi_items():
        if name not in fields:
            raise _wrong_field(shortened(name), "no such field")
        if isinstance(value, str) and not value:
            raise _wrong_field(name, "must not be empty; leave it out")
        if name in seen and not fields[name]:
            raise _wrong_field(name, "must be given once")
        seen.add(name)


def _wrong_field(name: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "field", "loc": ("body", name), "msg": message, "input": None}])
