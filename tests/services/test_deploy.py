"""The container files, as far as they can be tried without a container engine: what is copied, built, and run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served_indexes import index_of_codes

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.services


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Containerfile, its lines joined."""
    text = (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest.strip()) for name, rest in re.findall(r"^([A-Z]+) (.*)$", joined, re.MULTILINE)]


def of(name: str) -> str:
    return next(rest for found, rest in instructions() if found == name)


def copied() -> list[str]:
    """What the image is built from: the whitelist of .dockerignore."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines, "nothing but what is named"
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment in which the Containerfile's own pip command has installed what it copies.

    What the package depends on comes from the environment of the tests: to fetch torch again would take minutes.
    """
    folder = tmp_path_factory.mktemp("image")
    source = folder / "src"
    source.mkdir()
    for name in copied():
        path = ROOT / name
        assert path.exists(), f"{name} is to be copied"
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=ignored)
        else:
            shutil.copy(path, source / name)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    commands = _pip_commands()
    install = next(command for command in commands if "/src[" in command)
    given = [
        one.replace("/venv", str(folder / "venv"), 1).replace("/src", str(source))
        for one in shlex.split(install)
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*given, "--no-deps", "--quiet"], check=True, env=environment, cwd=folder)
    found = sysconfig.get_path("purelib")
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "of_the_tests.pth").write_text(found + "\n")
    return folder / "venv"


def _pip_commands() -> list[str]:
    runs = [rest for name, rest in instructions() if name == "RUN" and "pip install" in rest]
    return [part.strip() for rest in runs for part in rest.split("&&") if "pip install" in part]


def test_extras_and_sources_are_there() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = (match[1] for command in _pip_commands() if (match := re.search(r"/src\[(.*?)\]", command)))
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert of("COPY") == ". /src"
    assert len(_pip_commands()) == 2 and "torch" in _pip_commands()[0]


def test_compose_file() -> None:
    yaml = pytest.importorskip("yaml")
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
    service = compose["services"]["dshc"]
    context = ROOT / "deploy" / service["build"]["context"]
    assert (context / service["build"]["dockerfile"]).samefile(ROOT / "deploy" / "Containerfile")
    (port,) = service["ports"]
    assert port == f"127.0.0.1:8000:{of('EXPOSE')}"
    command = json.loads(of("ENTRYPOINT"))
    (volume,) = service["volumes"]
    assert volume.endswith(f"{command[2]}:ro"), "the index is mounted where it is served from"
    (secret,) = service["secrets"]
    assert f"/run/secrets/{secret}" in command and list(compose["secrets"]) == [secret]


@pytest.fixture
def served(venv: Path, tmp_path: Path) -> Iterator[Any]:
    """The command of the image, at a port of its own."""
    (tmp_path / "api-keys").write_text("0123456789abcdef\n")
    index = index_of_codes(tmp_path / "index", 50)
    places = {
        "/venv": str(venv),
        "/index": str(index),
        "/run/secrets/api-keys": str(tmp_path / "api-keys"),
        "0.0.0.0": "127.0.0.1",
    }
    command = json.loads(of("ENTRYPOINT"))
    command[0] = command[0].replace("/venv", places.pop("/venv"), 1)
    command = [places.get(one, one) for one in command]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [*command, "--port", "0"], stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )
    assert process.stderr is not None
    try:
        event: dict[str, Any] = {}
        for line in process.stderr:
            event |= json.loads(line)
            if event["event"] == "ready":
                break
        else:
            raise AssertionError(f"it ended with {process.wait()}")
        yield process, event["address"]
    finally:
        process.kill()
        process.wait()


def test_the_command_serves_what_was_built(served: Any, venv: Path) -> None:
    process, address = served
    request = urllib.request.Request(f"{address}info", headers={"X-API-Key": "0123456789abcdef"})
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["n_items"] == 50
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{address}info")
    loaded = Path(f"/proc/{process.pid}/maps").read_text()
    assert re.search(rf"{venv}/lib/.*/_dshc_fast.*\.so", loaded), (
        "what it runs was built from the copied files"
    )
    check = json.loads(re.search(r"CMD (\[.*\])", of("HEALTHCHECK"))[1])  # type: ignore[index]
    check = [one.replace("/venv", str(venv), 1).replace("http://127.0.0.1:8000/", address) for one in check]
    assert subprocess.run(check).returncode == 0
    assert getattr(signal, of("STOPSIGNAL")) == signal.SIGTERM
    process.send_signal(signal.SIGTERM)
    process.stderr.read()
    assert process.wait(60) == 0
    assert subprocess.run(check, stderr=subprocess.DEVNULL).returncode != 0
