"""Sphinx extension: docstrings may write |x| for a norm and (*batch, N) for a shape, which are markup otherwise."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

MARK_OR_LITERAL = re.compile(r"(``.*?``)|(?<!\\)(\||(?<=[(\[])\*(?=\w))")


def escape_marks(app: Sphinx, what: str, name: str, documented: Any, options: Any, lines: list[str]) -> None:
    """Escape bars and stars of a docstring, in place, except in ``literals`` and in doctest examples."""
    in_example = False
    for k, line in enumerate(lines):
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        if not in_example:
            lines[k] = MARK_OR_LITERAL.sub(lambda found: found[1] or "\\" + found[2], line)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", escape_marks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
