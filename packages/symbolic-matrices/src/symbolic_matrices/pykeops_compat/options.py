"""Owns KeOps' names of reductions and options, and what they are here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UnknownReductionError


@dataclass(frozen=True)
class Row:
    """A reduction of KeOps: our name, whether it takes a number of neighbours, and whether it takes a weight."""

    name: str
    is_counted: bool = False
    takes_weight: bool = False
    needs_weight: bool = False


# the state of KeOps' log-sum-exp: no reduction of ours, but found from them
SHIFTED_SUMS = "shifted sums"

# fmt: off
REDUCTIONS = {
    "Sum": Row("sum"),
    "LogSumExp": Row("logsumexp", takes_weight=True),
    "LogSumExpWeight": Row("logsumexp", takes_weight=True, needs_weight=True),
    "SumSoftMaxWeight": Row("sumsoftmaxweight", takes_weight=True, needs_weight=True),
    "SoftMax": Row("sumsoftmaxweight", takes_weight=True, needs_weight=True),
    "Max_SumShiftExp": Row(SHIFTED_SUMS),
    "Max_SumShiftExpWeight": Row(SHIFTED_SUMS, takes_weight=True, needs_weight=True),
    "Min": Row("min"),
    "ArgMin": Row("argmin"),
    "Min_ArgMin": Row("min_argmin"),
    "MinArgMin": Row("min_argmin"),
    "Max": Row("max"),
    "ArgMax": Row("argmax"),
    "Max_ArgMax": Row("max_argmax"),
    "MaxArgMax": Row("max_argmax"),
    "KMin": Row("Kmin", is_counted=True),
    "ArgKMin": Row("argKmin", is_counted=True),
    "KMin_ArgKMin": Row("Kmin_argKmin", is_counted=True),
    "KMinArgKMin": Row("Kmin_argKmin", is_counted=True),
}
# fmt: on
_BACKENDS = {"auto": "auto", "CPU": "cpu", "GPU": "cuda"}
_GPU_BACKENDS = ("GPU_1D", "GPU_1D_device", "GPU_1D_host", "GPU_2D", "GPU_2D_device", "GPU_2D_host")
_ACCUMULATORS = {"auto": "auto", "float16": "auto", "float32": "auto", "float64": "float64"}
_SUM_SCHEMES = {"auto": "auto", "direct_sum": "auto", "block_sum": "auto", "kahan_scheme": "kahan"}
# options that steer KeOps' own kernels: our kernels choose for themselves
_WITHOUT_EFFECT = ("enable_chunks", "use_fast_math", "rec_multVar_highdim", "optional_flags", "dtype", "cuda_type",
                   "device_id")  # fmt: skip
_KEOPS_OPTIONS = ("dtype_acc", "use_double_acc", "sum_scheme", *_WITHOUT_EFFECT)


def find_reduction(name: str, opt_arg: Any, weight: Any) -> Row:
    """The row of one of KeOps' reductions, whose arguments are checked."""
    if name not in REDUCTIONS:
        raise UnknownReductionError(f"There is no reduction {name!r}; choose one of {', '.join(REDUCTIONS)}.")
    row = REDUCTIONS[name]
    if row.is_counted and opt_arg is None:
        raise TypeError(f"{name} needs the number of neighbours, opt_arg=K.")
    if row.needs_weight and weight is None:
        raise TypeError(f"{name} needs a weight, formula2.")
    if weight is not None and not row.takes_weight:
        raise TypeError(f"{name} takes no weight: multiply the formula by formula2 instead.")
    return row


def constructor_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Our keyword arguments, from those that KeOps' routines take where they are made."""
    unknown = sorted(set(options) - set(_KEOPS_OPTIONS))
    if unknown:
        raise TypeError(f"There is no option {unknown[0]!r}; KeOps' options are {', '.join(_KEOPS_OPTIONS)}.")
    return engine_options(options)


def engine_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Our keyword arguments of a reduction, from KeOps' or our own ones; defaults are left out.

    Examples
    --------
    >>> engine_options({"backend": "CPU", "use_double_acc": True, "enable_chunks": False, "ranges": None})
    {'backend': 'cpu', 'accumulate': 'float64'}
    """
    ours = {name: value for name, value in options.items() if name not in _KEOPS_OPTIONS}
    if "backend" in ours:
        ours["backend"] = _backend(ours["backend"])
    accumulate = _accumulator(options)
    if accumulate != "auto":
        ours["accumulate"] = accumulate
    return {name: value for name, value in ours.items() if value is not None}


def _backend(name: Any) -> Any:
    """Names that are not KeOps' are left to the engine."""
    return "cuda" if name in _GPU_BACKENDS else _BACKENDS.get(name, name)


def _accumulator(options: Mapping[str, Any]) -> str:
    dtype_acc, scheme = options.get("dtype_acc") or "auto", options.get("sum_scheme") or "auto"
    use_double_acc = options.get("use_double_acc", False)
    if dtype_acc != "auto" and use_double_acc:
        raise ValueError(
            f"use_double_acc means dtype_acc='float64': do not give dtype_acc={dtype_acc!r}, too."
        )
    _check("dtype_acc", dtype_acc, _ACCUMULATORS)
    _check("sum_scheme", scheme, _SUM_SCHEMES)
    if use_double_acc or _ACCUMULATORS[dtype_acc] != "auto":
        return "float64"
    return _SUM_SCHEMES[scheme]


def _check(option: str, value: Any, known: Mapping[str, str]) -> None:
    if value not in known:
        raise ValueError(f"{option} must be one of {', '.join(map(repr, known))} but is {value!r}.")
