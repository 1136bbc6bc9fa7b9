"""Answers that go on: lines of JSON, server-sent events."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import anyio.to_thread
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

_log = logging.getLogger(__name__)

_PATIENCE = 60.0
"""Seconds in which a client must take what it asked for, before it counts as gone."""


class Stream(StreamingResponse):
    """An answer that goes on until its source ends, or the client goes away or takes nothing more.

    Args:
        parts: what is sent, part by part.
        media_type: what it is.
        release: called at the end, however it comes.
    """

    def __init__(self, parts: AsyncIterator[bytes], media_type: str, release: Callable[[], None] | None = None) -> None:
        self._parts, self._release = parts, release
        super().__init__(parts, media_type=media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            async with aclosing(self._parts):  # pyright: ignore[reportArgumentType] every source here is a generator
                await super().__call__(scope, receive, send)
        except* TimeoutError:
            _log.info("a client took nothing for %g s and was left", _PATIENCE)
        finally:
            if self._release is not None:
                self._release()

    async def stream_response(self, send: Send) -> None:
        """Send part after part, none of them waiting for a client for ever."""

        async def soon(message: Message) -> None:
            async with asyncio.timeout(_PATIENCE):
                await send(message)

        await super().stream_response(soon)


async def from_thread(first: bytes, rest: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield lines that a thread works out, the next one when the one before was taken."""
    yield first
    try:
        while (line := await anyio.to_thread.run_sync(next, rest, None)) is not None:
            yield line
    except Exception:
        _log.exception("a walk broke off")
        yield json.dumps({"error": "the studio made a mistake; its terminal says more"}).encode() + b"\n"


async def as_events(news: AsyncIterator[tuple[str, dict[str, Any]] | None]) -> AsyncIterator[bytes]:
    """Yield news as server-sent events; a comment where there are none, to see whether the client is still there."""
    async with aclosing(news):  # pyright: ignore[reportArgumentType]
        async for item in news:
            if item is None:
                yield b": still here\n\n"
            else:
                yield f"event: {item[0]}\ndata: {json.dumps(item[1])}\n\n".encode()
