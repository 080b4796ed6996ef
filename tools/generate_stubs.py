"""Write ``table_methods.pyi``: the methods of ``LazyTensor`` that the tables define, for editors and type checkers.

Usage: ``python tools/generate_stubs.py`` after adding a row. A test fails when the file is out of date.
"""

from __future__ import annotations

from pathlib import Path

from symbolic_matrices.formulas.operations import OPERATIONS, Operation
from symbolic_matrices.formulas.reductions import REDUCTIONS, ReductionRow

STUB = (
    Path(__file__).parents[1] / "packages/symbolic-matrices/src/symbolic_matrices/matrices/table_methods.pyi"
)
HEADER = '''"""Written by tools/generate_stubs.py from the tables of operations and reductions."""

from typing import Any, TypedDict

from typing_extensions import Unpack

from ..formulas.expressions import Attributes
from ..formulas.operations import Operation
from .lazy_tensor import LazyTensor

class Options(TypedDict, total=False):
    backend: str
    ranges: Any
    accumulate: str
    precision: str
    out: Any

class TableMethods:
    def _apply(self, operation: Operation, *others: Any, attributes: Attributes = ()) -> LazyTensor: ...
    def reduction(
        self,
        name: str,
        *arguments: Any,
        axis: int | None = None,
        dim: int | None = None,
        weight: Any = None,
        **options: Unpack[Options],
    ) -> Any: ...
'''
AXES = "axis: int | None = None, dim: int | None = None"


def operation_stub(operation: Operation) -> str:
    parameters = ", ".join(["self", *(f"{name}: Any" for name in operation.operand_names[1:])])
    return f'    def {operation.name}({parameters}) -> LazyTensor:\n        """{operation.doc}"""\n'


def reduction_stub(row: ReductionRow) -> str:
    count = "K: int, " if row.is_counted else ""
    needed = "weight: Any, " if row.make is None else ""
    optional = "*, weight: Any = None, " if row.make is not None and row.weighted is not None else ""
    signature = f"self, {count}{needed}{AXES}, {optional}**options: Unpack[Options]"
    wrapped = signature if row.weighted is None else f"\n        {signature}\n    "
    method = f'    def {row.name}({wrapped}) -> Any:\n        """{row.doc}"""\n'
    return method + (f"    {row.alias} = {row.name}\n" if row.alias else "")


def stub_text() -> str:
    methods = [operation_stub(operation) for operation in OPERATIONS.values() if operation.method]
    return HEADER + "".join(methods + [reduction_stub(row) for row in REDUCTIONS.values()])


if __name__ == "__main__":
    STUB.write_text(stub_text())
    print(f"Wrote {STUB.name}.")
