"""`fromnoise info`: the installed components, or a description of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fromnoise.cli.common import Json, Plugin, load_plugins, result


def info(
    run: Annotated[Path | None, typer.Argument(help="A run's folder; without it: what is installed.")] = None,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Describe a run, or list every component there is."""
    load_plugins(plugin)
    data = _of_run(run) if run is not None else _of_installation()
    width = max(len(key) for key in data)
    result(data, as_json, "\n".join(f"{key:<{width}}  {_text(value)}" for key, value in data.items()))


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


def _of_run(path: Path) -> dict[str, Any]:
    from fromnoise.run import load

    run = load(path)
    assert run.folder is not None
    c, loss = run.config, run.loss
    return {
        "run": str(path),
        "data": c.data,
        "samples": c.data.get("n", "unknown"),
        "holds data": run.folder.holds_data,
        "labels": list(run.denoiser.label_names) or "none",
        "schedule": c.schedule,
        "predict": c.predict["name"],
        "network": c.network,
        "parameters": sum(p.numel() for p in run.denoiser.network.parameters()),
        "train": c.train,
        "step": run.step,
        "loss": "none yet" if loss is None else loss,
        "checkpoints": run.folder.steps(),
        "format": c.format_version,
    }
