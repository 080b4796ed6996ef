"""Integrators: the order of each method, measured on an equation with a closed form."""

from __future__ import annotations

import math

import pytest
import torch

from shape_analysis.integrators import TABLEAUS, integrate


def logistic(state):
    (y,) = state
    return (y * (1 - y),)


def error(name: str, n_steps: int) -> float:
    (y,) = integrate(logistic, (torch.tensor(0.2, dtype=torch.float64),), 2.0, n_steps, TABLEAUS[name])
    return abs(float(y) - 1 / (1 + 4 * math.exp(-2.0)))


@pytest.mark.parametrize("name", TABLEAUS)
def test_order(name):
    measured = math.log2(error(name, 40) / error(name, 80))
    assert measured == pytest.approx(TABLEAUS[name].order, abs=0.15)


@pytest.mark.parametrize("name", TABLEAUS)
def test_coefficients_are_consistent(name):
    tableau = TABLEAUS[name]
    assert sum(tableau.weights) == pytest.approx(1)
    assert len(tableau.couplings) == len(tableau.weights)


def test_backwards_in_time():
    start = (torch.tensor(0.2, dtype=torch.float64),)
    there = integrate(logistic, start, 1.0, 50, TABLEAUS["rk4"])
    (back,) = integrate(logistic, there, -1.0, 50, TABLEAUS["rk4"])
    assert float(back) == pytest.approx(0.2, abs=1e-9)
