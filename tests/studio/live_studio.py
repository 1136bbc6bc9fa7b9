"""A studio in a process of its own, as a user starts it, and a client that has used its link."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


class Studio:
    """A running studio."""

    def __init__(self, folder: Path, *arguments: object, command=("-m", "fromnoise", "studio", "--no-open")):
        self.folder = folder
        temporary = folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, *command, "--port", "0", *map(str, arguments)]
        self.process = subprocess.Popen(
            words, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**ENVIRONMENT, "TMPDIR": str(temporary)},
        )  # fmt: skip
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.link = self._wait_for_link()
        self.port = int(re.search(r":(\d+)/", self.link)[1])
        self.token = self.link.partition("token=")[2]
        self.origin = f"http://127.0.0.1:{self.port}"

    def _read(self):
        with self.process.stderr:
            self.said += (line for line in iter(self.process.stderr.readline, ""))

    def _wait_for_link(self):
        until = time.monotonic() + 60
        while time.monotonic() < until:
            for line in list(self.said):
                if found := re.search(r"http://\S+token=\S+", line):
                    return found[0]
            assert self.process.poll() is None, self.said
            time.sleep(0.02)
        raise AssertionError(self.said)

    @contextmanager
    def client(self):
        """Yield a client that has used the link."""
        headers = {"origin": self.origin}
        with httpx.Client(base_url=self.origin, headers=headers, timeout=60, trust_env=False) as client:
            answer = client.get(f"/?token={self.token}")
            assert answer.status_code == 303
            yield client

    def news(self, client: httpx.Client, run_id: str):
        """Yield a training's events to its end."""
        with client.stream("GET", f"/api/trainings/{run_id}/events") as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            kind = ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield kind, json.loads(line.removeprefix("data: "))

    def stop(self, number=signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(60)
        self._reader.join(10)
        self.process.stdout.close()
        return code
