"""The example that draws emoji, as a module."""

import importlib.util
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent / "examples" / "emoji.py"

_SPEC = importlib.util.spec_from_file_location("emoji", EXAMPLE)
assert _SPEC is not None
assert _SPEC.loader is not None
EMOJI = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(EMOJI)

HAS_EMOJI = any(Path(name).is_file() for name in EMOJI.FONTS) and any(Path(name).is_file() for name in EMOJI.NAMES)
"""Whether what it draws them from is installed."""
