"""What a service is told: where it listens, what it accepts, who may ask."""

from __future__ import annotations

import hmac
import ipaddress
import os
from pathlib import Path
from typing import Self

from pydantic import model_validator

from ..errors import InputError
from ..settings import Settings, setting

__all__ = ["SHORTEST_KEY", "ServiceSettings", "check_address", "has_key", "is_local", "read_keys"]

SHORTEST_KEY = 16
"""Characters of an API key; shorter ones are guessed."""


class ServiceSettings(Settings):
    """Address and limits of a service."""

    host: str = setting(
        "127.0.0.1", "Address to listen at; another machine reaches it only if it is not local"
    )
    port: int = setting(8000, "Port to listen at; 0: a free one", ge=0, le=65535)
    names: tuple[str, ...] = setting(
        (), "Host names that a service without keys answers to, beside localhost"
    )
    max_upload_mib: float = setting(16.0, "Largest request, in MiB", gt=0, le=1024)
    max_pixels: int = setting(40_000_000, "Most pixels of an image, looked at before it is decoded", ge=1)
    max_k: int = setting(1000, "Most results of a query", ge=1)
    max_queries: int = setting(64, "Most queries of a request", ge=1)
    max_concurrency: int = setting(64, "Most requests at a time; more are told to come again", ge=1)
    max_seconds: float = setting(10.0, "Most seconds that a request may take", gt=0)
    batch_ms: float = setting(0.0, "Milliseconds that a search waits for others to join it", ge=0, le=1000)
    batch_queries: int = setting(256, "Most queries that are searched at a time", ge=1)
    poll_seconds: float = setting(1.0, "Seconds between two looks for changes of the index", gt=0)

    @model_validator(mode="after")
    def _fit_each_other(self) -> Self:
        if not self.host:
            raise InputError("host must be an address, such as 127.0.0.1, got ''")
        return self

    @property
    def max_upload(self) -> int:
        """Bytes."""
        return int(self.max_upload_mib * 2**20)


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address; a name other than localhost counts as public."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_address(settings: ServiceSettings, keys: tuple[str, ...]) -> None:
    """Raises :class:`InputError` for a public address without a key."""
    if not keys and not is_local(settings.host):
        raise InputError(
            f"--host must be local, such as 127.0.0.1, where no --api-key-file is given, got {settings.host!r}"
        )


def read_keys(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The API keys in a file, one per line; empty lines and lines from ``#`` on are passed over.

    Raises :class:`InputError` for a key of fewer than 16 characters or with other than printable ASCII, and where there
    is none; ``OSError`` naming a file that cannot be read.
    """
    path = Path(path)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        raise InputError(f"{path}: must be text in UTF-8, one key per line, got other bytes") from None
    keys = []
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        if len(line) < SHORTEST_KEY:
            raise InputError(
                f"{path}: line {number} must be a key of at least {SHORTEST_KEY} characters, got {len(line)}"
            )
        if not (line.isascii() and line.isprintable()) or " " in line:
            raise InputError(f"{path}: line {number} must be a key of printable ASCII without spaces")
        keys.append(line)
    if not keys:
        raise InputError(f"{path}: must hold at least one key, got none")
    return tuple(keys)


def has_key(headers: list[tuple[bytes, bytes]], keys: tuple[str, ...]) -> bool:
    """Whether a request shows one of the keys, as ``X-API-Key`` or ``Authorization: Bearer``.

    Every key is compared, each in constant time: how long it takes tells nothing of them.
    """
    shown = b""
    for name, value in headers:
        if name == b"x-api-key":
            shown = value
        elif name == b"authorization" and value[:7].lower() == b"bearer ":
            shown = value[7:].strip()
    matches = [hmac.compare_digest(shown, key.encode()) for key in keys]
    return any(matches)
