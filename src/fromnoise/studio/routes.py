"""The requests to the studio, and its answers.

    GET  /                                the page
    GET  /api/runs                        {"runs": [{"id", "name", "state", "step", "steps"}]}
    GET  /api/runs/{id}                   the data of a run for the page
    GET  /api/runs/{id}/walk?...          samples, a line of JSON for each step
    GET  /api/form                        names, recipes and the configuration's schema
    POST /api/trainings                   {"data", "recipe", "changes"}, or {"resume": id} -> 202 {"id", "position"}
    GET  /api/trainings/{id}/events       server-sent events: progress, checkpoint, then done, stopped or failed
    POST /api/trainings/{id}/stop         {} -> {"id", "state"}

An error is answered as {"error": "one line"}.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fromnoise.errors import FromnoiseError, InputError, NoRun
from fromnoise.studio.jobs import Job
from fromnoise.studio.library import Library
from fromnoise.studio.streams import Stream, as_events, from_thread
from fromnoise.studio.trainings import Trainings
from fromnoise.studio.walks import AT_ONCE, Walk

API = "/api"


class Routes:
    """The handlers of all requests.

    Args:
        library: the runs on show.
        trainings: the trainings of the studio.
    """

    def __init__(self, library: Library, trainings: Trainings) -> None:
        self.library, self.trainings = library, trainings
        self._walks = 0

    def all(self) -> list[Route]:
        """Return every path with its handler."""
        run, training = "/api/runs/{run_id}", "/api/trainings/{run_id}"
        return [
            Route("/", self.page),
            Route("/api/runs", self.runs),
            Route(run, self.run),
            Route(f"{run}/walk", self.walk),
            Route("/api/form", self.form),
            Route("/api/trainings", self.start, methods=["POST"]),
            Route(f"{training}/events", self.events),
            Route(f"{training}/stop", self.stop, methods=["POST"]),
        ]

    # -- looking -------------------------------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        """Return the page; the nonce of this answer allows its scripts."""
        page = await self.library.page(request.scope["nonce"], {"api": API})
        return Response(page, media_type="text/html")

    async def runs(self, request: Request) -> Response:
        """Return the list of runs."""
        return JSONResponse({"runs": self.trainings.rows()})

    async def run(self, request: Request) -> Response:
        """Return the data of a run for the page."""
        loaded = await self.library.get(request.path_params["run_id"])
        return Response(loaded.encoded, media_type="application/json")

    async def form(self, request: Request) -> Response:
        """Return the data of the page's form."""
        return Response(await anyio.to_thread.run_sync(lambda: self._form), media_type="application/json")

    @cached_property
    def _form(self) -> bytes:
        from fromnoise.studio.form import form

        return json.dumps(form(), allow_nan=False).encode()

    async def walk(self, request: Request) -> Response:
        """Return samples step by step."""
        names = [name for name, _ in request.query_params.multi_items()]
        if len(set(names)) < len(names):
            raise InputError("the walk: a setting is given twice")
        walk = Walk.from_query(request.query_params)
        loaded = await self.library.get(request.path_params["run_id"])
        if request.method == "HEAD":
            return Response(media_type="application/x-ndjson")
        if self._walks >= AT_ONCE:
            raise HTTPException(503, f"{AT_ONCE} walks are being drawn already: try again when one of them is done")
        self._walks += 1
        try:
            lines = walk.lines(loaded.run)
            first = await anyio.to_thread.run_sync(next, lines)
        except BaseException:
            self._release()
            raise
        return Stream(from_thread(first, lines), "application/x-ndjson", self._release)

    def _release(self) -> None:
        self._walks -= 1

    # -- training ------------------------------------------------------------------------------------------------

    async def start(self, request: Request) -> Response:
        """Put a training into the queue, or the rest of one."""
        posted = _read(await request.body())
        if isinstance(posted, dict) and set(posted) == {"resume"}:
            run_id, position = await self.trainings.go_on(str(posted["resume"]))
        else:
            run_id, position = await self.trainings.start(Job.from_post(posted))
        return JSONResponse({"id": run_id, "position": position}, status_code=202)

    async def events(self, request: Request) -> Response:
        """Stream the events of a training."""
        run_id = request.path_params["run_id"]
        self.trainings.find(run_id)
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        return Stream(as_events(self.trainings.listen(run_id)), "text/event-stream")

    async def stop(self, request: Request) -> Response:
        """Ask a training to save its state and stop."""
        training = self.trainings.stop(request.path_params["run_id"])
        return JSONResponse({"id": training.id, "state": training.state})


def _read(body: bytes) -> Any:
    """Return the JSON in a body.

    Raises:
        HTTPException: if the body is not JSON.
    """
    try:
        return json.loads(body.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is not JSON") from None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def refuse(request: Request, error: Exception) -> Response:
    """Return an expected error as one line: 404 not found, 409 busy or damaged, 422 wrong input."""
    del request
    if isinstance(error, HTTPException):
        return _error(error.status_code, error.detail, error.headers)
    status = 404 if isinstance(error, NoRun) else 422 if isinstance(error, InputError) else 409
    return _error(status, str(error))


def _error(status: int, text: str, headers: Any = None) -> Response:
    line = " ".join(text.split())
    return JSONResponse({"error": line if len(line) <= 400 else f"{line[:397]}..."}, status, headers)


ERRORS: dict[Any, Any] = {HTTPException: refuse, FromnoiseError: refuse}
