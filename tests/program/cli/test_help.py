"""The help of every command: complete, narrow, in order, and there without waiting for torch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer
from cli_runs import dshc_ok
from training_runs import environment

import dshc_fast
from dshc import methods
from dshc.cli.app import app
from dshc.cli.settings_flags import options
from dshc.runs.settings import TABLES, RunSettings
from dshc.settings import choices, plain_type

CLI = typer.main.get_command(app)
COMMANDS = tuple(CLI.commands)
MANUAL = Path(__file__).resolve().parents[3] / "docs" / "cli.md"
# The argument, and the flag --method.
NO_FLAGS = {("data", "source"), ("method", "name")}


def fields() -> list[tuple[str, str, object]]:
    """Table, name and field of every setting, those of all methods included."""
    models = [(table, RunSettings.model_fields[table].annotation) for table in TABLES if table != "method"]
    models += [("method", methods.get(name).Settings) for name in methods.available()]
    found = [(table, name, field) for table, model in models for name, field in model.model_fields.items()]
    return [entry for entry in found if entry[:2] not in NO_FLAGS]


def options_by_name() -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for option in options():
        found.setdefault(option.name, []).append(option)
    return found


def test_help_lists_every_command() -> None:
    for output in (dshc_ok("--help"), dshc_ok()):
        for command in COMMANDS:
            assert re.search(rf"│ {command} +\S", output), command


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_explains_every_flag(command: str) -> None:
    output = dshc_ok(command, "--help")
    assert "Usage" in output and "None" not in output
    assert max(map(len, output.splitlines())) <= 100
    for parameter in CLI.commands[command].get_params(click.Context(CLI.commands[command])):
        assert (getattr(parameter, "help", None) or "").strip(" ."), parameter.name


def test_the_manual_names_every_command() -> None:
    manual = MANUAL.read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"\n## {command}\n" in manual


def test_the_manual_lists_every_setting_under_its_table() -> None:
    manual = MANUAL.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `\[(\w+)\]` \| (.*) \|$", manual, re.MULTILINE))
    for table in TABLES:
        expected = {name for of, name, _ in fields() if of == table}
        if table == "method":  # those of each are on the page of methods
            expected = {"bits"}
        expected |= {name for of, name in NO_FLAGS if of == table}
        assert set(re.findall(r"`(\w+)`", rows[table])) == expected, table


def test_every_setting_has_exactly_one_flag() -> None:
    found = options_by_name()
    names = {name for _, name, _ in fields()}
    assert set(found) == names | {"method"}
    for name, several in found.items():
        assert len(several) == 1, name
        assert f"--{name.replace('_', '-')}" in several[0].opts
    # A flag of its own for every name: no table takes another's.
    tables: dict[str, set[str]] = {}
    for table, name, _ in fields():
        tables.setdefault(name, set()).add(table)
    assert all(len(of) == 1 for of in tables.values())


def test_the_help_of_a_flag_is_the_description_of_its_setting() -> None:
    found = options_by_name()
    for table, name, _ in fields():
        help_text = found[name][0].help
        if name == "bits":  # every method has it, and says of its length something else
            assert help_text.startswith("Code length in bits")
            continue
        shared = [f for of, other, f in fields() if (of, other) == (table, name)]
        described = [f.description for f in shared if f.description.lower() in help_text.lower()]
        assert described, f"{name}: {help_text}"
        assert help_text.endswith(".") and help_text.count(described[0][1:]) == 1


def test_a_flag_of_some_methods_says_of_which_it_is_and_what_it_means_in_each() -> None:
    found = options_by_name()
    owners: dict[str, dict[str, list[str]]] = {}
    for method in methods.available():
        for name, field in methods.get(method).Settings.model_fields.items():
            owners.setdefault(name, {}).setdefault(field.description, []).append(method)
    assert len(owners["margin"]) > 1 and len(owners["construction"]) == 1
    for name, of in owners.items():
        if name not in ("name", "bits"):
            for text, those in of.items():
                assert f"{', '.join(those)}: {text}" in found[name][0].help, name


def test_the_help_of_a_flag_lists_the_choices() -> None:
    found = options_by_name()
    for _, name, field in fields():
        if choices(field):
            assert found[name][0].metavar == "|".join(choices(field)), name


def test_methods_that_share_a_setting_mean_the_same_type() -> None:
    """One flag serves them all."""
    kinds: dict[str, set[object]] = {}
    for table, name, field in fields():
        if table == "method":
            kinds.setdefault(name, set()).add((plain_type(field), choices(field)))
    assert all(len(of) == 1 for of in kinds.values()), kinds


def test_headings_come_in_the_order_of_the_tables() -> None:
    output = dshc_ok("train", "--help")
    order = ["Arguments", "Options", "Data", "Network", "Method", "Optimisation", "Run"]
    headings = re.findall(r"^╭─ (\w+)", output, re.MULTILINE)
    assert headings == order
    place = {name: output.index(f"─ {name} ─") for name in order}
    flags = {"--root": "Data", "--width": "Network", "--eta": "Method", "--lr": "Optimisation"}
    for flag, heading in (flags | {"--seed": "Run", "--out": "Run", "--set": "Run"}).items():
        at = output.index(f"│ {flag} ")
        assert max(order, key=lambda name: place[name] * (place[name] < at)) == heading, flag


def test_names_keep_their_small_letters() -> None:
    found = options_by_name()
    assert found["backbone"][0].help.startswith("small_net")
    assert found["beta_every"][0].help.startswith("hashnet: ")
    assert found["epochs"][0].help.startswith("Passes")


def test_arguments_are_called_as_the_manual_calls_them() -> None:
    for command, usage in {
        "train": "[SOURCE]",
        "compare": "SOURCE",
        "methods": "[METHOD]",
        "encode": "RUN INPUT",
        "evaluate": "RUN|QUERIES [SOURCE|DATABASE]",
        "search": "RUN|CODES [QUERY]...",
    }.items():
        line = next(line for line in dshc_ok(command, "--help").splitlines() if "Usage" in line)
        assert usage in line.replace("{", "").replace("}", ""), line


def test_version() -> None:
    assert dshc_fast.__version__ in dshc_ok("--version")


def modules_after(*arguments: str) -> set[str]:
    """What a process has imported once a command has ended."""
    code = (
        "import sys\nfrom dshc.cli.app import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print('\\n', *sys.modules)"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [("--help",), (), ("encode", "--help"), ("evaluate", "--help")])
def test_help_does_not_wait_for_torch(arguments: tuple[str, ...]) -> None:
    loaded = modules_after(*arguments)
    assert "dshc.cli.app" in loaded and "typer" in loaded
    assert not {"torch", "numpy", "sklearn", "matplotlib", "dshc_fast"} & loaded


@pytest.mark.deep
def test_the_help_of_train_needs_the_settings() -> None:
    """What the test before looks for is found where it is."""
    assert "torch" in modules_after("train", "--help")
