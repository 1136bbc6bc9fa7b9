"""What a benchmark ran on."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def cpu_name() -> str:
    """Return the processor's name, with family and model where the system tells them."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields: dict[str, str] = {}
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
        name = fields.get("model name", "")
        if name:
            return f"{name} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"
    return platform.processor() or platform.machine()


def described() -> str:
    """Return processor, torch and its threads in one line."""
    return f"{cpu_name()}, torch {torch.__version__}, {torch.get_num_threads()} thread(s)"
