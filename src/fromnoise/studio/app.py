"""The studio as an ASGI application."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware

from fromnoise.studio.guard import Guard, Key, Limits
from fromnoise.studio.library import Library
from fromnoise.studio.routes import ERRORS, Routes
from fromnoise.studio.trainings import Trainings


def create_app(
    library: Library, trainings: Trainings, *, hosts: Sequence[str], key: Key, limits: Limits | None = None
) -> Starlette:
    """Return the application.

    Args:
        library: the runs on show.
        trainings: the trainings of the studio.
        hosts: the values of the Host header that are accepted.
        key: gives a browser access.
        limits: the limits of a request.
    """
    guard = Middleware(Guard, hosts=hosts, key=key, limits=limits)
    app = Starlette(routes=Routes(library, trainings).all(), middleware=[guard], exception_handlers=ERRORS)
    app.router.redirect_slashes = False  # no redirects from a similar path
    return app
