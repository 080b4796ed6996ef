"""Minimise a function of one tensor: L-BFGS through SciPy, or any optimiser of PyTorch; knows nothing of shapes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray
from torch import Tensor

Objective = Callable[[Tensor], Tensor]
OptimizerFactory = Callable[[list[Tensor]], torch.optim.Optimizer]
Minimizer = Callable[[Objective, Tensor, int, Callable[[], None]], None]

# Stands for a value that is not finite, relative to the value at the start: high enough to be turned away from by a
# line search, low enough to leave its interpolations meaningful.
BARRIER = 1e3


def minimize_lbfgs(
    objective: Objective, start: Tensor, max_iter: int, on_iteration: Callable[[], None]
) -> None:
    """Run SciPy's L-BFGS from `start`; `on_iteration` is called after each iteration.

    The best value is for the caller to remember: an exception raised in the objective or in `on_iteration` ends the
    search at any moment.
    """
    value, slope = value_and_gradient(objective, start)
    norm = float(torch.linalg.vector_norm(slope))
    if norm == 0 or not math.isfinite(norm):
        return
    # L-BFGS-B opens with a step of length 1. In these units it is the Polyak step, which is where a linear model
    # would reach 0: right for losses whose minimum is small against their first value.
    unit = max(abs(value), 1e-30) / norm

    def scaled(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters = start + unit * torch.from_numpy(flat).to(start).reshape(start.shape)
        height, gradient = value_and_gradient(objective, parameters)
        if not (math.isfinite(height) and bool(torch.isfinite(gradient).all())):
            return BARRIER * (1.0 + abs(value)), np.zeros_like(flat)
        return height, unit * gradient.reshape(-1).cpu().double().numpy()

    scipy.optimize.minimize(
        scaled,
        np.zeros(start.numel()),
        jac=True,
        method="L-BFGS-B",
        callback=lambda _: on_iteration(),
        options={"maxiter": max_iter, "maxfun": 4 * max_iter, "maxcor": 10},
    )


def torch_minimizer(factory: OptimizerFactory) -> Minimizer:
    """A minimizer that makes `max_iter` steps of the optimiser that `factory([parameters])` builds."""

    def minimize(
        objective: Objective, start: Tensor, max_iter: int, on_iteration: Callable[[], None]
    ) -> None:
        parameters = start.clone().requires_grad_(True)
        optimizer = factory([parameters])

        def closure() -> float:
            optimizer.zero_grad()
            value, parameters.grad = value_and_gradient(objective, parameters.detach())
            return value

        for _ in range(max_iter):
            optimizer.step(closure)
            on_iteration()

    return minimize


def value_and_gradient(objective: Objective, parameters: Tensor) -> tuple[float, Tensor]:
    """The value of the objective, as a number, and its gradient."""
    with torch.enable_grad():
        variable = parameters.detach().clone().requires_grad_(True)
        value = objective(variable)
        (slope,) = torch.autograd.grad(value, variable)
    return float(value.detach()), slope
