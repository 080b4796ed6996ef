"""Owns GeomLoss' calling conventions, as a PyTorch module; ignores how losses are computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .arguments import (
    check_choice,
    check_clouds,
    check_count,
    check_positive,
    check_scaling,
    find_penalties,
    point_geometries,
    print_progress,
)
from .compiling import outside_of_graphs
from .costs import EUCLIDEAN, SQEUCLIDEAN, Cost, find_cost
from .divergences import Annealing, Divergence, solve_divergence, warn_if_stopped_early
from .geometries import Geometry
from .hausdorff import hausdorff_potentials, hausdorff_value
from .kernel_norms import KERNELS, Kernel, kernel_potentials, kernel_value
from .measures import Measure, check_compatible_masses, check_weights, middle, uniform_weights
from .multiscale import Multiscale, choose_multiscale, solve_multiscale
from .penalties import PENALTIES
from .problems import Problem, Stopping

LOSSES = ("sinkhorn", "hausdorff", *KERNELS)
BACKENDS = ("auto", "tensorized", "online", "multiscale")


class SamplesLoss(torch.nn.Module):
    r"""Distance between sampled measures: Sinkhorn divergence, kernel norm or Hausdorff divergence.

    With the arguments and conventions of GeomLoss: the cost is :math:`C(x, y) = |x - y|^2 / 2` for ``p=2`` (**halved**,
    while ``solve_sample`` does not halve it) and :math:`|x - y|` for ``p=1``, the temperature is
    :math:`\varepsilon = \mathrm{blur}^p` and the strength of the marginal penalties :math:`\rho = \mathrm{reach}^p`:

    .. math::
        S(a, b) = OT(a, b) - \tfrac12 OT(a, a) - \tfrac12 OT(b, b) + \tfrac\varepsilon2 (m_a - m_b)^2.

    Nothing is stored per pair of points, except by the back end ``"tensorized"``. The gradient, by the envelope
    theorem, costs about two more iterations; second derivatives are right, by implicit differentiation.

    Parameters
    ----------
    loss
        ``"sinkhorn"``; ``"gaussian"``, ``"laplacian"`` or ``"energy"``: half the squared norm of a - b for the kernels
        exp(-|x-y|^2 / (2 blur^2)), exp(-|x-y| / blur) and -|x-y|; ``"hausdorff"``: the smooth Hausdorff divergence.
    p
        1 or 2: exponent of the cost.
    blur
        Finest level of detail, in the units of the points.
    reach
        Typical largest displacement, beyond which destroying mass is cheaper. None: balanced transport. A pair has
        one value per side (not in GeomLoss).
    diameter
        Upper bound for the distance between two points: annealing starts at a quarter of it. Default: measured.
    scaling
        Ratio between two distances of the annealing schedule, in (0, 1). It does not change the result: iterations
        at the last temperature go on until ``tol`` is met.
    truncate
        Of the multiscale back end: blocks of pairs are skipped where the density of the plan is below
        exp(-truncate), and below a quarter of ``tol``. None: visit all pairs.
    cluster_scale
        Of the multiscale back end: edge of the last cells, whose potentials are handed to the points. Default: half
        of the blur, for gradients that are right to about 1 %; a quarter brings them to 0.5 %.
    cost
        Instead of ``p``: name of a cost, or a function of two LazyTensors that returns a formula (of two tensors
        (B, N, D) and (B, M, D), that returns (B, N, M), for ``backend="tensorized"``), or a
        :class:`LipschitzCost`, which large clouds may have.
    kernel
        Instead of the kernel of ``loss``: a function of two LazyTensors that returns a formula.
    debias
        Whether to subtract the self terms, which makes the loss zero if and only if a = b.
    potentials
        Whether to return, instead of the value, the dual potentials at the points x (N,) and y (M,): debiased if
        ``debias``, they are the gradients of the loss with respect to the weights in balanced problems.
    verbose
        Print the temperature and marginal error of each iteration.
    backend
        ``"online"``: lazy reductions over all pairs; ``"tensorized"``: dense (B, N, M) costs, for small problems;
        ``"multiscale"``: cells as long as they resolve the blur, for large clouds, with values that are right to 0.1 %
        of the divergence, one pair of a batch after the other; ``"auto"``: multiscale for p=2, large clouds (at least
        2.5e7 pairs of points, 1e8 in dimension 3, in each pair of a batch) and dimension at most 3, online for others.
    tol
        Relative L1 error of the marginals at which iterations stop. The error on the value is of the order of its
        square. Not in GeomLoss.
    max_iter
        Largest number of iterations of each problem, annealing included. Not in GeomLoss.
    unbalanced_type
        The penalties of ``reach``: ``"kl"``, ``"tv"`` or ``"partial"`` (see ``solve_sample``). Not in GeomLoss.

    Raises
    ------
    ValueError
        For parameters out of range, and when called on measures that do not fit (see ``forward``).

    Notes
    -----
    Source: Feydy et al., *Interpolating between optimal transport and MMD using Sinkhorn divergences* (2019);
    Sejourne et al., *Sinkhorn divergences for unbalanced optimal transport*, arXiv 1910.12958.

    Examples
    --------
    >>> import torch
    >>> from geomloss_ot import SamplesLoss
    >>> loss = SamplesLoss("sinkhorn", p=2, blur=0.05)
    >>> x = torch.rand(200, 3, generator=torch.manual_seed(0)).requires_grad_()
    >>> value = loss(x, x.detach() + 0.2)
    >>> print(round(value.item(), 4))  # |translation|^2 / 2
    0.06
    >>> value.backward()
    >>> print(x.grad.sum(0).round(decimals=2))  # minus the translation
    tensor([-0.2000, -0.2000, -0.2000])
    """

    def __init__(
        self,
        loss: str = "sinkhorn",
        p: int = 2,
        blur: float = 0.05,
        reach: float | tuple[float | None, float | None] | None = None,
        diameter: float | None = None,
        scaling: float = 0.5,
        truncate: float | None = 5,
        cost: str | Callable[[Any, Any], Any] | None = None,
        kernel: Kernel | None = None,
        cluster_scale: float | None = None,
        debias: bool = True,
        potentials: bool = False,
        verbose: bool = False,
        backend: str = "auto",
        *,
        tol: float = 1e-3,
        max_iter: int = 500,
        unbalanced_type: str = "kl",
    ) -> None:
        super().__init__()
        check_choice("loss", loss, LOSSES)
        check_choice("backend", backend, BACKENDS)
        check_choice("p", p, (1, 2))
        _check_numbers(
            {"blur": blur, "tol": tol}, diameter=diameter, truncate=truncate, cluster_scale=cluster_scale
        )
        check_scaling(scaling)
        check_count("max_iter", max_iter)
        lipschitz = None if cost is None else find_cost(cost).lipschitz
        if kernel is not None and not callable(kernel):
            raise ValueError(
                f"kernel={kernel!r}: expected a function of two LazyTensors that returns a formula, or None."
            )
        if backend == "multiscale" and loss != "sinkhorn":
            raise ValueError(
                f"backend='multiscale' computes loss='sinkhorn' only, and loss={loss!r}: choose 'auto' or 'online'."
            )
        if backend == "multiscale" and cost is not None and cluster_scale is None and lipschitz is None:
            raise ValueError(
                "backend='multiscale' does not know how large cells may be for this cost: give cluster_scale=..., or "
                "a LipschitzCost."
            )
        check_choice("unbalanced_type", unbalanced_type, tuple(PENALTIES))
        self._penalties = find_penalties(
            "reach", reach, unbalanced_type, lambda distance: float(distance) ** p
        )
        self.loss, self.p, self.blur, self.reach = loss, p, blur, reach
        self.unbalanced_type = unbalanced_type
        self.diameter, self.scaling, self.truncate, self.cluster_scale = (
            diameter,
            scaling,
            truncate,
            cluster_scale,
        )
        self.cost, self.kernel, self.debias, self.potentials = cost, kernel, debias, potentials
        self.verbose, self.backend, self.tol, self.max_iter = verbose, backend, tol, max_iter

    @outside_of_graphs
    def forward(self, *args: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The loss between two measures, called as ``(x, y)``, ``(a, x, b, y)`` or ``(l_x, a, x, l_y, b, y)``.

        Parameters
        ----------
        x, y
            Points (N, D) and (M, D), or batches (B, N, D) and (B, M, D).
        a, b
            Weights (N,), (N, 1), (B, N) or (B, N, 1). Default: 1 / N and 1 / M.
        l_x, l_y
            Cluster of each point, a whole number: (N,) and (M,), or (B, N) and (B, M). They may speed a computation
            up, never change its result; only the back ends ``"multiscale"``, whose cells they cut, and ``"auto"`` take
            them.

        Returns
        -------
        Tensor
            A scalar, or (B,) for batches; or the pair of potentials, with the shape of the weights.

        Raises
        ------
        ValueError
            For wrong shapes, non-finite points, negative weights, unequal masses without ``reach``, mixed dtypes or
            devices.
        """
        call = _parse(args)
        if len(args) == 6 and self.backend not in ("auto", "multiscale"):
            raise ValueError(
                f"backend={self.backend!r} has no use for the cluster labels l_x and l_y: give (a, x, b, y), "
                "or choose backend='auto'."
            )
        if self.loss in KERNELS:
            value, pair = self._kernel_loss(call)
        elif self.loss == "hausdorff":
            value, pair = self._hausdorff_loss(call)
        else:
            value, pair = self._sinkhorn_loss(call)
        if self.potentials:
            on_x, on_y = pair()
            return on_x.reshape(call.weight_shapes[0]), on_y.reshape(call.weight_shapes[1])
        return value().to(call.x.dtype)

    def _kernel_loss(self, call: _Call) -> _Outcome:
        kernel = KERNELS[self.loss](self.blur) if self.kernel is None else self.kernel
        centre = middle(call.x, call.y) if self.kernel is None else 0.0
        arguments = (kernel, call.x - centre, call.y - centre, call.a, call.b)
        return _Outcome(lambda: kernel_value(*arguments), lambda: kernel_potentials(*arguments))

    def _sinkhorn_loss(self, call: _Call) -> _Outcome:
        divergence = self._solve(call, debias=self.debias)[0]

        def potentials() -> tuple[Tensor, Tensor]:
            f, g = divergence.ab.potentials
            if divergence.aa is None or divergence.bb is None:
                return f, g
            return f - divergence.aa.potentials[0], g - divergence.bb.potentials[0]

        return _Outcome(lambda: divergence.value, potentials)

    def _hausdorff_loss(self, call: _Call) -> _Outcome:
        divergence, geometry = self._solve(call, debias=True)
        aa, bb = divergence.aa, divergence.bb
        assert aa is not None
        assert bb is not None
        return _Outcome(
            lambda: hausdorff_value(aa, bb, geometry), lambda: hausdorff_potentials(aa, bb, geometry)
        )

    def _solve(self, call: _Call, *, debias: bool) -> tuple[Divergence, Geometry]:
        cost = self._cost()
        source, target = Measure(call.a), Measure(call.b)
        bounds = self._penalties[0].ratio_bounds, self._penalties[1].ratio_bounds
        check_compatible_masses((source, target), bounds)
        centre = middle(call.x, call.y) if cost.translation_invariant else None
        lazy = self.backend != "tensorized"
        geometry, *others = point_geometries(call.x, call.y, cost, centre, lazy=lazy, debias=debias)
        problem = Problem(geometry, source, target, self._penalties, self.blur**self.p)
        stopping = Stopping(self.tol, self.max_iter, print_progress if self.verbose else None)
        pair = (others[0], others[1]) if debias else None
        if self._is_multiscale(problem):
            settings = Multiscale(self.cluster_scale, truncate=self.truncate, labels=call.labels)
            divergence = solve_multiscale(problem, pair, settings, stopping)
        else:
            divergence = solve_divergence(problem, pair, Annealing(self.scaling, self.diameter), stopping)
        warn_if_stopped_early(divergence, stopping, stacklevel=7)
        return divergence, geometry

    def _is_multiscale(self, problem: Problem) -> bool:
        if self.backend == "auto" and self.loss == "sinkhorn" and self.cost is None:
            return choose_multiscale(problem)
        return self.backend == "multiscale"

    def _cost(self) -> Cost:
        if self.cost is not None:
            return find_cost(self.cost)
        return EUCLIDEAN if self.p == 1 else replace(SQEUCLIDEAN, coefficient=0.5)


class _Outcome(NamedTuple):
    """The two things that a loss can return, each computed if asked for."""

    value: Callable[[], Tensor]
    potentials: Callable[[], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class _Call:
    """The validated arguments of one call: x (..., N, D), y (..., M, D), a (..., N), b (..., M)."""

    a: Tensor
    x: Tensor
    b: Tensor
    y: Tensor
    weight_shapes: tuple[tuple[int, ...], tuple[int, ...]]  # as given
    labels: tuple[np.ndarray, np.ndarray] | None


def _check_numbers(needed: dict[str, float], **optional: float | None) -> None:
    given = {name: value for name, value in optional.items() if value is not None}
    for name, value in {**needed, **given}.items():
        check_positive(name, value)


def _parse(args: tuple[Tensor, ...]) -> _Call:
    if len(args) not in (2, 4, 6):
        raise ValueError(
            f"SamplesLoss received {len(args)} arguments: expected (x, y), (a, x, b, y) or (l_x, a, x, l_y, b, y)."
        )
    for argument in args:
        if not isinstance(argument, torch.Tensor):
            raise ValueError(
                f"SamplesLoss received a {type(argument).__name__}: expected PyTorch tensors "
                "(solve_sample takes the arrays of other libraries)."
            )
    labels: tuple[Tensor, ...] = ()
    if len(args) == 6:
        labels, args = (args[0], args[3]), (args[1], args[2], args[4], args[5])
    x, y = args if len(args) == 2 else (args[1], args[3])
    check_clouds(x, y, ("x", "y"))
    if x.ndim > 3:
        raise ValueError(
            f"x has shape {tuple(x.shape)}: expected (N, D), or (B, N, D) with one batch dimension."
        )
    for name, label, points in zip(("l_x", "l_y"), labels, (x, y), strict=False):
        _check_labels(name, label, points)
    a, b = (uniform_weights(x), uniform_weights(y)) if len(args) == 2 else (args[0], args[2])
    shapes = (tuple(a.shape), tuple(b.shape))
    cells = (labels[0].cpu().numpy(), labels[1].cpu().numpy()) if labels else None
    return _Call(_weights("a", a, x), x, _weights("b", b, y), y, shapes, cells)


def _check_labels(name: str, labels: Tensor, points: Tensor) -> None:
    if tuple(labels.shape) != tuple(points.shape[:-1]) or not bool((labels == labels.round()).all()):
        raise ValueError(
            f"{name} has shape {tuple(labels.shape)} and dtype {str(labels.dtype).removeprefix('torch.')}: expected "
            f"{tuple(points.shape[:-1])} whole numbers, the cluster of each point."
        )


def _weights(name: str, weights: Tensor, points: Tensor) -> Tensor:
    """Drop the last dimension of (N, 1) and (B, N, 1) weights."""
    shape = tuple(points.shape[:-1])
    if tuple(weights.shape) == (*shape, 1):
        weights = weights[..., 0]
    check_weights(name, weights, shape, points)
    return weights
