"""`fromnoise studio`: a local web page that shows runs, trains and samples."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fromnoise.cli.common import Plugin, load_plugins, say
from fromnoise.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fromnoise.studio.trainings import Training


def studio(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Runs to show; default all under --out.", metavar="[RUN]...")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 for any free port.")] = 8417,
    host: Annotated[str, typer.Option(help="The address; the default serves this machine only.")] = "127.0.0.1",
    yes: Annotated[bool, typer.Option("--yes", help="Listen at --host although others can reach it.")] = False,
    out: Annotated[Path, typer.Option(help="The folder of trainings started in the studio.")] = Path("runs"),
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
    plugin: Plugin = None,
) -> None:
    """Open runs in the browser: watch them sample, train new ones, draw data by hand."""
    for module in ("starlette", "uvicorn"):
        if find_spec(module) is None:
            raise InputError("the studio needs `pip install 'fromnoise[studio]'`")
    from fromnoise.studio import address

    _check_host(host, yes, address.is_loopback(host))
    load_plugins(plugin)
    import torch

    from fromnoise.studio.app import create_app
    from fromnoise.studio.guard import Key
    from fromnoise.studio.library import Library
    from fromnoise.studio.server import serve
    from fromnoise.studio.trainings import Trainings

    torch.set_num_threads(1)  # the server computes little; beside a training several threads would wait for each other
    library = Library(runs or (), under=None if runs else out)
    trainings = Trainings(library, out, plugin or ())
    listener = address.listen(host, port)
    port = int(listener.getsockname()[1])
    key, hosts = Key(port), address.hosts(host, port)
    link = f"http://{hosts[0]}/?token={key.token}"

    def ready() -> None:
        say(f"the studio is open at {link}")
        say("the link works once, in one browser; Ctrl-C here stops the studio")
        if open_:
            _open(link)

    cut = serve(create_app(library, trainings, hosts=hosts, key=key), listener, trainings, ready)
    _say_goodbye(cut)
    raise typer.Exit(130)


def _check_host(host: str, yes: bool, loopback: bool) -> None:
    if loopback:
        return
    meaning = (
        f"--host {host} lets anyone who reaches this machine and has the link look at the runs, train and fill the "
        "disk, and what is sent is not encrypted"
    )
    if not yes:
        raise InputError(f"{meaning}: add --yes if that is meant, or leave --host out")
    say(f"note: {meaning}")


def _open(link: str) -> None:
    """Open the browser if there is a screen; without one a text browser might take over the terminal."""
    import threading
    import webbrowser

    screen = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
    if screen:
        threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()


def _say_goodbye(cut: Sequence[Training]) -> None:
    from fromnoise.studio.trainings import near

    for training in cut:
        again = training.again()
        saved = f"stopped after step {training.step}; go on with: {again}" if again else "stopped before its first step"
        say(f"{near(training.path)}: {saved}")
    say("the studio is closed")
