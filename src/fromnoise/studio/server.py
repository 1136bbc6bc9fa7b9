"""The server: one process and one event loop; Ctrl-C or SIGTERM stops it, and trainings save their state."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from fromnoise.studio.trainings import Training, Trainings

MOST_CONNECTIONS = 256

_PATIENCE = 10.0
"""Seconds in which a connection must send the head of a request."""


class _Hasty(H11Protocol):
    """uvicorn's HTTP/1.1 with a time limit for the head of a request; uvicorn itself would wait without limit."""

    _until: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._until = self.loop.call_later(_PATIENCE, self._time_out)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering:
            self._cancel_timer()
        elif self._until is None:
            self._until = self.loop.call_later(_PATIENCE, self._time_out)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        super().connection_lost(exc)

    def _time_out(self) -> None:
        self._until = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()

    def _cancel_timer(self) -> None:
        if self._until is not None:
            self._until.cancel()
            self._until = None


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handling, which would raise each signal again at the end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(
    app: ASGIApp, listener: socket.socket, trainings: Trainings, ready: Callable[[], None] | None = None
) -> list[Training]:
    """Serve until stopped; a training in progress then saves its state.

    Args:
        app: the application.
        listener: the socket to serve on.
        trainings: the trainings, stopped at the end.
        ready: called when the server has started.

    Returns:
        The trainings that were stopped before their end.
    """
    return asyncio.run(_serve(app, listener, trainings, ready))


async def _serve(
    app: ASGIApp, listener: socket.socket, trainings: Trainings, ready: Callable[[], None] | None
) -> list[Training]:
    server = _Server(
        uvicorn.Config(
            app,
            http=_Hasty,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=5,
        )
    )
    stop = asyncio.Event()
    with _on_signals(stop.set):
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if ready is not None and server.started:
            ready()
        reading = asyncio.create_task(trainings.library.first())  # while the browser opens
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
        cut = await trainings.close()  # its listeners get the last event, and their connections end
        server.should_exit = True
        await serving
        stopped.cancel()
        reading.cancel()
    return cut


@contextmanager
def _on_signals(act: Callable[[], Any]) -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into a call inside the event loop; a second one has its usual effect."""
    loop, before = asyncio.get_running_loop(), dict[int, Any]()

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def once(*_: Any) -> None:
        put_back()
        loop.call_soon_threadsafe(act)

    with suppress(ValueError):  # not in the main thread, as in a test, which stops the server itself
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, once)
    try:
        yield
    finally:
        put_back()
