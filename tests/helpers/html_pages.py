"""What an HTML page holds, read with the standard library: addresses, tags, classes, words and cells."""

from __future__ import annotations

from html.parser import HTMLParser

__all__ = ["Page"]

ADDRESSES = ("src", "srcset", "href", "action", "data", "poster", "background")


class Page(HTMLParser):
    """What a page refers to, the tags it leaves open, and its text."""

    VOID = {"meta", "img", "source", "br", "link", "input"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.classes: list[str] = []
        self.words: list[str] = []
        self.cells: list[list[str]] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, f"tags left open: {self._open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("th", "td"):
            self.cells[-1].append("")
        if tag not in self.VOID:
            self._open.append(tag)
        for name, value in attributes:
            assert not name.startswith("on"), f"{name} runs a script"
            if name in ADDRESSES:
                self.addresses.append(value or "")
            if name == "class":
                self.classes += (value or "").split()

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if {"th", "td"} & set(self._open):
            self.cells[-1][-1] = " ".join(f"{self.cells[-1][-1]} {data}".split())
