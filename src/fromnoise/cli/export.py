"""`fromnoise export runs/spiral --to html out.html`: a run as one file for the browser."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fromnoise.cli.common import Json, Plugin, RunPath, load_plugins, result, say, whole_file
from fromnoise.errors import InputError, UnknownName

_KINDS = ("html",)


def export(
    run: RunPath,
    out: Annotated[Path | None, typer.Argument(help="The file; default NAME.html.", show_default=False)] = None,
    to: Annotated[str, typer.Option(help="The format: html, one page that runs the model in any browser.")] = "html",
    beside: Annotated[
        list[Path] | None, typer.Option("--beside", help="Another run on the same page.", metavar="RUN")
    ] = None,
    with_data: Annotated[
        bool,
        typer.Option("--data/--no-data", help="Whether the page holds samples of the training data, to show them."),
    ] = True,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Export a run as one HTML file that opens from disk and samples the model in the reader's browser."""
    load_plugins(plugin)
    if to not in _KINDS:
        raise UnknownName("kind of export", to, _KINDS)
    path = out or Path(f"{run.resolve().name}.html")
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{path}: a page's name must end in .html")
    if path.is_dir():
        raise InputError(f"{path} is a folder: name the file in it")
    from fromnoise.export import page, payload
    from fromnoise.export.html import name_of
    from fromnoise.run import load

    runs = [load(each) for each in (run, *(beside or ()))]
    data = payload([(name_of(each), each) for each in runs], with_data=with_data)
    text = page(data)
    with whole_file(path) as staging:
        staging.write_text(text, encoding="utf-8")
    for part in data["runs"]:
        if part["why_not"] and not part["pictures"]:
            say(f"note: {part['name']} is shown without its model: {part['why_not']}; fromnoise studio runs it")
    size = path.stat().st_size
    lines = [f"{path}: {size / 1e6:.2f} MB, opens in any browser, needs no network", *map(_held, data["runs"])]
    held = {part["name"]: part["samples_held"] for part in data["runs"]}
    result({"file": str(path), "bytes": size, "runs": list(held), "training_samples": held}, as_json, "\n".join(lines))


def _held(part: Mapping[str, Any]) -> str:
    count = part["samples_held"]
    if part["pictures"]:
        return f"the page shows samples of {part['name']}, drawn now: such networks do not run in it"
    if count == 0:
        return f"the page holds no training samples of {part['name']}: it shows no data, exact answers or distances"
    return f"the page holds {count:,} training samples of {part['name']}; --no-data leaves them out"
