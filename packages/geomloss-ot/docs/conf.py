"""Sphinx settings of the pages of geomloss-ot."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "geomloss-ot"
version = release = installed_version(project)
author = f"The {project} developers"
copyright = f"2026, {author}"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["amsmath", "dollarmath"]
autodoc_member_order = "groupwise"
autodoc_typehints = "description"
napoleon_google_docstring = False

html_theme = "furo"
