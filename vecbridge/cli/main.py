"""The entry point: the list of commands, and how errors are printed.

The module of a command is imported only when that command is called, and the libraries that it needs only
when it runs, so that ``--help`` and shell completion are fast.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from vecbridge.cli import output
from vecbridge.cli.examples import EXAMPLES, FIRST, epilog
from vecbridge.errors import ConfigError, VecbridgeError

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
TERMINATED: Final = 143

# In the order of the help. A function has the name of its command, with _ added to a name that Python uses.
COMMANDS: Final[dict[str, str]] = {
    "index": "vecbridge.cli.index:index",
    "load": "vecbridge.cli.load:load",
    "search": "vecbridge.cli.search:search",
    "classify": "vecbridge.cli.classify:classify",
    "fair": "vecbridge.cli.fair:fair",
    "moderate": "vecbridge.cli.moderate:moderate",
    "calibrate": "vecbridge.cli.moderate:calibrate",
    "plan": "vecbridge.cli.plan:plan",
    "migrate": "vecbridge.cli.migrate:migrate",
    "sync": "vecbridge.cli.sync:sync",
    "list": "vecbridge.cli.inspect:list_",
    "info": "vecbridge.cli.inspect:info",
    "count": "vecbridge.cli.manage:count",
    "delete": "vecbridge.cli.manage:delete",
    "drop": "vecbridge.cli.manage:drop",
    "doctor": "vecbridge.cli.doctor:doctor",
    "verify": "vecbridge.cli.verify:verify",
    "embed": "vecbridge.cli.embed:embed",
    "demo": "vecbridge.cli.demo:demo",
}


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as service managers and clusters send it: all ends as by Ctrl-C, with another status."""


class _WithExamples:
    """Ends the help with examples, under a heading of their own."""

    epilog: str | None

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the examples."""
        if self.epilog:
            with formatter.section("Examples"):
                formatter.write_text(self.epilog)


class Command(_WithExamples, TyperCommand):
    """A command whose help ends with examples."""


class Group(_WithExamples, TyperGroup):
    """A command of several, whose help ends with examples."""


class Commands(_WithExamples, TyperGroup):
    """Imports a command when it is called; prints its errors as one line and sets the exit status."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, imported now; None if there is none."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Loads every command if the name is unknown, because typer suggests only those that are loaded."""
        if args and args[0] not in COMMANDS:
            for name in COMMANDS:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as exc:
            output.note("Terminated." if isinstance(exc, _Terminated) else "Interrupted.")
            raise typer.Exit(_status(exc)) from None
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
    rich_markup_mode=None,  # plain help: importing rich takes a fifth of a second
    pretty_exceptions_enable=False,  # its tracebacks are longer than Python's
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=epilog(FIRST),
)


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_version)
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", envvar="VECBRIDGE_DEBUG", help="Show tracebacks. May stand anywhere in the command."
        ),
    ] = False,
) -> None:
    """Store pictures and texts in vector databases, and search them by meaning.

    A store URL names a database and, after #, a collection: faiss:./vectors#photos

    Results go to stdout, with --json as one JSON document; everything else goes to stderr.

    Exit status: 0 done, 1 failed or a check did not hold, 2 bad usage, 130 interrupted,
    143 terminated
    """
    output.set_debug(debug or output.debugging())


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line and exits with its status.

    Args:
        arguments: The arguments without the program's name; None takes those of this process.

    Raises:
        SystemExit: Always.
    """
    _open_closed_streams()
    if not sys.warnoptions:
        warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):  # print \\u… where the terminal lacks a character
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    given = sys.argv[1:] if arguments is None else arguments
    output.set_command(given)
    try:
        with _terminating():
            app(args=_without_debug(given), prog_name="vecbridge")
    except KeyboardInterrupt as exc:
        raise SystemExit(_status(exc)) from None
    except BrokenPipeError:  # the reader of the pipe has closed it
        _discard_output()
        raise SystemExit(FAILED) from None
    except SystemExit as ended:
        raise SystemExit(_flush(ended.code)) from None


@contextmanager
def _terminating() -> Iterator[None]:
    """Has SIGTERM end the command in order, unless the caller ignores or handles it.

    Then temporary files are removed, and the journal knows what was acknowledged.
    """
    handled = threading.current_thread() is threading.main_thread()  # which alone gets signals
    handled = handled and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if handled:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        if handled:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: object) -> NoReturn:
    raise _Terminated


def _status(interrupt: KeyboardInterrupt) -> int:
    return TERMINATED if isinstance(interrupt, _Terminated) else INTERRUPTED


def _open_closed_streams() -> None:
    """Opens /dev/null where the caller has closed stdin, stdout or stderr (``>&-``).

    Otherwise the next file that is opened, such as one of a store, gets their number, and what is printed
    would be written into it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - open until the end


def _flush(code: Any) -> Any:
    """Writes what is left of the results; the exit status that this leaves."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return code or FAILED
    except OSError as exc:
        _discard_output()
        output.fail(_line(exc))
        return code or FAILED
    return code


def _discard_output() -> None:
    """Has the interpreter flush what is left to /dev/null when it ends."""
    with suppress(OSError, ValueError):  # a stream of a test has no number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _without_debug(arguments: Sequence[str]) -> list[str]:
    """Removes ``--debug`` from any place, because people append it to the command that failed."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    output.set_debug("--debug" in arguments[:end])
    return [argument for argument in arguments[:end] if argument != "--debug"] + list(arguments[end:])


def _show_warning(message: Warning | str, *place: object, **more: object) -> None:
    output.warn(str(message))


def _load(name: str) -> Any:
    module, _, attribute = COMMANDS[name].partition(":")
    found: Callable[..., None] | typer.Typer = getattr(import_module(module), attribute)
    settings, examples = app.info.context_settings, epilog(EXAMPLES.get(name, ()))
    group = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=settings)
    if isinstance(found, typer.Typer):  # a command of several
        group.add_typer(found, name=name, cls=Group, epilog=examples, context_settings=settings)
        loaded: Any = typer.main.get_command(group)
        return loaded.commands[name]
    group.command(name, cls=Command, epilog=examples)(found)
    return typer.main.get_command(group)


def _report(error: BaseException) -> int:
    """Prints an error, and returns the exit status."""
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
