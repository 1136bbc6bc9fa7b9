"""The examples: what they build, what they say where something is missing, and that what they build trains."""

import subprocess
import sys

import pytest

import fromnoise as fn
from emoji_example import EMOJI, EXAMPLE, HAS_EMOJI


def run(*options, cwd):
    return subprocess.run(
        [sys.executable, EXAMPLE, *options], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


needs_emoji = pytest.mark.skipif(not HAS_EMOJI, reason="needs fonts-noto-color-emoji and unicode-data")

LINES = """# group: People & Body
1F9D1 200D 2696 FE0F                                   ; fully-qualified     # 🧑‍⚖️ E12.1 judge
1F9D1 200D 2696                                        ; minimally-qualified # 🧑‍⚖ E12.1 judge
1F44D 1F3FF                                            ; fully-qualified     # 👍🏿 E1.0 thumbs up: dark skin tone
# subgroup: heart
2764 FE0F                                              ; fully-qualified     # ❤️ E0.6 red heart
"""


def test_names_are_read_each_once(tmp_path):
    (tmp_path / "names.txt").write_text(LINES, encoding="utf-8")
    every = EMOJI.read_names(tmp_path / "names.txt")
    assert [one.caption for one in every] == ["judge", "thumbs up: dark skin tone", "red heart"]
    assert every[2].characters == "\u2764\ufe0f"


def test_of_what_is_held_out_every_part_is_seen():
    kinds = ("light", "medium-light", "medium", "medium-dark", "dark")
    people = [f"person {k}" for k in range(60)]
    every = [EMOJI.Emoji("x", f"{who}: {tone} skin tone") for who in people for tone in kinds]
    every += [EMOJI.Emoji("x", f"pair: {a} skin tone, {b} skin tone") for a in kinds for b in kinds]
    apart = EMOJI.held_out([*every, EMOJI.Emoji("x", "red heart")])
    assert 20 <= len(apart) <= 40
    assert not any("pair" in caption or "heart" in caption for caption in apart)
    seen = {one.caption for one in every} - apart
    for who in people:
        assert sum(caption.startswith(f"{who}:") for caption in seen) >= 4
    for tone in kinds:
        assert any(caption.endswith(f": {tone} skin tone") for caption in seen)
    assert apart == EMOJI.held_out(every)


@pytest.mark.parametrize("missing", ["--font", "--names"])
def test_what_is_missing_is_said_in_one_line(missing, tmp_path):
    if missing == "--names" and not HAS_EMOJI:
        pytest.skip("the font is missed first")
    found = run(missing, tmp_path / "none", cwd=tmp_path)
    assert found.returncode != 0
    assert len(found.stderr.splitlines()) == 1
    assert "apt install fonts-noto-color-emoji unicode-data" in found.stderr
    assert not (tmp_path / "emoji").exists()


@needs_emoji
def test_all_emoji_are_drawn(emoji_folder):
    seen, unseen = (EMOJI.captions_of(emoji_folder / name) for name in ("seen", "unseen"))
    assert len(seen) > 3000
    assert 100 < len(unseen) < 200
    assert not set(seen) & set(unseen)
    source = fn.data.open(emoji_folder / "seen")
    assert source.shape == (3, 16, 16)
    assert not source.found.uncaptioned
    assert not source.found.skipped
    heart = source.x[source.captions.index("red heart")].float()
    assert heart[0, 6:10, 6:10].mean() > 2 * heart[1, 6:10, 6:10].mean()  # it is red


@needs_emoji
@pytest.mark.slow
def test_the_example_trains_and_draws(tmp_path):
    found = run("--size", "16", "--steps", "3", "--data", "e", "--out", "r", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "r" / "config.toml").exists()
    for name in ("seen", "unseen"):
        assert (tmp_path / "e" / f"{name}.png").stat().st_size > 1000
