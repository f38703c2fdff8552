"""The entry point: which commands there are, and what an error looks like.

A command's module is imported when the command is wanted, and what the command needs when it runs, so that
``--help`` and shell completion answer at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from vecbridge.cli import output
from vecbridge.errors import ConfigError, VecbridgeError

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

# In the order of the help; each module has a function of the command's name, with _ after a Python word.
COMMANDS: Final[dict[str, str]] = {
    "index": "vecbridge.cli.index:index",
    "load": "vecbridge.cli.load:load",
    "search": "vecbridge.cli.search:search",
    "list": "vecbridge.cli.inspect:list_",
    "info": "vecbridge.cli.inspect:info",
    "doctor": "vecbridge.cli.doctor:doctor",
    "demo": "vecbridge.cli.demo:demo",
}


class Commands(TyperGroup):
    """Loads a command when it is asked for, and turns its errors into a line and an exit status."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, imported now; None if there is none of that name."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer does, with every command loaded where the name is a slip that deserves a suggestion."""
        if args and args[0] not in COMMANDS:
            for name in COMMANDS:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            output.note("Interrupted.")
            raise typer.Exit(INTERRUPTED) from None
        except (VecbridgeError, OSError) as exc:
            if isinstance(exc, BrokenPipeError):
                raise
            raise typer.Exit(_report(exc)) from None


def _version(wanted: bool) -> None:
    if wanted:
        from vecbridge import __version__

        typer.echo(__version__)
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: rich costs a fifth of a second
    pretty_exceptions_enable=False,  # its tracebacks are long, and a bug is better told by Python's own
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_version)
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", envvar="VECBRIDGE_DEBUG", help="Show where an error comes from; goes anywhere."
        ),
    ] = False,
) -> None:
    """Pictures and texts into vector databases, and out again by meaning.

    A store URL names a database, and a collection after #: faiss:./vectors#photos

    Results go to stdout, with --json as one JSON document; the rest goes to stderr.

    Exit status: 0 done, 1 failed or a check did not hold, 2 bad usage, 130 interrupted
    """
    output.set_debug(debug or output.debugging())


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line and exits with its status.

    Args:
        arguments: What follows the program's name; None takes the process's own.

    Raises:
        SystemExit: Always.
    """
    if not sys.warnoptions:
        warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):  # a character that the terminal lacks is no reason to fail
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(args=_without_debug(sys.argv[1:] if arguments is None else arguments), prog_name="vecbridge")
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None


def _without_debug(arguments: Sequence[str]) -> list[str]:
    """Takes ``--debug`` out wherever it stands, since people add it to the end of what failed."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    output.set_debug("--debug" in arguments[:end])
    return [each for each in arguments[:end] if each != "--debug"] + list(arguments[end:])


def _show_warning(message: Warning | str, *place: object, **more: object) -> None:
    output.warn(str(message))


def _load(name: str) -> Any:
    module, _, attribute = COMMANDS[name].partition(":")
    function: Callable[..., None] = getattr(import_module(module), attribute)
    single = typer.Typer(
        add_completion=False, rich_markup_mode=None, context_settings=app.info.context_settings
    )
    single.command(name)(function)
    return typer.main.get_command(single)


def _report(error: BaseException) -> int:
    """Says what went wrong, and which exit status that is."""
    if output.debugging():
        import traceback

        traceback.print_exception(error)
    output.fail(_line(error))
    return USAGE if isinstance(error, ConfigError) else FAILED


def _line(error: BaseException) -> str:

    if isinstance(error, VecbridgeError):
        notes = [str(error) or type(error).__name__, *getattr(error, "__notes__", ())]
        return output.in_options("; ".join(notes))
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"
