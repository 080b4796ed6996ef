"""Hand-written formula texts for the tests of the loop nest, and the few lines that run them on NumPy arrays."""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

import numpy as np

from symbolic_matrices.backends import cpu
from symbolic_matrices.kernels import compilation
from symbolic_matrices.sparsity import BlockRanges

REALS = {"float32": ("float", 32), "float64": ("double", 64)}
SQDIST = "V d2 = V(); for (int k = 0; k < row_dim; ++k) { const V d = r[k] - c[k]; d2 += d * d; }"


class Result(NamedTuple):
    """Outputs of a kernel, each of shape (*batch, M, out_dim)."""

    values: np.ndarray
    indices: np.ndarray


def source(body: str, reduction: str, dtype: str, name: str = "kernel", definitions: str = "") -> str:
    real, bits = REALS[dtype]
    return (
        f"// test of {reduction}\n"
        f'#define REAL {real}\n#define REAL_BITS {bits}\n{definitions}\n#include "reduce.hpp"\n'
        f"struct Formula {{{body}\n}};\n"
        f"SM_KERNEL({name}, Formula, {reduction})\n"
    )


def formula(row_dim: int, column_dim: int, dim: int, pair: str, parameter_dim: int = 0) -> str:
    """A struct body that reads variable 0 along rows, 1 along columns and 2 as parameter, and computes ``pair``."""
    return f"""
    static constexpr int parameter_dim = {parameter_dim}, row_dim = {row_dim}, column_dim = {column_dim}, dim = {dim};
    template <class V, class Read> SM_INLINE static void parameter(const Read& read, V* out) {{
        for (int k = 0; k < parameter_dim; ++k) out[k] = read(2, k);
    }}
    template <class V, class Read, class P> SM_INLINE static void row(const Read& read, const P& p, V* out) {{
        for (int k = 0; k < row_dim; ++k) out[k] = read(0, k);
    }}
    template <class V, class Read, class P> SM_INLINE static void column(const Read& read, const P& p, V* out) {{
        for (int k = 0; k < column_dim; ++k) out[k] = read(1, k);
    }}
    template <class V, class R, class C, class P, class Out>
    SM_INLINE static void pair(const R& r, const C& c, const P& p, Out& out) {{
        {pair}
    }}"""


def load(body: str, reduction: str, dtype: str, definitions: str = "") -> cpu.NativeKernel:
    """The kernel, for the processor that the environment names now."""
    return _load(body, reduction, dtype, definitions, os.environ.get(compilation.TARGET_VARIABLE))


@functools.cache
def _load(body: str, reduction: str, dtype: str, definitions: str, target: str | None) -> cpu.NativeKernel:
    return cpu.load_kernel(source(body, reduction, dtype, definitions=definitions), "kernel")


def run(
    kernel: cpu.NativeKernel,
    rows: np.ndarray,
    columns: np.ndarray,
    *parameters: np.ndarray,
    ranges: BlockRanges | None = None,
) -> Result:
    """Run a kernel on arrays (*batch, size, D) with any strides but the last."""
    arrays = (rows, columns, *parameters)
    batch_shape = np.broadcast_shapes(*(array.shape[:-2] for array in arrays))
    shape = (*batch_shape, rows.shape[-2], kernel.traits.out_dim)
    result = Result(np.full(shape, 12345.0, rows.dtype), np.full(shape, -7, np.int64))
    inputs = [_input(array, len(batch_shape)) for array in arrays]
    pointers = (array.ctypes.data for array in result)
    cpu.run(kernel, cpu.Arguments(rows.shape[-2], columns.shape[-2], batch_shape, inputs, *pointers, ranges))
    return result


def _input(array: np.ndarray, rank: int) -> cpu.Input:
    strides = [stride // array.itemsize for stride in array.strides]
    own = [0 if size == 1 else stride for size, stride in zip(array.shape[:-2], strides[:-2], strict=True)]
    return cpu.Input(array, array.ctypes.data, strides[-2], [0] * (rank - len(own)) + own)
