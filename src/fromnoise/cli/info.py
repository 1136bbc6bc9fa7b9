"""`fromnoise info`: the installed components, or a description of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fromnoise.cli.common import Json, Plugin, bar, load_plugins, parse_settings, result, whole_file
from fromnoise.errors import InputError, UnknownName


def info(
    what: Annotated[
        str | None,
        typer.Argument(help="A run's folder, or data as for train; without it: what is installed.", metavar="RUN|DATA"),
    ] = None,
    size: Annotated[int | None, typer.Option(help="The height and width that pictures are brought to.")] = None,
    fit: Annotated[str | None, typer.Option(help="How: crop or pad.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write a sheet of pictures; default NAME-sheet.png, here.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the data, as for train: data.channels_last=true."),
    ] = None,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Describe a run, or data that would be trained on, or list every component there is."""
    from fromnoise.data import builtin

    load_plugins(plugin)
    if what is not None and not Path(what).exists() and not is_data(what):
        raise UnknownName("data set", what, builtin.names(), "; and there is no such run, folder or file")
    of_data = what is not None and not (Path(what) / "config.toml").exists() and is_data(what)
    given = {"--set": set_, "--size": size, "--fit": fit, "--out": out}
    odd = next((name for name, value in given.items() if value is not None), None)
    if odd is not None and not of_data:
        raise InputError(f"{odd} is for data, and {'none are named' if what is None else f'{what} is none'}")
    if what is None:
        data = _of_installation()
    elif not of_data:
        data = _of_run(Path(what))
    else:
        data = _of_data(what, _settings(set_, {"size": size, "fit": fit}), out)
    width = max(len(key) for key in data)
    result(data, as_json, "\n".join(f"{key:<{width}}  {_text(value)}" for key, value in data.items()))


def _settings(pairs: list[str] | None, flags: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the data that --set and the flags say."""
    said = parse_settings(pairs)
    own = said.pop("data", {})
    if said or not isinstance(own, dict):
        raise InputError("info takes settings of the data alone: --set data.NAME=VALUE")
    return {**own, **{key: value for key, value in flags.items() if value is not None}}


def is_data(what: str) -> bool:
    """Return whether a word names data, and not a run."""
    from fromnoise.data import names
    from fromnoise.data.files import is_file_name
    from fromnoise.data.images import is_pictures

    return what in names() or is_pictures(what) or is_file_name(what)


def _of_data(what: str, settings: dict[str, Any], out: Path | None) -> dict[str, Any]:
    """Describe data, and write a sheet of them where they are pictures."""
    import torch

    from fromnoise.data import open as open_data
    from fromnoise.rng import stream

    with bar("decoding pictures") as progress:
        source = open_data(what, settings=settings, progress=progress)
    cond, names = getattr(source, "cond", None), getattr(source, "label_names", ())
    data: dict[str, Any] = {"data": source.name, "samples": len(source), "shape": list(source.shape)}
    if names and cond is not None:
        counts = torch.bincount(cond.values["label"], minlength=len(names)).tolist()
        data["labels"] = dict(zip(names, counts, strict=True))
    found = getattr(source, "found", None)
    if found is not None and found.unlabelled:
        data["folders"] = found.unlabelled
    if found is not None and found.dark:
        data["depth"] = found.dark
    data["recipe"] = source.suggests["recipe"]
    if found is not None:
        said = [caption for caption in getattr(source, "captions", ()) if caption]
        some = "; ".join(caption[:60] for caption in said[:: max(1, -(-len(said) // 3))])
        data["captions"] = f"{len(said):,}, such as: {some}" if said else "none"
        data["captions"] += f"; {found.captions_text.removeprefix('captions: ')}" if found.uncaptioned else ""
        data |= {"sizes": found.sizes, "animated": found.animated, "skipped": found.skipped_text or "none"}
    if source.suggests["recipe"] == "image":
        rows = torch.randperm(len(source), generator=stream(0, "sheet"))[:_ON_A_SHEET]
        data["sheet"] = str(_sheet(source, rows, out or _place(what) / f"{source.name}-sheet.png"))
    return data


_ON_A_SHEET = 100


def _place(what: str) -> Path:
    """Return where a sheet is written: here, or beside the data, where this is inside them."""
    data = Path(what).resolve()
    return data.parent if data.is_dir() and Path.cwd().resolve().is_relative_to(data) else Path()


def _sheet(source: Any, rows: Any, out: Path) -> Path:
    """Write some pictures as one, by their labels where they have some."""
    from fromnoise import plot

    x, cond = source.read(rows)
    if cond is not None and "label" in cond.values:
        x = x[cond.values["label"].argsort(stable=True)]
    with whole_file(out) as staging:
        plot.contact_sheet(x, columns=10).save(staging, "PNG")
    return out


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _of_installation() -> dict[str, Any]:
    import torch

    from fromnoise import __version__, recipes
    from fromnoise.data import names
    from fromnoise.nn import networks
    from fromnoise.process import predictions
    from fromnoise.samplers import samplers
    from fromnoise.schedule import schedules
    from fromnoise.training import time_laws, weightings

    return {
        "fromnoise": __version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "data": names(),
        "recipes": recipes.names(),
        "schedules": schedules.names(),
        "predictions": predictions.names(),
        "networks": networks.names(),
        "samplers": samplers.names(),
        "weightings": weightings.names(),
        "times": time_laws.names(),
    }


def _reader_of(texts: list[dict[str, Any]]) -> str:
    """Return what reads captions, of the settings of conditioners of texts."""
    if not texts:
        return "none"
    one = texts[0]
    if "encoder" in one:
        return f"up to {one['tokens']} tokens, read by {one['encoder']}"
    return f"up to {one['length']} tokens, {len(one['words']):,} words known and others spelled"


def _of_run(path: Path) -> dict[str, Any]:
    from fromnoise.cli.of_autoencoder import described
    from fromnoise.run import AutoencoderRun, Run, load_any

    run = load_any(path)
    if isinstance(run, AutoencoderRun):
        return described(run)
    assert isinstance(run, Run)
    assert run.folder is not None
    c, loss = run.config, run.loss
    return {
        "run": str(path),
        "data": c.data,
        "samples": c.data.get("n", "unknown"),
        "holds data": run.folder.holds_data,
        "labels": list(run.denoiser.label_names) or "none",
        "captions": _reader_of([one for one in c.conditioners if one["name"] in ("text", "encoded-text")]),
        "schedule": c.schedule,
        "predict": c.predict["name"],
        **({} if c.grid is None else {"grid": c.grid.model_dump()}),
        "network": c.network,
        "parameters": sum(p.numel() for p in run.denoiser.network.parameters()),
        "train": c.train,
        "step": run.step,
        "loss": "none yet" if loss is None else loss,
        "checkpoints": run.folder.steps(),
        "format": c.format_version,
    }
