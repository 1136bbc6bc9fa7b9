"""The data of a run: stored in its folder, built in, or where they were when it was begun."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fromnoise.conditioners import Conditioner, conditioners, label_names_of, prepare
from fromnoise.data.builtin import make
from fromnoise.data.dataset import Dataset
from fromnoise.data.images import Files
from fromnoise.data.opening import open as open_data
from fromnoise.data.source import Source
from fromnoise.data.views import Seen, every_row, inmost
from fromnoise.errors import CheckpointDamaged, RunError, shown
from fromnoise.run.config import AnyConfig
from fromnoise.run.files import load_data
from fromnoise.run.guard import distrusting
from fromnoise.text_features import EncodedText

STORED = "data.safetensors"


def is_held(folder: Path, config: AnyConfig) -> bool:
    """Return whether the data can be had from a run's folder: they are stored, or built in."""
    about = config.data
    return "source" not in about and ("sha256" not in about or (folder / STORED).exists())


def read_data(folder: Path, config: AnyConfig) -> Dataset | Source:
    """Return the data a run was trained on.

    Raises:
        RunError: if they cannot be had, or have changed.
    """
    stored, about = folder / STORED, config.data
    with distrusting(stored):
        if is_held(folder, config):
            return _fitting(folder, config, _stored(stored, config) if stored.exists() else _made(about))
        place = about.get("path")
        if isinstance(place, str) and Path(place).exists():
            return _fitting(folder, config, _found_again(folder, config))
        where = f"{shown(place, 300)} is not there" if place else f"they were {shown(about['name'])}"
        raise RunError(
            f"{folder} holds none of its training data, and {where}: give them by --data, or fn.load(..., data=...)"
        )


def given_data(folder: Path, config: AnyConfig, what: Any) -> Dataset | Source:
    """Return the data a run was trained on, from where a user says that they are.

    Args:
        folder: the run's.
        config: its configuration.
        what: the data, opened or whatever `fn.data.open` reads; settings of pictures are those of the run.

    Raises:
        RunError: if they are others.
    """
    about = config.data
    if isinstance(what, str) and what == about["name"] and "sha256" not in about:
        return read_data(folder, config)  # built in
    if not isinstance(what, Dataset | Source):
        what = _opened(config, what)
    elif inmost(what) is what:  # seen as the run sees them, where it was not opened so
        what = Seen.among(about)[0].of(what)
    told = {"name": what.name, **what.identity}
    parts = [key for key in ("sha256", "conditions") if key in about]
    compared = [*parts, *Seen.model_fields] if parts else sorted({*about, *told} - {"source"})
    odd = next((key for key in compared if told.get(key) != about.get(key)), None)
    if odd is not None:
        kind = {"sha256": "samples or labels", "conditions": "conditions"}.get(odd, f"data.{odd}")
        raise RunError(f"{folder} was trained on other data than {shown(what.name)}: their {kind} differ")
    mine, theirs = (label_names_of(one) for one in (_conditioners(config), what.conditioners))
    if mine and theirs and mine != theirs:
        raise RunError(f"{folder} was trained with the labels {shown(', '.join(mine))}, not {shown(', '.join(theirs))}")
    return _fitting(folder, config, what)


def _conditioners(config: AnyConfig) -> list[Conditioner]:
    return [conditioners.build(one) for one in config.conditioners]


def _made(about: Mapping[str, Any]) -> Any:
    """Make built-in data again."""
    seen, own = Seen.among(about)
    return seen.of(make(own))


def _stored(path: Path, config: AnyConfig) -> Any:
    about = config.data
    made = {"image"} if about.get("from_size") else set[str]()  # of the pictures themselves
    known = [one for one in map(conditioners.build, config.conditioners) if one.value not in made]
    data = load_data(path, known, about.get("n"))
    if not data.identity.items() <= {"name": data.name, "conditions": None, **config.data}.items():
        raise CheckpointDamaged(f"{path} was edited: its samples are not those of the configuration")
    return Seen.among(about)[0].of(data)


def _found_again(folder: Path, config: AnyConfig) -> Source:
    """Return data that are read from where they lie, if they are the same."""
    about = config.data
    data = _opened(config, str(about["path"]))
    if data.identity.get("sha256") != about["sha256"]:
        raise RunError(f"{folder}: the data at {about['path']} have changed since the run was begun")
    return data


def _opened(config: AnyConfig, what: Any) -> Any:
    """Return data, opened with the settings that a run's were opened with; captions are read as the run reads them."""
    left = ("name", "path", "n", "seed", "sha256", "conditions", "source", "text_encoder")
    own = {key: value for key, value in config.data.items() if key not in left}
    if "captions" in own and not Path(str(own["captions"])).exists():
        raise RunError(
            f"the captions were in {shown(own['captions'], 300)}, which is not there: say where they are, "
            "fn.load(..., data=fn.data.open(..., settings={'captions': ...}))"
        )
    data = open_data(what, str(config.data["name"]), settings=own)
    shape = config.sample_shape
    if "path" in config.data and shape is not None and list(data.shape) == [1, *shape[1:]] != shape:
        data = open_data(what, settings={**own, "channels": 3})  # earlier releases told grey by the file alone
    reader = next((one for one in _conditioners(config) if isinstance(one, EncodedText)), None)
    if reader is not None and isinstance(inmost(data), Files):
        inmost(data).reads_captions_by(reader)
    return data


def _fitting(folder: Path, config: AnyConfig, data: Any) -> Any:
    wanted = config.sample_shape
    if wanted is not None and list(data.shape) != wanted:
        raise RunError(f"{folder}: the data are {list(data.shape)}, and the run's {wanted}")
    prepare(getattr(every_row(data), "cond", None), data.conditioners, if_kept=True)
    return data
