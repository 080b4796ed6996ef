"""Owns how functions of PyTorch's tensors behave inside ``torch.compile``; ignores what they compute."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def outside_of_graphs(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Run a function as it is where ``torch.compile`` would trace it: the graph breaks before and goes on after.

    Sinkhorn's loop stops when marginals are right, which no graph can foresee; its reductions are compiled already.
    ``torch.compiler.disable`` as a decorator would import the compiler, for everybody.
    """

    @functools.wraps(function)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        if torch.compiler.is_compiling():
            result: Result = torch.compiler.disable(function)(*args, **kwargs)
            return result
        return function(*args, **kwargs)

    return run
