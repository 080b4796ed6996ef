"""The page of operations is the one that its program writes, and holds every row."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from symbolic_matrices.formulas.operations import OPERATIONS

GENERATOR = Path(__file__).parents[3] / "tools" / "generate_operations_page.py"


def test_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("generate_operations_page", GENERATOR)
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    page = generator.PAGE.read_text()
    assert page == generator.page_text(), "run: python tools/generate_operations_page.py"
    assert [name for name in OPERATIONS if f"| `{name}` |" not in page] == []
