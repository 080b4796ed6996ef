"""Owns KeOps' shorthands of ``Genred`` that declare their output first."""

from __future__ import annotations

from typing import Any

from ..errors import FormulaError
from .aliases import Alias, parse_alias
from .genred import Genred


def generic_sum(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """The sum of a formula; ``output`` is "a = Vi(D)" to reduce over j, "a = Vj(D)" to reduce over i.

    Examples
    --------
    >>> import numpy as np
    >>> count = generic_sum("SqDist(x, y) < g", "a = Vi(1)", "x = Vi(3)", "y = Vj(3)", "g = Pm(1)")
    >>> count(np.zeros((2, 3)), np.zeros((5, 3)), 0.1)[:, 0]
    array([5., 5.])
    """
    return Genred(formula, aliases, "Sum", axis=_reduced_axis(output), **options)


def generic_logsumexp(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """The log-sum-exp of a formula of dimension 1; ``output`` is "a = Vi(1)" or "a = Vj(1)"."""
    return Genred(formula, aliases, "LogSumExp", axis=_reduced_axis(output), **options)


def generic_argmin(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """Where a formula is smallest; ``output`` is "a = Vi(1)" or "a = Vj(1)"."""
    return Genred(formula, aliases, "ArgMin", axis=_reduced_axis(output), **options)


def generic_argkmin(formula: str, output: str, *aliases: str, **options: Any) -> Genred:
    """Where a formula has its K smallest values; ``output`` is "a = Vi(K)" or "a = Vj(K)"."""
    count = _output(output).dim
    return Genred(formula, aliases, "ArgKMin", axis=_reduced_axis(output), opt_arg=count, **options)


def _output(text: str) -> Alias:
    alias = parse_alias(text, 0)
    if alias.axis == 2:
        raise FormulaError(
            f"The output of a reduction varies along i or j, Vi(...) or Vj(...), but got {text!r}."
        )
    return alias


def _reduced_axis(output: str) -> int:
    """The axis that the output does not have."""
    return 1 - _output(output).axis
