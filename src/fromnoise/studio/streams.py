"""Streamed answers: lines of JSON, server-sent events."""

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
"""Seconds in which a client must take a part of the answer; after them it counts as gone."""


class Stream(StreamingResponse):
    """An answer that is sent until its source ends, or the client goes away or takes nothing more.

    Args:
        parts: the parts of the answer.
        media_type: the media type of the answer.
        release: called at the end, whatever the reason.
    """

    def __init__(self, parts: AsyncIterator[bytes], media_type: str, release: Callable[[], None] | None = None) -> None:
        self._parts, self._release = parts, release
        super().__init__(parts, media_type=media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        try:
            async with aclosing(self._parts):  # pyright: ignore[reportArgumentType] every source here is a generator
                await super().__call__(scope, receive, send)
        except* TimeoutError:
            _log.info("a client took nothing for %g s and was disconnected", _PATIENCE)
        finally:
            if self._release is not None:
                self._release()

    async def stream_response(self, send: Send) -> None:
        """Send part after part, each with a time limit for the client."""

        async def soon(message: Message) -> None:
            async with asyncio.timeout(_PATIENCE):
                await send(message)

        await super().stream_response(soon)


async def from_thread(first: bytes, rest: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield lines computed in a thread, each one after the line before was taken."""
    yield first
    try:
        while (line := await anyio.to_thread.run_sync(next, rest, None)) is not None:
            yield line
    except Exception:
        _log.exception("a walk failed")
        yield json.dumps({"error": "the studio failed; its terminal shows the error"}).encode() + b"\n"


async def as_events(news: AsyncIterator[tuple[str, dict[str, Any]] | None]) -> AsyncIterator[bytes]:
    """Yield news as server-sent events; None becomes a comment, which shows whether the client is still there."""
    async with aclosing(news):  # pyright: ignore[reportArgumentType]
        async for item in news:
            if item is None:
                yield b": still here\n\n"
            else:
                yield f"event: {item[0]}\ndata: {json.dumps(item[1])}\n\n".encode()
