"""The help of each command: whole at 80 columns, and with examples that are commands."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import pytest
import typer

from vecbridge.cli.examples import EXAMPLES, FIRST
from vecbridge.cli.main import COMMANDS, app

Run = Callable[..., Any]  # the fixture of conftest.py
LINES = [line for name in COMMANDS for _, line in EXAMPLES.get(name, ())]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_ends_with_examples_of_it(
    run: Run, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns in ("80", "120"):
        monkeypatch.setenv("COLUMNS", columns)
        ran = run(name, "--help")
        assert ran.code == 0
        head, _, examples = ran.out.partition("\nExamples:\n")
        assert EXAMPLES[name]
        for what, line in EXAMPLES[name]:
            indented = "".join(f"  {part}\n" for part in [f"# {what}", *line.split("\n")])
            assert indented in examples
            assert line.startswith(f"vecbridge {name}")
        assert "Options:" in head
        assert max(map(len, ran.out.splitlines())) <= min(int(columns), 100)


def test_the_list_of_commands_is_whole_at_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = run("--help")
    assert "..." not in ran.out.partition("Commands:")[2]
    assert all(line in ran.out for _, line in FIRST)


@pytest.mark.parametrize("line", LINES)
def test_an_example_has_options_and_arguments_that_exist(line: str) -> None:
    name, *arguments = shlex.split(line.replace("\\\n", " ").partition(" > ")[0])
    assert name == "vecbridge"
    group: Any = typer.main.get_command(app)
    with group.context_class(group, info_name=name) as context:
        name, command, rest = group.resolve_command(context, arguments)
        while hasattr(command, "resolve_command"):
            context = command.make_context(name, rest, parent=context)
            name, command, rest = command.resolve_command(context, rest)
        assert command.make_context(name, rest, parent=context).params
