"""Mathematics as MathML, which browsers show by themselves: no script, no network.

`docs/_static/docs.css` brings the font. latex2mathml leaves three things to be set right here: the space about a
function's name (log p), the form of accents, and formulas of several pieces, which may stand below each other where
the screen is narrow.
"""

from __future__ import annotations

from html import unescape
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from latex2mathml.converter import convert_to_element
from sphinx.application import Sphinx

_ACCENTS = {"^": "ˆ", "~": "˜", "¯": "¯"}
"""The signs over letters as latex2mathml writes them, and as the font has them at the right height."""

_THIN, _QUAD = "0.167em", "2em"


def math(tex: str, display: str) -> list[str]:
    r"""Return a formula as MathML, in the pieces that `\qquad` parts it into."""
    tree = convert_to_element(tex, display=display)
    for part in tree.iter():
        part.text = unescape(part.text or "")  # latex2mathml writes signs as &#x...;
    for parent in list(tree.iter()):
        _set_accents(parent)
        _set_spaces(parent)
    row = tree.find("mrow")
    pieces: list[list[ElementTree.Element]] = [[]]
    for part in tree if row is None else row:
        if part.tag == "mspace" and part.get("width") == _QUAD:
            pieces.append([])
        else:
            pieces[-1].append(part)
    return [_text(piece, tree.attrib) for piece in pieces]


def _set_accents(parent: ElementTree.Element) -> None:
    if parent.tag != "mover":
        return
    sign = parent[1]
    if sign.text in _ACCENTS:
        sign.text = _ACCENTS[sign.text]
        sign.set("stretchy", "false")
        parent.set("accent", "true")


def _set_spaces(parent: ElementTree.Element) -> None:
    """Space the parts of a row as TeX does: log p with a thin space, a/b and |a| with none, = -a with a sign of a."""
    children = list(parent)
    for part in children:
        if part.tag == "mo" and part.text in ("/", "|"):
            part.attrib |= {"lspace": "0", "rspace": "0"}
    if parent.tag not in ("math", "mrow", "msqrt"):
        return
    for k, (left, right) in reversed(list(enumerate(pairwise(children), start=1))):
        if (_is_name(left) and right.tag not in ("mo", "mspace")) or (_is_name(right) and _ends_operand(left)):
            parent.insert(k, ElementTree.Element("mspace", width=_THIN))
        if right.tag == "mo" and right.text in ("+", "−", "±") and left.tag == "mo" and not _ends_operand(left):
            right.set("form", "prefix")


def _is_name(part: ElementTree.Element) -> bool:
    return part.tag == "mi" and len(part.text or "") > 1


def _ends_operand(part: ElementTree.Element) -> bool:
    return part.text in ("∇", ")", "]", "|") if part.tag == "mo" else part.tag != "mspace"


def _text(parts: list[ElementTree.Element], attributes: dict[str, str]) -> str:
    tree = ElementTree.Element("math", attributes)
    ElementTree.SubElement(tree, "mrow").extend(parts)
    return ElementTree.tostring(tree, encoding="unicode")


def _inline(writer: Any, node: nodes.Element) -> None:
    writer.body.append("".join(math(node.astext(), "inline")))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.Element) -> None:
    writer.body.append(f'<div class="formula">{"".join(math(node.astext(), "block"))}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
