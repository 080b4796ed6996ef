"""GPyTorch's KeOps kernels against its dense ones: products, gradients, and exact Gaussian processes."""

from __future__ import annotations

import contextlib
import math
import sys

import gpytorch
import pytest
import torch
from gpytorch.kernels import MaternKernel, PeriodicKernel, RBFKernel, ScaleKernel, keops

from symbolic_matrices import Profile, pykeops_compat

SIZE, STEPS = 25, 2
KERNELS = {
    "RBF": (keops.RBFKernel, RBFKernel, {"ard_num_dims": 2}),
    "Matern 1/2": (keops.MaternKernel, MaternKernel, {"nu": 0.5}),
    "Matern 3/2": (keops.MaternKernel, MaternKernel, {"nu": 1.5}),
    "Matern 5/2": (keops.MaternKernel, MaternKernel, {"nu": 2.5}),
    "Periodic": (keops.PeriodicKernel, PeriodicKernel, {}),
}


@pytest.fixture(autouse=True)
def _double_precision():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)


@pytest.fixture(params=KERNELS)
def kernels(request):
    lazy, dense, options = KERNELS[request.param]
    return lazy(**options), dense(**options)


@contextlib.contextmanager
def iterative_solvers():
    """KeOps' kernels are used for matrices beyond the Cholesky size; let solvers and probes be the same for both."""
    settings = gpytorch.settings
    with (
        settings.max_cholesky_size(1),
        settings.cg_tolerance(1e-5),
        settings.eval_cg_tolerance(1e-5),
        settings.max_cg_iterations(60),
        settings.max_preconditioner_size(0),
        settings.deterministic_probes(True),
    ):
        yield


def test_gpytorch_uses_our_modules():
    assert sys.modules["pykeops"].__file__ == pykeops_compat.__file__
    assert keops.keops_kernel.LazyTensor is pykeops_compat.LazyTensor


def test_products_and_their_gradients(kernels):
    x, y, v = torch.rand(SIZE, 2), torch.rand(SIZE + 5, 2), torch.randn(SIZE + 5, 11)
    results = []
    with iterative_solvers():
        for kernel, launches in zip(kernels, (1, 0), strict=True):
            x_, y_ = (z.clone().requires_grad_() for z in (x, y))
            with Profile() as profile:
                product = kernel(x_, y_) @ v
            assert profile.launches >= launches
            assert (profile.launches > 0) == (launches > 0)
            parameters = [x_, y_, *kernel.parameters()]
            results.append((product, *torch.autograd.grad((product**2).sum(), parameters)))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


class GaussianProcess(gpytorch.models.ExactGP):
    def __init__(self, kernel, x, y, likelihood):
        super().__init__(x, y, likelihood)
        self.mean_module, self.covar_module = gpytorch.means.ConstantMean(), ScaleKernel(kernel)

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


def fit_and_predict(kernel, x, y, new):
    """The losses of a few steps of gradient descent, the parameters that they find, and the predictions."""
    likelihood = gpytorch.likelihoods.GaussianLikelihood()
    model = GaussianProcess(kernel, x, y, likelihood).train()
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = -objective(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    prediction = model.eval()(new)
    parameters = torch.cat([parameter.reshape(-1) for parameter in model.parameters()])
    return torch.stack(losses), parameters, prediction.mean, prediction.variance


def test_gaussian_processes(kernels):
    x, new = torch.rand(SIZE, 2), torch.rand(12, 2)
    y = torch.sin(2 * math.pi * x[:, 0]) + 0.1 * torch.randn(SIZE)
    with iterative_solvers():
        with Profile() as profile:
            ours = fit_and_predict(kernels[0], x, y, new)
        assert profile.launches > 10 * STEPS
        dense = fit_and_predict(kernels[1], x, y, new)
    for actual, expected in zip(ours, dense, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    assert ours[0][-1] < ours[0][0]
