"""Trainings: one at a time, in a process of its own; a few more wait for their turn.

The server shares only a folder and two pipes with a training, so neither ever waits for the other, and the weights are
bit-identical to those of `fromnoise train`. Each listener has a queue of bounded length, from which the oldest events
are dropped: a slow client delays nobody.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import signal
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread

from fromnoise.errors import FromnoiseError, NoRun
from fromnoise.run import RunFolder
from fromnoise.studio.jobs import Job, folder_name, going_on
from fromnoise.studio.library import Library

_log = logging.getLogger(__name__)

Tree = dict[str, Any]

WAITING = 2
"""The number of trainings that may wait while one runs."""

_PATIENCE = 30.0
"""Seconds in which a training that was asked to stop must save its state."""

_LOOK = 0.1
"""Seconds between two looks for a new checkpoint."""

News = tuple[str, Tree]
"""An event's name and its data: progress, checkpoint, then done, stopped or failed."""

_ENDS = ("done", "stopped", "failed")


class Busy(FromnoiseError):
    """A training cannot be accepted now."""


class Listener:
    """The events that one client has not taken yet; if it is too slow, the oldest are dropped."""

    def __init__(self) -> None:
        self._news: deque[News] = deque(maxlen=64)
        self._there = asyncio.Event()

    def tell(self, news: News) -> None:
        """Put an event into the queue."""
        self._news.append(news)
        self._there.set()

    async def next(self) -> News:
        """Wait for the next event and return it."""
        while not self._news:
            self._there.clear()
            await self._there.wait()
        return self._news.popleft()


@dataclass(eq=False)
class Training:
    """A training of this studio.

    Attributes:
        id: the identifier of its run.
        path: the run's folder.
        asked: the content of the worker's job file.
        steps: the number of optimizer steps.
        command: the words of the command for the same training; None where no command can do it.
        plugins: the user's own files, which register components.
        state: its state.
        step: the last step that was reported.
        saved: the step of its latest checkpoint, -1 before the first.
        latest: the latest event of each kind, for listeners that come later.
        listeners: the listeners that get its events.
        stopping: whether it was asked to stop.
        process: the process of the worker.
    """

    id: str
    path: Path
    asked: Tree
    steps: int
    command: list[str] | None
    plugins: tuple[str, ...] = ()
    state: Literal["queued", "training", "done", "stopped", "failed"] = "queued"
    step: int = 0
    saved: int = -1
    latest: dict[str, Tree] = field(default_factory=dict)
    listeners: set[Listener] = field(default_factory=set)
    stopping: bool = False
    process: asyncio.subprocess.Process | None = None

    def tell(self, kind: str, news: Tree) -> None:
        """Send an event to all listeners."""
        self.latest[kind] = news
        for listener in self.listeners:
            listener.tell((kind, news))

    @property
    def tells_more(self) -> bool:
        """Return whether its state here is newer than on the disk."""
        return self.state in ("queued", "training", "failed") or (self.state == "stopped" and self.saved < 0)

    def row(self) -> Tree:
        """Return its entry in the list of runs."""
        error = self.latest["failed"] if self.state == "failed" else {}
        return {"state": self.state, "step": self.step, "steps": self.steps, **error}

    def again(self) -> str | None:
        """Return the command that continues it; None where none of it was saved."""
        if self.command is not None:
            plugins = [word for plugin in self.plugins for word in ("--plugin", plugin)]
            return shlex.join([*self.command, *plugins, "--resume"])
        if not RunFolder(self.path).steps():
            return None
        return shlex.join([sys.executable, "-m", "fromnoise.studio.worker", str(near(self.path)), *self.plugins])


class Trainings:
    """The trainings of this studio.

    Args:
        library: shows their runs.
        out: the folder of their runs.
        plugins: the user's own files, which register components.
    """

    def __init__(self, library: Library, out: Path, plugins: Sequence[Path] = ()) -> None:
        self.library, self.out = library, out
        self._plugins = tuple(str(path.resolve()) for path in plugins)
        self._known: dict[str, Training] = {}
        self._line: list[Training] = []  # the first one runs
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    # -- requests -----------------------------------------------------------------------------------------------

    async def start(self, job: Job) -> tuple[str, int]:
        """Check a training and put it into the queue; return its run's identifier and its position.

        Raises:
            Busy: if too many trainings wait already.
            InputError: if the training cannot be done.
        """
        self._check_room()
        plan = await anyio.to_thread.run_sync(job.check)
        self._check_room()
        path = self._free_folder(folder_name(job.name))
        asked, command = {"out": str(path), "job": job.model_dump(mode="json")}, job.command(near(path))
        return self._put(Training(self.library.add(path), path, asked, plan.train.steps, command, self._plugins))

    async def go_on(self, run_id: str) -> tuple[str, int]:
        """Put the rest of a run's training into the queue. Raises as `start` does, and RunError if there is no rest."""
        path = self.library.find(run_id).path
        self._check_room(run_id)
        rest = await anyio.to_thread.run_sync(going_on, path)
        self._check_room(run_id)
        step = RunFolder(path).steps()[0]
        asked = {"out": str(path)}
        return self._put(Training(run_id, path, asked, rest.config.steps, None, self._plugins, step=step, saved=step))

    def find(self, run_id: str) -> Training:
        """Return a training.

        Raises:
            NoRun: if no training of that run was started here.
        """
        if run_id not in self._known:
            raise NoRun("no training of that run was started here")
        return self._known[run_id]

    def rows(self) -> list[Tree]:
        """Return the library's list of runs, with the newer state of those in training."""
        rows = []
        for row in self.library.rows():
            training = self._known.get(row["id"])
            rows.append({**row, **training.row()} if training is not None and training.tells_more else row)
        return rows

    def stop(self, run_id: str) -> Training:
        """Ask a training to save its state and stop; remove one that waits from the queue."""
        training = self.find(run_id)
        if training in self._line[1:]:
            self._line.remove(training)
            self._end(training, ("stopped", {"step": training.step}))
        elif training in self._line and not training.stopping:
            training.stopping = True
            _terminate(training)  # once only: a second signal would end it without saving
        return training

    async def listen(self, run_id: str) -> AsyncIterator[News | None]:
        """Yield a training's events to its end, the latest ones first; None after 15 seconds without an event."""
        training, listener = self.find(run_id), Listener()
        for kind in ("progress", "checkpoint", *_ENDS):
            if kind in training.latest:
                listener.tell((kind, training.latest[kind]))
        training.listeners.add(listener)
        try:
            kind = ""
            while kind not in _ENDS:
                try:
                    news = await asyncio.wait_for(listener.next(), 15)
                except TimeoutError:
                    yield None
                    continue
                kind = news[0]
                yield news
        finally:
            training.listeners.discard(listener)

    async def close(self) -> list[Training]:
        """Stop all trainings and wait until they have saved their state; return those that did not reach their end."""
        self._closed, cut = True, list(self._line)
        for training in reversed(cut):
            self.stop(training.id)
        if self._running is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._running, _PATIENCE)  # else it is killed; its last checkpoint stands
        return [training for training in cut if training.state != "done"]

    # -- the process --------------------------------------------------------------------------------------------

    def _check_room(self, run_id: str | None = None) -> None:
        if self._closed:
            raise Busy("the studio is about to stop")
        if any(training.id == run_id for training in self._line):
            raise Busy("this run is in training already")
        if len(self._line) > WAITING:
            raise Busy(f"one training runs and {WAITING} wait already: stop one of them, or try again later")

    def _free_folder(self, name: str) -> Path:
        """Return out/NAME, or NAME-2, NAME-3, ... where that is taken."""
        taken = {training.path for training in self._line}
        count, path = 1, (self.out / name).resolve()
        while path in taken or path.exists():
            count += 1
            path = (self.out / f"{name}-{count}").resolve()
        return path

    def _put(self, training: Training) -> tuple[str, int]:
        self._known[training.id] = training
        self._line.append(training)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._work_off())
        return training.id, len(self._line) - 1

    async def _work_off(self) -> None:
        while self._line:
            training = self._line[0]
            try:
                end = await self._run(training)
            except OSError as error:
                end = "failed", {"error": f"the training cannot be started: {error.strerror or error}"}
            except Exception:
                _log.exception("the training of %s was lost", training.path)
                end = "failed", {"error": "the studio failed; its terminal shows the error"}
            self._line.pop(0)
            self._end(training, end)

    def _end(self, training: Training, end: News) -> None:
        kind, news = end
        training.state, training.step = kind, news.get("step", training.step)  # pyright: ignore[reportAttributeAccessIssue]
        self.library.release(training.id)
        training.tell(kind, news)

    async def _run(self, training: Training) -> News:
        """Run the worker to its end and return how it ended."""
        training.state = "training"
        with _job_file(training.asked) as file:
            training.process = process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "fromnoise.studio.worker", str(file), *training.plugins,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                limit=2**20,
                start_new_session=True,  # Ctrl-C in the terminal reaches only the server, which asks the worker to stop
            )  # fmt: skip
            if training.stopping:
                _terminate(training)
            ended = asyncio.Event()
            looking = asyncio.create_task(self._look(training, ended))
            try:
                end, complaint = await asyncio.gather(self._follow(training, process), _last_line(process))
                code = await process.wait()
            finally:
                ended.set()
                with suppress(ProcessLookupError):
                    process.kill()
        await looking
        return end or _how(training, code, complaint)

    async def _follow(self, training: Training, process: asyncio.subprocess.Process) -> News | None:
        """Pass on the worker's events, and return the event of its end, if it sent one."""
        assert process.stdout is not None
        end = None
        async for line in process.stdout:
            try:
                news = json.loads(line)
                kind = news.pop("event")
            except (ValueError, KeyError, TypeError, AttributeError):  # the output of a plugin
                continue
            if kind in _ENDS:
                end = kind, news
            elif kind == "progress":
                training.step = news["step"]
                training.tell(kind, news)
        return end

    async def _look(self, training: Training, ended: asyncio.Event) -> None:
        """Report each checkpoint in the run's folder, up to the last one, after the library has read it."""
        folder, last = RunFolder(training.path), False
        while not last:
            last = ended.is_set()
            step = -1
            with suppress(OSError):  # its folder is being removed
                step = max(folder.steps(), default=-1)
            if step > training.saved:
                training.saved = step
                with suppress(FromnoiseError):  # no longer on the disk: a request for it gets this error
                    await self.library.refresh(training.id)
                training.tell("checkpoint", {"step": step})
            elif not last:
                with suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), _LOOK)


def _terminate(training: Training) -> None:
    if training.process is not None and training.process.returncode is None:
        with suppress(ProcessLookupError):
            training.process.terminate()


def near(path: Path) -> Path:
    """Return a path relative to the working directory, where it lies inside it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


@contextmanager
def _job_file(asked: Tree) -> Iterator[Path]:
    """Yield a temporary file with the description of a training, for the worker."""
    with tempfile.TemporaryDirectory(prefix="fromnoise-") as folder:
        file = Path(folder) / "job.json"
        file.write_text(json.dumps(asked), encoding="utf-8")
        yield file


async def _last_line(process: asyncio.subprocess.Process) -> str:
    """Return the last line that a process wrote to standard error."""
    assert process.stderr is not None
    tail = b""
    while chunk := await process.stderr.read(4096):
        tail = (tail + chunk)[-4096:]
    lines = [line for line in tail.decode(errors="replace").splitlines() if line.strip()]
    return " ".join(lines[-1].split())[:400] if lines else ""


def _how(training: Training, code: int, complaint: str) -> News:
    """Return the event of the end of a worker that did not send one."""
    if training.stopping:
        return "stopped", {"step": max(training.saved, 0)}
    if code < 0:
        name = signal.Signals(-code).name
        why = ": most likely memory ran out; make the network or the batch smaller" if name == "SIGKILL" else ""
        return "failed", {"error": f"the training was ended from outside by {name}{why}"}
    return "failed", {"error": complaint or f"the training ended with exit code {code}"}
