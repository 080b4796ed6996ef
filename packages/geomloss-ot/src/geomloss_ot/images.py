"""Owns GeomLoss' calling conventions for images and volumes; ignores how losses are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from .arguments import (
    check_choice,
    check_count,
    check_positive,
    check_scaling,
    find_penalties,
    grid_geometries,
    print_progress,
    read_axes,
    read_grid,
)
from .barycenters import barycenter_grid
from .compiling import outside_of_graphs
from .costs import CITYBLOCK, SQEUCLIDEAN
from .divergences import Annealing, solve_divergence, warn_if_stopped_early
from .measures import check_array, check_compatible_masses, check_same_kind
from .problems import Problem, Stopping

Bounds = Sequence[tuple[float, float]]


@outside_of_graphs
def sinkhorn_divergence(
    a: Tensor,
    b: Tensor,
    p: int = 2,
    blur: float | None = None,
    reach: float | tuple[float | None, float | None] | None = None,
    axes: Bounds | None = None,
    scaling: float = 0.5,
    cost: Callable[[Any, Any], Any] | None = None,
    debias: bool = True,
    potentials: bool = False,
    verbose: bool = False,
    *,
    tol: float = 1e-3,
    max_iter: int = 500,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Sinkhorn divergences between images of a batch, with the arguments and conventions of GeomLoss.

    The cost is :math:`|x - y|^2 / 2` for ``p=2`` (**halved**, while ``solve_grid`` does not halve it) and the city
    block distance for ``p=1``; the temperature is :math:`\varepsilon = \mathrm{blur}^p`.

    Parameters
    ----------
    a, b
        Signals (B, N), images (B, N, M), volumes (B, N, M, P) if ``axes`` has as many pairs; then any batch dimensions
        may stand in front, such as channels (B, K, N, M).
    p
        1 or 2: exponent of the cost.
    blur
        Finest level of detail, in the units of ``axes``. Default: the smallest size of a pixel.
    reach
        Typical largest displacement. None: balanced transport.
    axes
        Bounds (low, high) of the domain along each axis of the grid. Default: (0, 1), for (B, N) and (B, N, M).
    scaling
        Ratio between two distances of the annealing schedule, in (0, 1): it does not change the result.
    cost
        Has to be None: separable costs are what makes grids fast.
    debias, potentials, verbose, tol, max_iter
        As for ``SamplesLoss``.

    Returns
    -------
    Tensor
        One value per image, summed over channels if any: (B,). Or the pair of potentials, in the shapes of a and b.

    Raises
    ------
    ValueError
        For wrong shapes, negative weights, unequal masses without ``reach``, and parameters out of range.

    Examples
    --------
    >>> import torch
    >>> from geomloss_ot import sinkhorn_divergence
    >>> a = torch.zeros(1, 20, 20)
    >>> a[:, 3:7, 3:7] = 1 / 16
    >>> print(sinkhorn_divergence(a, a.roll(10, dims=1)).round(decimals=4))  # (1/2)^2 / 2
    tensor([0.1250])
    """
    check_choice("p", p, (1, 2))
    if cost is not None:
        raise ValueError(
            "cost: only p=1 and p=2 separate over the axes of a grid; see solve_sample for other costs."
        )
    check_scaling(scaling)
    check_count("max_iter", max_iter)
    bounds = _bounds(a, axes)
    source, size_a, x = read_grid("a", a, bounds)
    target, size_b, y = read_grid("b", b, bounds)
    check_same_kind("b", b, "a", a)
    if blur is None:
        blur = min(
            (high - low) / n
            for sizes in (size_a, size_b)
            for n, (low, high) in zip(sizes, bounds, strict=True)
        )
    for name, value in (("blur", blur), ("tol", tol)):
        check_positive(name, value)
    penalties = find_penalties("reach", reach, "kl", lambda distance: float(distance) ** p)
    row = CITYBLOCK if p == 1 else replace(SQEUCLIDEAN, coefficient=0.5)
    geometry, *others = grid_geometries((source, target), (x, y), row, debias=debias)
    check_compatible_masses((source, target), (penalties[0].ratio_bounds, penalties[1].ratio_bounds))
    stopping = Stopping(tol, max_iter, print_progress if verbose else None)
    divergence = solve_divergence(
        Problem(geometry, source, target, penalties, blur**p),
        (others[0], others[1]) if debias else None,
        Annealing(scaling),
        stopping,
    )
    warn_if_stopped_early(divergence, stopping, stacklevel=3)
    if not potentials:
        return divergence.value.reshape(a.shape[0], -1).sum(-1).to(a.dtype)
    f, g = divergence.ab.potentials
    if divergence.aa is not None and divergence.bb is not None:
        f, g = f - divergence.aa.potentials[0], g - divergence.bb.potentials[0]
    return f.reshape(a.shape), g.reshape(b.shape)


def _bounds(a: Tensor, axes: Bounds | None) -> Bounds:
    if not isinstance(a, Tensor):
        raise ValueError(
            f"a is a {type(a).__name__}: expected a PyTorch tensor (solve_grid takes other arrays)."
        )
    bounds = read_axes(axes, a.ndim - 1)
    dims = len(bounds)
    if axes is None and dims not in (1, 2):
        raise ValueError(
            f"a has shape {tuple(a.shape)}: with axes=None, expected signals (B, N) or images (B, N, M). Give axes, "
            "for example ((0, 1),) * 3 for volumes (B, N, M, P) and ((0, 1),) * 2 for channels (B, K, N, M)."
        )
    if a.ndim <= dims:
        raise ValueError(
            f"a has shape {tuple(a.shape)}: expected a batch dimension before those of axes={axes!r}."
        )
    return bounds


@outside_of_graphs
def ImagesBarycenter(
    measures: Tensor,
    weights: Tensor,
    blur: float = 0,
    p: int = 2,
    scaling_N: int = 10,
    backward_iterations: int = 5,
) -> Tensor:
    r"""Debiased Wasserstein barycentres of images, with the arguments of GeomLoss: the images a that minimise

    .. math::
        \sum_k w_k\, S_\varepsilon(a, b_k)

    for each of the B rows of weights w: see :func:`barycenter_grid`.

    Parameters
    ----------
    measures
        Images of equal masses on a unit square, cube or segment: (B, K, N, M), (B, K, N, M, P) or (B, K, N).
    weights
        Weights of the K images in the B means: (B, K).
    blur
        Finest level of detail. 0: the size of a pixel.
    p
        2: the cost is |x - y|^2 / 2.
    scaling_N
        Without effect: iterations go on until the barycentre is right.
    backward_iterations
        Number of last iterations that gradients, in images and weights, go through.

    Returns
    -------
    Tensor
        The barycentres, (B, 1, N, M).

    Raises
    ------
    ValueError
        For wrong shapes, negative weights, unequal masses and parameters out of range.

    Notes
    -----
    Source: Janati et al., *Debiased Sinkhorn barycenters* (2020).

    Examples
    --------
    >>> import torch
    >>> from geomloss_ot import ImagesBarycenter
    >>> images = torch.zeros(1, 2, 16, 16)
    >>> images[0, 0, 2, 3] = images[0, 1, 10, 3] = 1
    >>> middle = ImagesBarycenter(images, torch.tensor([[0.5, 0.5]]))
    >>> print((middle[0, 0] == middle.max()).nonzero())
    tensor([[6, 3]])
    """
    check_choice("p", p, (2,))
    check_array("measures", measures)
    if measures.ndim < 3:
        raise ValueError(
            f"measures has shape {tuple(measures.shape)}: expected (B, K, N, M), K images to average."
        )
    axes = ((0.0, 1.0),) * (measures.ndim - 2)
    # Costs are not halved there: the same distance is the same blur.
    blur = blur or 1 / max(measures.shape[2:])
    return barycenter_grid(measures, weights, blur=blur, axes=axes, backward_iterations=backward_iterations)[
        :, None
    ]
