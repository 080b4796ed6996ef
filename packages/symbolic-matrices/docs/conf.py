"""Sphinx settings of the pages of symbolic-matrices."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))  # where sphinx_bars stands

project = "symbolic-matrices"
version = release = installed_version(project)
author = f"The {project} developers"
copyright = f"2026, {author}"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_bars",
]
myst_enable_extensions = ["amsmath", "dollarmath"]
autodoc_member_order = "groupwise"
autodoc_typehints = "description"
napoleon_google_docstring = False

html_theme = "furo"
