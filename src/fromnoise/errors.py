"""All exceptions of the library, in one tree.

    FromnoiseError
    |-- InputError (also a ValueError)   what the caller gave cannot be used; the command line exits with 2
    |   |-- UnknownName                  a name that no component has; the message lists the known ones and the nearest
    |   |-- ConfigError                  a setting that is unknown, missing or out of range
    |   |-- LabelError                   a label that the data or the model does not have
    |   `-- RunExists                    the output folder already holds a run
    |-- RunError                         a run folder cannot be read or written; the command line exits with 2
    |   |-- NoRun                        there is no run there
    |   |-- ConfigChanged                a run is resumed with another configuration
    |   |-- FormatTooNew                 written by a newer fromnoise
    |   `-- CheckpointDamaged            truncated, edited, or not what the configuration says
    |-- NotConverged                     an ODE could not be solved to its tolerance; the command line exits with 3
    `-- Diverged                         training met a NaN or an infinity; the command line exits with 3

A message says what was expected, what came, and what to do, in one line.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable
from typing import Any


class FromnoiseError(Exception):
    """Base of every error the library raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuilt, (type(self), self.args, self.__dict__)


def rebuilt(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    """Return an exception that was pickled, without calling its constructor, which may take something else."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    return error


class InputError(FromnoiseError, ValueError):
    """Something the caller gave cannot be used."""


class UnknownName(InputError):
    """A name that no component has.

    Args:
        kind: what it should name.
        name: as it was given.
        known: the names there are.
        otherwise: what to say where none of these is near.
    """

    def __init__(self, kind: str, name: object, known: Iterable[str], otherwise: str = "") -> None:
        names, said = sorted(known), name if isinstance(name, str) and len(name) <= 60 else shown(name)
        near = difflib.get_close_matches(said, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        super().__init__(f"unknown {kind} {said!r}: {hint}known: {', '.join(names)}{'' if near else otherwise}")


class ConfigError(InputError):
    """A setting that is unknown, missing or out of range."""


class LabelError(InputError):
    """A label that the data or the model does not have."""


class NotConverged(FromnoiseError):
    """An ODE could not be solved to its tolerance."""


class RunExists(InputError):
    """The output folder already holds a run."""


class RunError(FromnoiseError):
    """A run folder cannot be read or written."""


class NoRun(RunError):
    """There is no run at the given place."""


class ConfigChanged(RunError):
    """A run is resumed with another configuration than it was started with."""


class FormatTooNew(RunError):
    """A run or checkpoint written by a newer version of the library."""


class CheckpointDamaged(RunError):
    """A checkpoint that is truncated, edited, or not what its configuration says."""


class Diverged(FromnoiseError):
    """Training met a NaN or an infinity."""


def shown(value: object, most: int = 60) -> str:
    """Return a value as a message shows it: its repr, cut to `most` characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of thousands of digits, lists within lists
        text = f"a {type(value).__name__}"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def one_line(text: str, most: int = 1000) -> str:
    """Return a message as one line of at most `most` characters, without control characters."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 2 * most]).split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def whole_number(what: str, value: Any, *, least: int = 1) -> int:
    """Return `value` as an int of at least `least`; any integer type is accepted, a bool is not.

    Raises:
        InputError: if it is not one.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise InputError(f"{what} must be a whole number of at least {least}, not {shown(value)}")
    return number
