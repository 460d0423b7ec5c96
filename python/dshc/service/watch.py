"""What a service tells of itself: one JSON line per request on stderr, and numbers for Prometheus."""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Any, TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

__all__ = ["JsonHandler", "JsonLog", "Metrics"]


class JsonLog:
    """Writes events as JSON, one per line, in ASCII: names from outside steer no terminal and break no line."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def __call__(self, event: str, **fields: Any) -> None:
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        stream = self._stream or sys.stderr
        stream.write(json.dumps({"time": time, "event": event, **fields}, default=str) + "\n")
        stream.flush()


class JsonHandler(logging.Handler):
    """Hands what a library logs on to a :class:`JsonLog`."""

    def __init__(self, log: JsonLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log("server", level=record.levelname.lower(), message=record.getMessage())


class Metrics:
    """Counters of a service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        here = {"registry": self.registry}
        ProcessCollector(**here)
        self.requests = Counter("dshc_requests", "Requests answered.", ["method", "path", "status"], **here)
        self.seconds = Histogram(
            "dshc_request_seconds",
            "Seconds from a request to its answer.",
            ["path"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            **here,
        )
        self.running = Gauge("dshc_requests_running", "Requests that are being answered.", **here)
        self.batch_queries = Histogram(
            "dshc_batch_queries",
            "Queries that were searched together.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            **here,
        )
        self.batch_seconds = Histogram(
            "dshc_batch_seconds",
            "Seconds of a search.",
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
            **here,
        )
        self.items = Gauge("dshc_index_items", "Items of the index.", **here)
        self.refreshes = Counter("dshc_index_refreshes", "Looks at a changed index.", ["result"], **here)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)

    def batch(self, n_queries: int, seconds: float) -> None:
        self.batch_queries.observe(n_queries)
        self.batch_seconds.observe(seconds)
