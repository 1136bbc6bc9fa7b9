"""Measure fromnoise beside bare PyTorch and other libraries, everything in one run: `python benchmarks/speed.py`.

Unless told `--no-peers` it makes an environment for the other libraries and runs there. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import environment
from timing import Row, table

SECTIONS = {"import": "startup", "memory": "memory", "sample": "sampling", "train": "training"}
"""What there is to measure, in this order."""


_START = time.perf_counter()


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default=",".join(SECTIONS), help="some of train,sample,memory,import")
    parser.add_argument("--quick", action="store_true", help="a fifth of the repetitions: rough numbers")
    parser.add_argument("--no-peers", action="store_true", help="fromnoise alone, in this interpreter")
    parser.add_argument("--threads", type=int, help="how many threads torch may use; its own choice when not given")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--out", type=Path, help="write the tables here, as Markdown")
    parser.add_argument("--constraints", type=Path, default=environment.ROOT / "constraints.txt", help="pins for pip")
    options = parser.parse_args(arguments)
    options.only = [name.strip() for name in options.only.split(",") if name.strip()]
    unknown = sorted(set(options.only) - set(SECTIONS))
    if unknown:
        parser.error(f"--only {','.join(unknown)}: known: {', '.join(SECTIONS)}")
    return options


def machine() -> dict[str, Any]:
    """Say what the numbers were taken on."""
    import numpy as np
    import torch
    from machine import cpu_name

    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _say(line: str) -> None:
    print(f"{time.perf_counter() - _START:6.0f} s  {line}", file=sys.stderr, flush=True)


def measured(options: argparse.Namespace) -> dict[str, list[Row]]:
    """Measure the sections asked for."""
    rows: dict[str, list[Row]] = {}
    for section, module in SECTIONS.items():
        if section in options.only:
            measure: Callable[..., list[Row]] = importlib.import_module(module).measure
            rows[section] = measure(peers=not options.no_peers, quick=options.quick, say=_say)
            print(table(section, rows[section]), flush=True)
    return rows


def report(rows: dict[str, list[Row]], about: dict[str, Any]) -> str:
    """Return everything as Markdown."""
    facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
    return "\n".join(["# Speed and memory", "", facts, "", *(table(name, part) for name, part in rows.items())])


def main(arguments: list[str]) -> int:
    """Measure, print, and write what was asked for."""
    options = parsed(arguments)
    if not options.no_peers and not environment.inside():
        python = environment.ready(options.constraints)
        return subprocess.run([str(python), __file__, *arguments], check=False).returncode
    os.environ.setdefault("TQDM_DISABLE", "1")
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # before torch is imported, here and in every process
    about = machine()
    print("\n".join(f"{key:8} {value}" for key, value in about.items()), end="\n\n", flush=True)
    rows = measured(options)
    about["load after"] = [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None
    about["seconds"] = round(time.perf_counter() - _START)
    behind = [row for part in rows.values() for row in part if row.mark == "behind"]
    print(
        f"{about['seconds']} s; {len(behind)} behind their target" if behind else f"{about['seconds']} s; none behind"
    )
    if options.json:
        data = {"about": about, "rows": [row.as_data() for part in rows.values() for row in part]}
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(report(rows, about), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
