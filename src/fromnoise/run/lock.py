"""One training at a time in a run folder.

The lock is the operating system's, on the folder itself (on Windows on a file in it), so it ends with its process,
however that ends, and leaves nothing behind. Where a file system knows no locks, there is none.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path
from types import TracebackType

from fromnoise.errors import RunError

_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class RunLock:
    """Holds a folder for this process while entered: from the start if it exists, else from `acquire`.

    Args:
        path: of the run folder; None holds nothing.

    Raises:
        RunError: when entered or acquired, if another training holds it.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: int | None = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def acquire(self) -> None:
        """Take the lock, unless it is held already or there is no folder yet."""
        if self._path is None or self._file is not None or not self._path.is_dir():
            return
        try:
            self._file = _locked(self._path)
        except OSError as error:
            if error.errno in _TAKEN:
                raise RunError(
                    f"another training is at work in {self._path}: wait for its end, or choose another out"
                ) from None


def _locked(folder: Path) -> int:
    """Return the open file that holds the lock on a folder."""
    if sys.platform == "win32":
        import msvcrt

        file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    else:
        file = os.open(folder, os.O_RDONLY)
    try:
        if sys.platform == "win32":
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(file)
        raise
    return file
