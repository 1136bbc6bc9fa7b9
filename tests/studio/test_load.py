"""Fifty clients at once while a training runs: nobody waits long, nothing fails, and the weights come out the same."""

import asyncio
import json
import re
import subprocess
import sys
import time

import pytest
from live_studio import ENVIRONMENT
from safetensors.torch import load_file

from fromnoise.run import RunFolder

CLIENTS = 50
SECONDS = 30
P95 = 0.25
"""Seconds that 95 of 100 answers may take at most."""
SETTINGS = {"train.steps": 600 * SECONDS, "data.n": 20_000}


async def ask(reader, writer, path, headers):
    """Ask over an open connection; return the status and the body's length."""
    writer.write(f"GET {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = left = int(re.search(rb"content-length: (\d+)", head)[1])
    while left:
        part = await reader.read(min(left, 1 << 20))
        assert part, "the connection broke"
        left -= len(part)
    return int(head[9:12]), length


async def one_client(number, port, headers, paths, until, found):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    turn = number
    while time.perf_counter() < until:
        path = paths[turn % len(paths)]
        began = time.perf_counter()
        status, length = await ask(reader, writer, path, headers)
        found.append((time.perf_counter() - began, path, status, length))
        turn += 1  # and the next request at once, more often than any page
    writer.close()
    await writer.wait_closed()


async def listener(port, headers, run, news):
    """Listen to the training to its end, and ask for the run at each checkpoint, as a page does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /api/trainings/{run}/events HTTP/1.1\r\n{headers}\r\n\r\n".encode())
    while not news or news[-1][1] not in ("done", "stopped", "failed"):
        line = await reader.readline()
        assert line, "the events broke off"
        if line.startswith(b"event: "):
            news.append((time.perf_counter(), line[7:].decode().strip()))
    writer.close()
    await writer.wait_closed()


async def crowd(port, headers, paths, run):
    """Return what every client found, and the training's news."""
    found, news = [], []
    until = time.perf_counter() + SECONDS
    clients = (one_client(number, port, headers, paths, until, found) for number in range(CLIENTS))
    await asyncio.gather(listener(port, headers, run, news), *clients)
    return found, news


def told(found, paths):
    """Return the times of the answers as text."""
    lines = [f"{len(found)} answers, {sum(length for *_, length in found) / 1e6:.0f} MB in {SECONDS} s"]
    for path in [None, *dict.fromkeys(paths)]:
        times = sorted(seconds for seconds, asked, *_ in found if path in (None, asked))
        p50, p95, p99, worst = (1e3 * times[int(part * (len(times) - 1))] for part in (0.5, 0.95, 0.99, 1))
        lines.append(f"{path or 'all':30} p50 {p50:.1f}  p95 {p95:.1f}  p99 {p99:.1f}  worst {worst:.1f} ms")
    return "\n".join(lines)


@pytest.mark.alone
@pytest.mark.slow
def test_fifty_clients_and_a_training(studio, trained, trained_shapes, tmp_path):
    studio = studio(trained, trained_shapes)
    with studio.client() as browser:
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        headers = f"Host: 127.0.0.1:{studio.port}\r\nCookie: {cookie}"
        assert browser.get("/").status_code == 200
        made = browser.post("/api/trainings", json={"data": "spiral", "changes": SETTINGS}).json()["id"]
        while not RunFolder(tmp_path / "runs" / "spiral").metrics():
            time.sleep(0.05)
        runs = [run["id"] for run in browser.get("/api/runs").json()["runs"]]
        assert browser.get(f"/api/runs/{made}").status_code == 200
        paths = ["/api/runs", "/", "/api/runs", *(f"/api/runs/{run}" for run in runs)]
        began = time.perf_counter()
        found, news = asyncio.run(crowd(studio.port, headers, paths, made))
    print("\n" + told(found, paths))
    assert news[-1][1] == "done"
    assert news[-1][0] - began > SECONDS / 2  # it trained meanwhile
    assert sum(kind == "checkpoint" for _, kind in news) > 5
    assert all(status == 200 for _, _, status, _ in found)
    times = sorted(seconds for seconds, *_ in found)
    assert times[int(0.95 * len(times))] <= P95, told(found, paths)
    _check_same_weights(tmp_path)


def _check_same_weights(folder):
    """Train the same without a studio, and compare bit by bit."""
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    words = [sys.executable, "-m", "fromnoise", "train", "spiral", "--no-report", "--out", "alone", *settings]
    subprocess.run(words, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True)
    for name in ("model", "ema"):
        places = (RunFolder(folder / run).place(SETTINGS["train.steps"]) for run in ("runs/spiral", "alone"))
        one, two = (load_file(place / f"{name}.safetensors") for place in places)
        assert one.keys() == two.keys()
        assert all(one[key].equal(two[key]) for key in one)
