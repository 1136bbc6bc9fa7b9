"""The benchmark's own virtual environment, with the peers in it, apart from the project's."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".venv-bench"
_STAMP = HOME / "made-from"

NEEDS = ("diffusers==0.42.1", "accelerate", "einops", "tqdm", "trampoline")
"""What the peers import."""
NEEDS_ALONE = (
    "azula==0.11.1",
    "smalldiffusion==0.5.0",
    "k-diffusion==0.1.1.post1",
    "torchsde==0.2.6",
    "torchdiffeq==0.2.5",
)
"""Installed without what they declare: torchvision among others, which points have no use for."""


def python() -> Path:
    """Return the environment's interpreter."""
    return HOME / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def inside() -> bool:
    """Tell whether this interpreter is the environment's."""
    return Path(sys.prefix).resolve() == HOME.resolve()


def ready(constraints: Path) -> Path:
    """Make the environment if it is missing or was made from something else, and return its interpreter."""
    if not constraints.exists():
        raise SystemExit(f"{constraints.name} is missing: give its place with --constraints, or run with --no-peers")
    wanted = _fingerprint(constraints)
    if not (_STAMP.exists() and _STAMP.read_text() == wanted and python().exists()):
        print(f"making {HOME.name} for the peers", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(HOME)], check=True)
        try:
            _install(constraints)
        except subprocess.CalledProcessError:
            raise SystemExit("pip could not install the peers (above); --no-peers measures fromnoise alone") from None
        _STAMP.write_text(wanted)
    return python()


def _dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return list(project["project"]["dependencies"])


def _fingerprint(constraints: Path) -> str:
    """Return a hash of all that decides what is installed."""
    parts = [sys.version, constraints.read_text(encoding="utf-8"), *_dependencies(), *NEEDS, *NEEDS_ALONE]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _install(constraints: Path) -> None:
    """Install torch and what the peers import, then the peers and fromnoise without what they declare."""
    pip = [str(python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    held = ["-c", str(constraints)]
    subprocess.run([*pip, *held, *_dependencies(), *NEEDS], check=True)
    subprocess.run([*pip, *held, "--no-deps", *NEEDS_ALONE], check=True)
    subprocess.run([*pip, *held, "--no-deps", "-e", str(ROOT)], check=True)
