"""How the pages are built: `make docs`, or `sphinx-build -W docs docs/_build`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "fromnoise"
copyright = "the authors of fromnoise"
extensions = ["myst_parser", "mathml"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "fromnoise"
html_math_renderer = "mathml"
html_static_path = ["_static", "../web/font/docs.woff2"]
html_css_files = ["docs.css"]
highlight_language = "text"
exclude_patterns = ["_build"]
