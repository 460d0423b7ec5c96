"""How answers and errors are written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ..cluster import MissingShards
from ..errors import InputError
from .models import Error
from .service import Service

__all__ = ["as_json", "errors", "tell_errors"]


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    texts = {
        400: "the request cannot be read",
        401: "no API key",
        404: "no such item",
        408: "the request arrives too slowly",
        413: "the request is too large",
        421: "asked under the name of another machine",
        422: "the request says what cannot be answered; the message says what must hold",
        503: "too many requests run, or shards cannot be had",
        504: "the answer took too long",
    }
    always = (401, 408, 413, 421, 503, 504)
    return {status: {"model": Error, "description": texts[status]} for status in sorted({*always, *statuses})}


def as_json(content: Any, status: int = 200) -> Response:
    """In ASCII: names that are no UTF-8 may be among them."""
    body = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    return Response(body, status, media_type="application/json")


def tell_errors(app: FastAPI, service: Service) -> None:
    def told(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
        answer = as_json({"error": {"code": code, "message": message}}, status)
        answer.headers.update(headers or {})
        return answer

    @app.exception_handler(InputError)
    async def of_input(_: Request, error: InputError) -> Response:
        return told(422, "wrong_input", service.without_path(str(error)))

    @app.exception_handler(MissingShards)
    async def of_shards(_: Request, error: MissingShards) -> Response:
        return told(503, "shards_missing", service.without_path(str(error)), {"retry-after": "1"})

    @app.exception_handler(RequestValidationError)
    async def of_form(request: Request, error: RequestValidationError) -> Response:
        return told(422, "wrong_form", _said(error.errors(), request.headers.get("content-type", "")))

    @app.exception_handler(HTTPException)
    async def of_http(_: Request, error: HTTPException) -> Response:
        return told(error.status_code, getattr(error, "code", "http"), str(error.detail), error.headers)


_OTHER_KINDS = frozenset({"int_type", "string_type", "list_type", "float_type"})


def _said(errors: Sequence[Any], content_type: str) -> str:
    """The error that helps most: never what came, which may be large, or a secret.

    Where several kinds are allowed there is an error for each, of which most say only that it is another kind.
    """
    first = next((one for one in errors if one["type"] not in _OTHER_KINDS), None)
    if first is not None and first["loc"] == ("body",) and not _is_json(content_type):
        return "body: must be JSON that says so (Content-Type: application/json)"
    chosen = [first] if first is not None else [one for one in errors if len(one["loc"]) == _depth(errors)]
    place, start = _place(chosen[0]), "Input should be "
    kinds = dict.fromkeys(one["msg"].removeprefix(start) for one in chosen if _place(one) == place)
    begin = start if chosen[0]["msg"].startswith(start) else ""
    return f"{place}: {begin}{' or '.join(kinds)}"


def _depth(errors: Sequence[Any]) -> int:
    return max(len(one["loc"]) for one in errors)


def _place(error: Any) -> str:
    """Names of fields and numbers of elements, without the names of kinds."""
    kinds = ("int", "str", "constrained-str")
    return ".".join(str(part) for part in error["loc"] if part not in kinds and "[" not in str(part))


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()  # as FastAPI tells it
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
