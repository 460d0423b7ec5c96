"""The page of ``dshc serve`` in a real browser: by mouse, by keyboard, by drop and paste, and where things go wrong."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from browsers import missing, opened
from cli_runs import dshc_ok
from served_indexes import Log, index_of_codes, png
from served_process import ServedProcess, served_process
from served_shards import cut_index

from dshc import HashIndex
from dshc.data import load

pytestmark = [pytest.mark.services, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "digits"
    dshc_ok("demo", "--out", folder, "--no-report")
    return folder


@pytest.fixture(scope="module")
def service(run: Path) -> Iterator[ServedProcess]:
    with served_process(run) as process:
        process.wait_for("ready")
        yield process


@pytest.fixture
def page(chromium: Any, service: ServedProcess) -> Iterator[Any]:
    with opened(chromium, f"{service.address}/#id=42") as page:
        found(page, 24)
        yield page


def found(page: Any, n: int) -> None:
    """Wait until so many results are shown."""
    page.wait_for_function(
        "n => document.querySelectorAll('#results li').length === n && !document.querySelector('#results.waiting')",
        arg=n,
    )


def first(page: Any) -> str:
    return page.locator("#results li").first.locator("button").get_attribute("aria-label")


def a_digit(number: int = 42) -> bytes:
    return png(load("digits").inputs[number][..., 0])


def test_an_item_is_searched_from(page) -> None:
    assert page.title() == "digits: search by hash codes"
    assert "1,437 items, codes of 30 bits" in page.inner_text("#facts")
    assert re.match(r"24 items, at distance 0 to \d+", page.inner_text("#status"))
    assert first(page) == "42, 1, distance 0, the same code"
    assert page.input_value("#id") == "42"


def test_a_click_searches_from_a_result_and_back_leads_back(page) -> None:
    third = page.locator("#results button").nth(2)
    name = third.locator(".id").inner_text()
    third.click()
    page.wait_for_function("name => document.querySelector('#query h3').textContent === name", arg=name)
    assert first(page).endswith("distance 0, the same code") and page.input_value("#id") == name
    assert page.evaluate("document.activeElement.id") == "found", (
        "a reader of the screen goes on at the results"
    )
    page.go_back()
    page.wait_for_function("() => document.querySelector('#query h3').textContent === '42'")


def test_an_image_is_uploaded(page) -> None:
    page.set_input_files("#file", {"name": "seven.png", "mimeType": "image/png", "buffer": a_digit(7)})
    page.wait_for_function("() => document.querySelector('#query h3').textContent === 'seven.png'")
    assert "predicted: 7" in page.inner_text("#query")
    assert page.locator("#query img").evaluate("image => image.complete && image.naturalWidth") == 8


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_an_image_is_pasted_and_dropped(page, way: str) -> None:
    page.evaluate(
        """([way, content]) => {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "three.png", { type: "image/png" }));
            const event = way === "paste"
                ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true })
                : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
            document.body.dispatchEvent(event);
        }""",
        [way, base64.b64encode(a_digit(3)).decode()],
    )
    page.wait_for_function("() => document.querySelector('#query h3').textContent === 'three.png'")
    assert "predicted: 3" in page.inner_text("#query")


def test_sliders_and_labels(page) -> None:
    page.locator("#k").fill("7")
    found(page, 7)
    page.locator("#radius").fill("0")
    page.wait_for_function(
        "() => document.querySelector('#status').textContent.includes('within distance 0')"
    )
    assert page.locator("#by-radius").is_checked()
    assert {text for text in page.locator("#results .distance").all_inner_texts()} == {"0 bits"}
    page.locator("#by-k").check()
    page.select_option("#label", "8")
    page.wait_for_function(
        "() => [...document.querySelectorAll('#results .label')].every((one) => one.textContent === '8')"
    )


def test_bits_that_differ_are_marked(page) -> None:
    page.locator("#k").fill("100")
    found(page, 100)
    for button in page.locator("#results button").all()[::9]:
        distance = int(button.locator(".distance").inner_text().split()[0])
        marks = button.locator(".marks").get_attribute("d") or ""
        assert marks.count("M") == distance
        ones, zeros = (button.locator(f".{name}").get_attribute("d") or "" for name in ("ones", "zeros"))
        assert ones.count("M") + zeros.count("M") == 30


def test_the_map_is_clicked(page) -> None:
    page.wait_for_selector("#map circle")
    circles = page.locator("#map circle")
    assert circles.count() > 10 and "codes, all" not in page.inner_text("#map-text")
    assert page.locator("#map circle.here").count() == 1, "where the query is"
    assert page.locator("#legend li").count() == 10
    circles.last.dispatch_event("click")
    page.wait_for_function("() => document.querySelector('#query h3').textContent.startsWith('the code of')")
    assert "distance 0" in first(page)


def test_by_keyboard_alone(chromium, service) -> None:
    with opened(chromium, f"{service.address}/#id=42") as page:
        found(page, 24)
        page.wait_for_selector("#map circle")

        def tab_to(selector: str) -> None:
            for _ in range(60):
                page.keyboard.press("Tab")
                if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                    assert outline != "none" or "circle" in selector, "the focus is to be seen"
                    return
            raise AssertionError(f"no way to {selector}")

        tab_to(".skip")
        tab_to("#id")
        page.keyboard.press("Control+a")
        page.keyboard.type("7")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('#query h3').textContent === '7'")
        tab_to("#k")
        page.keyboard.press("ArrowLeft")
        found(page, 23)
        tab_to("#results button")
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.querySelector('.id').textContent")
        page.keyboard.press("Enter")
        page.wait_for_function("name => document.querySelector('#query h3').textContent === name", arg=name)
        tab_to("#map circle")
        before = page.evaluate("document.activeElement.getAttribute('aria-label')")
        for key in ("ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown"):
            page.keyboard.press(key)
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
            page.keyboard.press(key)
            if page.evaluate("document.activeElement.getAttribute('aria-label')") != before:
                break
        else:
            raise AssertionError("the arrows lead nowhere")
        page.keyboard.press("Enter")
        page.wait_for_function(
            "() => document.querySelector('#query h3').textContent.startsWith('the code of')"
        )


def test_what_a_screen_reader_is_told(page) -> None:
    for role in ("status", "alert"):
        assert page.locator(f"[role={role}]").count() == 1
    assert [heading.inner_text() for heading in page.get_by_role("heading", level=2).all()] == [
        "Query", "Nearest items", "Map of the codes",
    ]  # fmt: skip
    upload = "Choose an image, drop it here or paste it"
    for label in (upload, "Item of the index", "Number of items", "Distance", "With label"):
        assert page.get_by_label(label, exact=True).count() == 1, label
    assert page.evaluate("[...document.images].every((image) => image.hasAttribute('alt'))")
    assert page.evaluate(
        "[...document.querySelectorAll('button')].every((one) => one.textContent || one.ariaLabel)"
    )
    assert page.evaluate("document.documentElement.lang") == "en"


def error_of(page: Any) -> str:
    page.wait_for_selector("#error:not([hidden])")
    return page.inner_text("#error")


def test_errors_are_shown(chromium, service) -> None:
    with opened(chromium, f"{service.address}/#id=42", refused=True) as page:
        found(page, 24)
        page.fill("#id", "<img src=x onerror=alert(1)>")
        page.keyboard.press("Enter")
        assert "ids must be in the index, got '<img src=x" in error_of(page)
        assert page.locator("#results li").count() == 0
        page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"no image"})
        page.wait_for_function(
            "() => document.querySelector('#error').textContent.includes('not a readable image')"
        )
        page.set_input_files("#file", {"name": "b.png", "mimeType": "image/png", "buffer": bytes(17 << 20)})
        page.wait_for_function(
            "() => document.querySelector('#error').textContent.includes('at most 16.0 MiB')"
        )
        page.click("#random")
        found(page, 24)
        assert page.locator("#error").is_hidden()


def test_a_service_that_has_gone(chromium, tmp_path) -> None:
    with served_process(index_of_codes(tmp_path / "index", 60)) as process:
        with opened(chromium, f"{process.address}/#id=bee/1.png", refused=True) as page:
            found(page, 24)
            assert page.locator("#drop").is_hidden(), "it accepts no images"
            assert page.locator("#where").is_visible()
            page.fill("#where", "year > x")
            page.keyboard.press("Enter")
            assert "must" in error_of(page)
            page.fill("#where", "year > 2005")
            page.keyboard.press("Enter")
            found(page, 24)
            process.end()
            page.click("#random")
            assert error_of(page) == "The service does not answer."


def test_a_key_is_asked_for(chromium, run, tmp_path) -> None:
    (tmp_path / "keys").write_text("0123456789abcdef\n")
    with served_process(run, "--api-key-file", tmp_path / "keys") as process:
        with opened(chromium, process.address, refused=True) as page:
            assert "must show an API key" in error_of(page)
            assert page.evaluate("document.activeElement.id") == "key"
            page.keyboard.type("wrong" * 5)
            page.keyboard.press("Enter")
            page.wait_for_function("() => document.querySelector('#key').value")
            page.fill("#key", "0123456789abcdef")
            page.keyboard.press("Enter")
            found(page, 24)
            page.wait_for_function("() => document.querySelector('#results img').naturalWidth === 8")
            assert page.locator("#results img").first.get_attribute("src").startswith("blob:")


def test_an_empty_index(chromium, tmp_path) -> None:
    with served_process(index_of_codes(tmp_path / "index", 0)) as process:
        with opened(chromium, process.address) as page:
            page.wait_for_function(
                "() => document.querySelector('#status').textContent.includes('no items yet')"
            )


@pytest.mark.parametrize("size", [(1440, 960), (800, 900), (390, 800)])
def test_narrow_windows(chromium, service, size: tuple[int, int]) -> None:
    viewport = {"width": size[0], "height": size[1]}
    with opened(chromium, f"{service.address}/#id=42", viewport=viewport) as page:
        found(page, 24)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_an_answer_without_a_shard_says_so(chromium, tmp_path) -> None:
    """Of shards of which one cannot be had, where that is allowed."""
    from dshc.service import ServiceSettings, create_app
    from dshc.service.served_shards import ServedShards, ShardBatches
    from dshc.service.watch import JsonLog

    served = ServedShards.open(None, cut_index(tmp_path, 3)[1], partial=True)
    app = create_app(served, ServiceSettings(), log=JsonLog(Log()), batches=ShardBatches)
    with listening(app) as address:
        with opened(chromium, f"{address}/#id=bee/1.png") as page:
            found(page, 24)
            assert "whole" not in page.locator("#status").inner_text()
        served.index._holders._unopened[1] = "its holder was lost"
        with opened(chromium, f"{address}/#id=bee/1.png") as page:
            found(page, 24)
            assert page.locator("#status").inner_text().endswith(". Not whole: without 01.")


@contextlib.contextmanager
def listening(app: Any) -> Iterator[str]:
    """The address of an application that answers in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not (server.started and app.state.service.is_ready):
            time.sleep(0.05)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def contrast(one: str, other: str) -> float:
    """Of two colours, "rgb(r, g, b)": WCAG 2.1, relative luminance and contrast ratio."""

    def luminance(text: str) -> float:
        shares = np.array([int(n) / 255 for n in re.findall(r"\d+", text)[:3]])
        linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_ids_of_64_bits(chromium, tmp_path) -> None:
    """A number of JavaScript holds 53 of them."""
    ids = 9007199254740993 + np.arange(30) * 2
    with HashIndex.create(tmp_path / "index", bits=8) as index:
        index.add(np.arange(30, dtype=np.uint8)[:, None], ids)
    with served_process(tmp_path / "index") as process:
        process.wait_for("ready")
        with opened(chromium, f"{process.address}/#id={ids[3]}") as page:
            found(page, 24)
            assert page.locator("#results .id").first.inner_text() == str(ids[3])
            name = page.locator("#results .id").nth(1).inner_text()
            assert int(name) in ids.tolist()
            page.locator("#results button").nth(1).click()
            page.wait_for_function(
                "name => document.querySelector('#query h3').textContent === name", arg=name
            )
            assert page.locator("#results .id").first.inner_text() == name and page.input_value("#id") == name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(chromium, service, tmp_path, scheme: str) -> None:
    """``DSHC_SCREENSHOTS=docs/images`` makes the pictures of the documentation anew."""
    with opened(chromium, f"{service.address}/#id=42", color_scheme=scheme) as page:
        found(page, 24)
        page.wait_for_selector("#map circle")
        page.wait_for_timeout(300)
        style = (
            "element => [getComputedStyle(element).color, getComputedStyle(document.body).backgroundColor]"
        )
        ink, paper = page.locator("body").evaluate(style)
        assert ("rgb(255, 255, 255)" == paper) == (scheme == "light")
        assert contrast(ink, paper) > 7
        for selector in ("#facts", "#results .id", "#map-text", "#status"):
            assert contrast(*page.locator(selector).first.evaluate(style)) > 4.5, selector
        folder = Path(os.environ.get("DSHC_SCREENSHOTS") or tmp_path)
        page.screenshot(path=folder / f"serve-{scheme}.png")
