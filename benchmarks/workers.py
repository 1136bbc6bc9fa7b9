"""One process for each thing timed.

In a process of its own each has the allocator in the state its own work leaves it in, as a user's program has; in a
common one whoever frees a large block changes the speed of everyone after (glibc then gives less memory back to the
system, and takes less anew, which on small networks is worth a factor of two).
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

Recipe = tuple[str, str, tuple[Any, ...]]
"""A module, a function in it, its arguments: what a worker calls to get its `Prepared`."""


class Prepared(NamedTuple):
    """Something ready to be timed.

    Attributes:
        run: does it once.
        note: what there is to say of it.
    """

    run: Callable[[], object]
    note: str


class Failed(RuntimeError):
    """A worker could not prepare or run its work, and says why."""


class Worker:
    """A process that prepares a piece of work and then does it, timed, whenever it is told to.

    Args:
        recipe: what it calls to prepare.
    """

    def __init__(self, recipe: Recipe) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(recipe, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.note = ""

    def wait(self) -> None:
        """Wait until it is prepared.

        Raises:
            Failed: if it cannot be.
        """
        self.note = self._receive()

    def run(self) -> float:
        """Have the work done once, and return the seconds it took."""
        return self._ask("run")

    def cpu(self) -> float:
        """Return the processor seconds it has had."""
        return self._ask("cpu")

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()

    def _ask(self, what: str) -> Any:
        self._pipe.send(what)
        return self._receive()

    def _receive(self) -> Any:
        try:
            well, answer = self._pipe.recv()
        except EOFError:
            raise Failed("its process died") from None
        if not well:
            raise Failed(answer)
        return answer


def _serve(recipe: Recipe, pipe: Connection) -> None:
    module, function, arguments = recipe
    try:
        prepared: Prepared = getattr(importlib.import_module(module), function)(*arguments)
        pipe.send((True, prepared.note))
        while True:
            what = pipe.recv()
            pipe.send((True, _timed(prepared.run) if what == "run" else sum(os.times()[:4])))
    except EOFError:  # nobody asks any more
        return
    except Exception as error:
        pipe.send((False, f"{type(error).__name__}: {error}"))


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
