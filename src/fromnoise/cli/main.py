"""The command `fromnoise`: finds the subcommand, and turns every expected error into one line and an exit code.

Exit codes: 0 done, 1 an unexpected error or a failed check, 2 wrong input or an unusable run, 3 a training that
diverged or an ODE that was not solved, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from fromnoise.cli.certify import certify
from fromnoise.cli.demo import demo
from fromnoise.cli.distill import distill
from fromnoise.cli.evaluate import evaluate
from fromnoise.cli.export import export
from fromnoise.cli.flow import decode, encode, interpolate
from fromnoise.cli.info import info
from fromnoise.cli.plot import plot
from fromnoise.cli.sample import sample
from fromnoise.cli.schedule import schedule
from fromnoise.cli.studio import studio
from fromnoise.cli.train import train
from fromnoise.cli.train_autoencoder import train_autoencoder
from fromnoise.errors import Diverged, InputError, NotConverged, RunError

_UsageError: Any = typer.BadParameter.__mro__[2]
"""Base of what typer raises for a wrong command line (click's ClickException)."""

app = typer.Typer(
    name="fromnoise",
    help="Diffusion models from 2-D points to images: train, sample, and see every number beside the best possible.",
    epilog="Start with: fromnoise demo, or: fromnoise train spiral. --debug shows the traceback of an error.",
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    train, train_autoencoder, sample, evaluate, plot, distill, encode, decode, interpolate, export, schedule, certify,
    studio, info, demo,
):  # fmt: skip
    app.command(command.__name__.replace("_", "-"))(command)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from fromnoise import __version__

        print(f"fromnoise {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    # OpenMP threads that wait for one another spin before they sleep. By default they spin for long and so keep the
    # cores from each other where another process is busy too: a small training then takes 10 to 100 times as long.
    # With this short spin it takes 3 or 4 times as long, and 10% longer on an idle machine. Results are bit-identical.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a label that the terminal's encoding lacks is no error
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        with warnings.catch_warnings(), _terminable():
            warnings.showwarning = _warn
            return _run(given)
    except (InputError, RunError, Diverged, NotConverged) as error:
        if debug:
            raise
        _say(f"error: {' '.join(str(error).split())}")
        return 3 if isinstance(error, (Diverged, NotConverged)) else 2
    except KeyboardInterrupt as stop:
        _say(str(stop) or "stopped")
        return 130
    except BrokenPipeError:  # the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a file that cannot be written
        if debug:
            raise
        _say(f"error: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
        if error.filename is None:  # standard output: what is left in its buffer would fail once more at the exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the command as an error does, so that nothing half written is left behind."""

    def stop(number: int, frame: Any) -> None:
        del frame
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(arguments: Sequence[str]) -> int:
    try:
        code = app(args=list(arguments), prog_name="fromnoise", standalone_mode=False)
    except _UsageError as error:
        _say(f"error: {' '.join(str(error.format_message()).split())} (see fromnoise --help)")
        return 2
    return code if isinstance(code, int) else 0


def _warn(message: Warning | str, *rest: Any, **options: Any) -> None:
    del rest, options
    _say(f"warning: {message}")


def _say(line: str) -> None:
    if sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison] it is None where it was closed
        print(line, file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
