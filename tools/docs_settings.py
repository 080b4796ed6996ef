"""Sphinx settings that the pages of all packages share."""

from __future__ import annotations

from importlib.metadata import version


def settings(project: str) -> dict[str, object]:
    """The variables of a package's ``docs/conf.py``."""
    author = f"The {project} developers"
    return {
        "project": project,
        "version": version(project),
        "release": version(project),
        "author": author,
        "copyright": f"2026, {author}",
        "extensions": [
            "myst_parser",
            "sphinx.ext.autodoc",
            "sphinx.ext.mathjax",
            "sphinx.ext.napoleon",
            "sphinx.ext.viewcode",
            "sphinx_notation",
        ],
        "myst_enable_extensions": ["amsmath", "dollarmath"],
        "exclude_patterns": ["benchmarks/*"],  # tables that pages include
        "autodoc_member_order": "groupwise",
        "autodoc_typehints": "description",
        "napoleon_google_docstring": False,
        "html_theme": "furo",
    }
