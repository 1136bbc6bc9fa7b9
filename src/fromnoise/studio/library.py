"""The runs on show, by identifier: a request never names a path.

The data of a run for the page take a second to compute, nearly all of it for the loss floor. So they are cached, in the
form in which they are sent, until the run's configuration or latest checkpoint changes. For a run in training only the
part that a checkpoint changes is computed again, before the page is notified of the checkpoint.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread

from fromnoise.errors import FromnoiseError, InputError, NoRun, RunError
from fromnoise.export.payload import losses, network_payload, payload, run_payload
from fromnoise.export.pictures import pictures_payload
from fromnoise.run import AutoencoderConfig, Run, RunConfig, RunFolder, load
from fromnoise.run.config import NO_DENOISER

_log = logging.getLogger(__name__)

Tree = dict[str, Any]

_KEPT = 32

Version = tuple[int, int]
"""When the configuration was written, and the step of the latest checkpoint."""


@dataclass(frozen=True)
class Shown:
    """A run on show.

    Attributes:
        id: its identifier in requests.
        name: its name on the page.
        path: its folder.
    """

    id: str
    name: str
    path: Path


@dataclass(frozen=True)
class Loaded:
    """A run as it was read.

    Attributes:
        version: the version that was read.
        run: the run, with its network.
        data: its data for the page.
        encoded: the same data as JSON.
    """

    version: Version
    run: Run
    data: Tree
    encoded: bytes


class Library:
    """The runs on show.

    Args:
        paths: their folders.
        under: a folder whose runs are all on show, also those made later.

    Raises:
        RunError: if one of the folders holds no run, or a run that cannot be read.
    """

    def __init__(self, paths: Sequence[Path] = (), under: Path | None = None) -> None:
        self._shown: dict[str, Shown] = {}
        self._loaded: dict[str, Loaded] = {}
        self._steps: dict[str, tuple[int, int]] = {}
        self._held: set[str] = set()
        self._aside: set[Path] = set()  # runs of autoencoders, which no panel shows
        self._reading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._making = asyncio.Lock()
        self._page: tuple[Any, list[bytes]] | None = None
        self._under = under
        for path in paths:
            if not isinstance(RunFolder(path).config, RunConfig):  # raises where there is none
                raise InputError(NO_DENOISER.format(path))
            self.add(path)
        self.look()

    def add(self, path: Path) -> str:
        """Put a run on show, which may not have begun yet, and return its identifier."""
        path = Path(path).resolve()
        name = path.name
        if any(run.name == name and run.path != path for run in self._shown.values()):
            name = f"{path.parent.name}/{name}"
        shown = Shown(identifier(path), name, path)
        return self._shown.setdefault(shown.id, shown).id

    def look(self) -> None:
        """Put the runs on show that were made in the folder `under` since the last look."""
        if self._under is None:
            return
        try:
            found = sorted(path for path in self._under.iterdir() if RunFolder(path).exists)
        except OSError:
            return
        for path in found:
            if path not in self._aside:
                if _is_of_autoencoder(path):
                    self._aside.add(path)
                else:
                    self.add(path)

    def find(self, run_id: str) -> Shown:
        """Return a run on show.

        Raises:
            NoRun: if there is none of that identifier.
        """
        if run_id not in self._shown:
            raise NoRun("no run of that name is on show here")
        return self._shown[run_id]

    # -- the list of runs ----------------------------------------------------------------------------------------

    def rows(self) -> list[Tree]:
        """Return a row for each run: id, name, state (done, stopped, damaged, gone), step and steps."""
        self.look()
        return [self._row(shown) for shown in self._shown.values()]

    def _row(self, shown: Shown) -> Tree:
        row: Tree = {"id": shown.id, "name": shown.name, "state": "damaged", "step": 0, "steps": 0}
        try:
            written, step = _version(shown)
            if self._steps.get(shown.id, (0, 0))[0] != written:
                self._steps[shown.id] = written, int(RunFolder(shown.path).config.train["steps"])
        except NoRun:
            return {**row, "state": "gone"}
        except (FromnoiseError, KeyError, TypeError, ValueError):
            return row
        steps = self._steps[shown.id][1]
        return {**row, "state": "done" if step >= steps else "stopped", "step": max(step, 0), "steps": steps}

    # -- the data of the runs ------------------------------------------------------------------------------------

    async def get(self, run_id: str) -> Loaded:
        """Return a run, read again if it changed on the disk.

        Raises:
            NoRun: if it is not on show, or no longer on the disk.
            RunError: if it cannot be read.
        """
        shown = self.find(run_id)
        kept = self._loaded.get(run_id)
        if kept is not None and (run_id in self._held or kept.version == _version(shown)):
            return kept
        async with self._reading[run_id]:  # other runs do not wait for it
            kept = self._loaded.get(run_id)
            if kept is not None and kept.version == _version(shown):
                return kept
            return await self._read(shown, None)

    async def refresh(self, run_id: str) -> None:
        """Read the part that a new checkpoint of a training changed; until `release`, only `refresh` reads the run.

        A page that is notified of the checkpoint afterwards finds it ready; a request before that does not wait.
        """
        shown = self.find(run_id)
        async with self._reading[run_id]:
            kept = self._loaded.get(run_id)
            same = kept is not None and kept.version[0] == _version(shown)[0]
            await self._read(shown, kept if same else None)
            self._held.add(run_id)

    def release(self, run_id: str) -> None:
        """Let `get` read a run from the disk again, when its training has ended."""
        self._held.discard(run_id)

    async def _read(self, shown: Shown, before: Loaded | None) -> Loaded:
        loaded = await anyio.to_thread.run_sync(_load, shown, before)
        self._loaded.pop(shown.id, None)
        self._loaded[shown.id] = loaded
        for old in [run_id for run_id in self._loaded if run_id not in self._held][:-_KEPT]:
            del self._loaded[old]
        return loaded

    # -- the page ------------------------------------------------------------------------------------------------

    async def page(self, nonce: str, live: Mapping[str, Any]) -> bytes:
        """Return the page with the first run in it, made again only if it changed; the page requests the others.

        Args:
            nonce: the nonce that allows its scripts.
            live: the place of the server's API.
        """
        first = await self.first()
        key = None if first is None else (first.data["id"], first.version)
        page = self._page
        if page is None or page[0] != key:
            async with self._making:  # a request that comes while it is made waits for it
                page = self._page
                if page is None or page[0] != key:
                    page = self._page = key, await anyio.to_thread.run_sync(_page, first, live)
        return nonce.encode().join(page[1])

    async def first(self) -> Loaded | None:
        """Return the first run that can be read; None if there is none."""
        self.look()
        for shown in list(self._shown.values()):
            try:
                return await self.get(shown.id)
            except FromnoiseError:  # the list of runs shows its state
                continue
            except Exception:
                _log.exception("%s cannot be shown", shown.path)
        return None


def identifier(path: Path) -> str:
    """Return the identifier of a run in requests: its name in lower case, and a hash of its path."""
    slug = re.sub(r"[^a-z0-9]+", "-", path.name.lower()).strip("-")[:40].strip("-") or "run"
    return f"{slug}-{hashlib.sha256(str(path).encode()).hexdigest()[:10]}"


def _version(shown: Shown) -> Version:
    """Return the version on the disk, with step -1 before the first checkpoint.

    Raises:
        NoRun: if there is no run on the disk.
    """
    try:
        written = (shown.path / "config.toml").stat().st_mtime_ns
        return written, max(RunFolder(shown.path).steps(), default=-1)
    except OSError:
        raise NoRun(f"run {shown.name} is gone from the disk: put its folder back, or look at another run") from None


def _is_of_autoencoder(path: Path) -> bool:
    try:
        return isinstance(RunFolder(path).config, AutoencoderConfig)
    except FromnoiseError:  # damaged, which is shown as such
        return False


def _load(shown: Shown, before: Loaded | None) -> Loaded:
    """Read a run. If its training replaces the checkpoint while it is read, read the next one."""
    for tries in range(5):
        version = _version(shown)
        try:
            return _loaded(shown, version, before)
        except FromnoiseError as error:
            why = str(error)
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = f"{shown.path} cannot be shown: {type(error).__name__}: {error}"
        if _version(shown) == version or tries == 4:
            raise RunError(why)
    raise AssertionError("not reached")


def _loaded(shown: Shown, version: Version, before: Loaded | None) -> Loaded:
    run = load(shown.path)
    if before is None:
        data = {**run_payload(shown.name, run), "id": shown.id}
    else:  # the data, their distribution and the floor stay those of the first reading
        network, why_not = network_payload(run)
        training = {**before.data["training"], **losses(run)}
        drawn = {"pictures": pictures_payload(run), "training": training}
        data = {**before.data, "step": run.step, "network": network, "why_not": why_not, **drawn}
    return Loaded(version, run, data, json.dumps(data, allow_nan=False).encode())


def _page(first: Loaded | None, live: Mapping[str, Any]) -> list[bytes]:
    """Return the page in parts, to be joined by the nonce."""
    from fromnoise.export.html import page

    tree = payload([], live=dict(live)) | {"runs": [] if first is None else [first.data]}
    place = secrets.token_urlsafe(24)  # a random text that no data contain
    return [part.encode() for part in page(tree, nonce=place).split(place)]
