"""Write ``docs/operations.md`` of symbolic-matrices: every row of the table of operations, with its doc line.

Usage: ``python tools/generate_operations_page.py`` after adding a row. A test fails when the page is out of date.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType

from symbolic_matrices import LazyTensor
from symbolic_matrices.formulas.operations import (
    OPERATIONS,
    Operation,
    complex,
    indexing,
    pointwise,
    special,
    tensors,
    vectors,
    warping,
)
from symbolic_matrices.formulas.reductions import REDUCTIONS

PAGE = Path(__file__).parents[1] / "packages/symbolic-matrices/docs/operations.md"
FAMILIES = {
    "Component by component": pointwise,
    "Special functions": special,
    "Vectors": vectors,
    "Tensors": tensors,
    "Components": indexing,
    "Complex numbers": complex,
    "Time series": warping,
}
HEADER = """# Operations

<!-- Written by tools/generate_operations_page.py from the table of operations. -->

What formulas are made of, one line per row of the table. `x` is the LazyTensor that a method is called on; operations
that act component by component broadcast a vector of dimension 1 against one of dimension D. Rows without a spelling
are what methods and derivatives are built of.
"""
OTHER_SPELLINGS = {
    "tensordot": "x.keops_tensordot(y, dimfa, dimfb, contfa, contfb)",
    "softdtw": "x.softdtw_sqdist(y, gamma)",
    "real_part": "z.real",
    "imaginary_part": "z.imag",
}
OF_COMPONENTS = {row.of_components: row.name for row in REDUCTIONS.values() if row.of_components is not None}


def spelling(operation: Operation) -> str:
    """How users write an operation, or nothing where they cannot."""
    names = operation.operand_names
    if operation.text:
        symbols = [f"{{attributes[{k}]}}" for k in range(len(operation.attributes))]
        text = operation.text.replace(symbols[0], "n") if symbols else operation.text
        return text.format(*names)
    if operation in OF_COMPONENTS:
        return f"x.{OF_COMPONENTS[operation]}(-1)"
    if operation.method:
        return f"{names[0]}.{operation.name}({', '.join(names[1:])})"
    if hasattr(LazyTensor, operation.name):  # a method with compile-time arguments
        _, *parameters = inspect.signature(getattr(LazyTensor, operation.name)).parameters
        return f"x.{operation.name}({', '.join(parameters)})"
    return OTHER_SPELLINGS.get(operation.name, "")


def table(title: str, module: ModuleType) -> str:
    rows = [
        operation
        for operation in OPERATIONS.values()
        if vars(module).get(_variable(operation, module)) is operation
    ]
    lines = [f"| `{o.name}` | {_code(spelling(o))} | {_cell(o.doc)} |" for o in rows]
    return "\n".join([f"## {title}", "", "| row | written | what it is |", "|---|---|---|", *lines])


def _variable(operation: Operation, module: ModuleType) -> str:
    """The name of a row in the module that states it; modules import rows of each other, too."""
    names = (name for name, value in vars(module).items() if value is operation)
    return next(names, "") if operation.reference.__module__ == module.__name__ else ""


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`")


def page_text() -> str:
    return (
        "\n\n".join([HEADER.rstrip(), *(table(title, module) for title, module in FAMILIES.items())]) + "\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page_text())
    print(f"Wrote {PAGE.name}.")
