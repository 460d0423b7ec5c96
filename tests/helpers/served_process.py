"""``dshc serve`` as a process of its own."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from training_runs import environment

__all__ = ["ServedProcess", "answered_in_two_parts", "served_process"]


class ServedProcess:
    """Attributes: ``address`` without a slash at its end, ``pid``, ``events``, the lines of its log, all of them
    once it has ended; ``others``, lines that are no events."""

    def __init__(self, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dshc", "serve", *map(str, arguments), "--port", "0"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment(),
            text=True,
        )
        self.pid = self._process.pid
        self.events: list[dict[str, Any]] = []
        self.others: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address = self.wait_for("listening")["address"].rstrip("/")

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.put(line)
        self._lines.put("")

    def wait_for(self, event: str, seconds: float = 120) -> dict[str, Any]:
        """The next line of the log that is such an event."""
        while True:
            line = self._lines.get(timeout=seconds)
            if not line:
                raise AssertionError(f"it ended with {self._process.wait()}: {self.others}")
            if self._keep(line) and self.events[-1]["event"] == event:
                return self.events[-1]

    def _keep(self, line: str) -> bool:
        """Whether it is an event."""
        if line.startswith("{"):
            self.events.append(json.loads(line))
        elif line:
            self.others.append(line)
        return line.startswith("{")

    def tell(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self, number: int = signal.SIGTERM, seconds: float = 60) -> int:
        """Tell it to end; its exit code."""
        if self._process.poll() is None:
            self.tell(number)
        return self.wait(seconds)

    def wait(self, seconds: float = 60) -> int:
        try:
            return self._process.wait(seconds)
        finally:
            if self._process.poll() is None:
                self._process.kill()
            self._reader.join(10)
            while not self._lines.empty():
                self._keep(self._lines.get())


@contextlib.contextmanager
def served_process(*arguments: object) -> Iterator[ServedProcess]:
    """``dshc serve ARGUMENTS`` at a free port of its own choice, ended at the latest with the block."""
    process = ServedProcess(*arguments)
    try:
        yield process
    finally:
        process.end()


def answered_in_two_parts(process: ServedProcess, between: Callable[[], object], *headers: str) -> bytes:
    """All that is answered to a search for the five items nearest to ``bee/1.png``, of whose body a part comes late:
    after ``between``, at whose beginning the service is ready."""
    import httpx2

    place = urlsplit(process.address)
    body = b'{"ids": ["bee/1.png"], "k": 5}'
    head = ["POST /search HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
        connection.sendall(
            "\r\n".join([*head, "Content-Type: application/json", "", ""]).encode() + body[:10]
        )
        assert httpx2.get(f"{process.address}/ready").json() == {"status": "ready"}
        between()
        connection.sendall(body[10:])
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer
