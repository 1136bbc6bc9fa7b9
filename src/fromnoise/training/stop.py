"""Stopping a training from outside, between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fromnoise.errors import rebuilt


class Interrupted(KeyboardInterrupt):
    """The training was asked to stop; it saved its state at `step` if it has a folder."""

    def __init__(self, step: int, path: Path | None) -> None:
        self.step, self.path = step, path
        where = f"; its state is saved in {path}" if path else ""
        super().__init__(f"stopped after step {step}{where}")

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuilt, (type(self), self.args, self.__dict__)


class Stop:
    """A request to stop, which a training honours between two steps, after saving its state.

    Attributes:
        asked: set it to True to ask.
    """

    asked: bool = False


@contextlib.contextmanager
def stop_on_signals(stop: Stop | None = None) -> Iterator[Stop]:
    """Turn the first Ctrl-C or SIGTERM inside the block into a request to stop; a second one acts at once.

    Outside the main thread, which alone can catch signals, nothing is changed.
    """
    stop = stop or Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[int, Any] = {}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(*_: Any) -> None:
        stop.asked = True
        put_back()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        put_back()
