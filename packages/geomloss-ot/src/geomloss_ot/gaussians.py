"""Owns transport between Gaussian measures, by closed forms; ignores samples and mixtures."""

from __future__ import annotations

import numbers
from typing import NamedTuple

from symbolic_matrices.arrays import Array, library_of

from .arguments import check_count, check_positive
from .costs import root
from .measures import check_array, check_same_kind, check_weights, uniform_weights


class Gaussian(NamedTuple):
    """Mean (..., D) and covariance (..., D, D)."""

    mean: Array
    covariance: Array


class AffineMap(NamedTuple):
    """x -> matrix x + offset, with a symmetric positive matrix (..., D, D) and an offset (..., D)."""

    matrix: Array
    offset: Array


def bures_wasserstein_distance(m_a: Array, m_b: Array, C_a: Array, C_b: Array) -> Array:
    r"""Wasserstein distance between Gaussian measures.

    .. math::
        W_2^2 = |m_a - m_b|^2 + \mathrm{tr}(C_a) + \mathrm{tr}(C_b) - 2 \,\mathrm{tr} (C_a^{1/2} C_b C_a^{1/2})^{1/2}

    Parameters
    ----------
    m_a, m_b
        Means (..., D), with any batch dimensions: NumPy, PyTorch or CuPy, float32 or float64.
    C_a, C_b
        Covariances (..., D, D): symmetric positive definite.

    Returns
    -------
    Array
        W_2, not squared: (...). Differentiable in everything with PyTorch.

    Raises
    ------
    ValueError
        For wrong shapes and matrices that are not symmetric positive definite.

    Notes
    -----
    Sources: Dowson and Landau (1982); Takatsu, *Wasserstein geometry of Gaussian measures* (2011).

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import bures_wasserstein_distance
    >>> zero = np.zeros(2)
    >>> float(bures_wasserstein_distance(zero, zero + [3.0, 0.0], np.eye(2), 25 * np.eye(2)).round(6))  # 9 + 2 * 16
    6.403124
    """
    check_gaussians(m_a, m_b, C_a, C_b)
    return root(squared_distance(m_a, m_b, C_a, C_b), library_of(m_a).namespace)


def bures_wasserstein_mapping(m_a: Array, m_b: Array, C_a: Array, C_b: Array) -> AffineMap:
    r"""Optimal map between Gaussian measures, :math:`x \mapsto m_b + A (x - m_a)`.

    .. math::
        A = C_a^{-1/2} (C_a^{1/2} C_b C_a^{1/2})^{1/2} C_a^{-1/2}

    Parameters
    ----------
    m_a, m_b, C_a, C_b
        As for :func:`bures_wasserstein_distance`.

    Returns
    -------
    AffineMap
        The matrix A and the offset m_b - A m_a.

    Raises
    ------
    ValueError
        As :func:`bures_wasserstein_distance`.

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import bures_wasserstein_mapping
    >>> bures_wasserstein_mapping(np.zeros(2), np.ones(2), np.eye(2), 4 * np.eye(2)).matrix.round(6)
    array([[2., 0.],
           [0., 2.]])
    """
    check_gaussians(m_a, m_b, C_a, C_b)
    matrix = _map_matrix(C_a, C_b)
    return AffineMap(matrix, m_b - (matrix @ m_a[..., None])[..., 0])


def bures_wasserstein_geodesic(m_a: Array, m_b: Array, C_a: Array, C_b: Array, t: float) -> Gaussian:
    r"""The Gaussian at time ``t`` in [0, 1] of the Wasserstein geodesic from a to b (McCann's interpolation).

    .. math::
        m_t = (1 - t) m_a + t m_b, \qquad C_t = \big((1 - t) I + t A\big)\, C_a\, \big((1 - t) I + t A\big)

    with the matrix A of :func:`bures_wasserstein_mapping`: each point goes straight to its image by the optimal map. In
    dimension one, standard deviations are interpolated linearly.

    Parameters
    ----------
    m_a, m_b, C_a, C_b
        As for :func:`bures_wasserstein_distance`.
    t
        Time between 0, where a is, and 1, where b is.

    Returns
    -------
    Gaussian
        Mean (..., D) and covariance (..., D, D).

    Raises
    ------
    ValueError
        As :func:`bures_wasserstein_distance`, and for times out of [0, 1].

    Notes
    -----
    Source: McCann, *A convexity principle for interacting gases* (1997).

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import bures_wasserstein_geodesic
    >>> middle = bures_wasserstein_geodesic(np.zeros(1), np.ones(1), np.eye(1), 9 * np.eye(1), 0.5)
    >>> float(middle.mean[0]), float(middle.covariance[0, 0].round(6))
    (0.5, 4.0)
    """
    check_gaussians(m_a, m_b, C_a, C_b)
    return geodesic(m_a, m_b, C_a, C_b, t)


def bures_wasserstein_barycenter(
    m: Array, C: Array, weights: Array | None = None, *, max_iter: int = 200, tol: float = 1e-9
) -> Gaussian:
    r"""Wasserstein barycentre of K Gaussian measures: the Gaussian that minimises :math:`\sum_k w_k W_2^2(\cdot, N_k)`.

    Parameters
    ----------
    m, C
        Means (K, D) and covariances (K, D, D).
    weights
        w_k, (K,), normalised by their sum. Default: 1/K.
    max_iter, tol
        The fixed-point iteration stops when the covariance moves by less than ``tol``, relatively.

    Returns
    -------
    Gaussian
        Mean (D,) and covariance (D, D).

    Raises
    ------
    ValueError
        As :func:`bures_wasserstein_distance`.

    Notes
    -----
    Source: Alvarez-Esteban et al., *A fixed-point approach to barycenters in Wasserstein space* (2016), theorem 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import bures_wasserstein_barycenter
    >>> barycentre = bures_wasserstein_barycenter(np.array([[0.0], [2.0]]), np.array([[[1.0]], [[9.0]]]))
    >>> float(barycentre.mean[0]), float(barycentre.covariance[0, 0].round(6))  # the mean deviation, squared
    (1.0, 4.0)
    """
    check_array("m", m)
    if m.ndim != 2:
        raise ValueError(f"m has shape {tuple(m.shape)}: expected (K, D), one mean per measure.")
    check_gaussians(m, m, C, C)
    check_positive("tol", tol)
    check_count("max_iter", max_iter)
    weights = uniform_weights(m) if weights is None else weights
    check_weights("weights", weights, tuple(m.shape[:1]), m)
    library = library_of(m)
    xp = library.namespace
    weights = weights / weights.sum()
    covariance = xp.einsum("k,kij->ij", weights, C)
    for _ in range(max_iter):
        half, inverse_half = _roots(covariance)
        mean_root = xp.einsum("k,kij->ij", weights, _roots(half @ C @ half)[0])
        updated = inverse_half @ mean_root @ mean_root @ inverse_half
        moved = float(library.detach(abs(updated - covariance).max() / abs(updated).max()))
        covariance = updated
        if moved <= max(tol, float(xp.finfo(m.dtype).eps)):
            break
    return Gaussian(weights @ m, covariance)


def fisher_rao_distance(mean_a: Array, mean_b: Array, deviation_a: Array, deviation_b: Array) -> Array:
    r"""Distance between Gaussian measures on a line for the metric of relative entropy.

    .. math::
        d = \sqrt2 \,\mathrm{arccosh}\Big(1 + \frac{(m_a - m_b)^2 / 2 + (s_a - s_b)^2}{2 s_a s_b}\Big)

    Parameters
    ----------
    mean_a, mean_b, deviation_a, deviation_b
        Means and positive standard deviations: arrays (...) of the same shape, one pair of measures per entry.

    Returns
    -------
    Array
        Distances (...).

    Raises
    ------
    ValueError
        For wrong shapes, means that are not finite and deviations that are not positive.

    Notes
    -----
    (mean / sqrt2, deviation) are coordinates of the hyperbolic half-plane: unlike Wasserstein distances, this one is
    large between sharp measures, however close. Source: Costa, Santos and Strapasson, *Fisher information distance: a
    geometrical reading* (2015).

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import fisher_rao_distance
    >>> zero, one = np.zeros(1), np.ones(1)
    >>> fisher_rao_distance(zero, zero, one, np.e * one).round(6)  # sqrt2
    array([1.414214])
    """
    _check_lines((mean_a, mean_b), (deviation_a, deviation_b))
    gap = (mean_a - mean_b) ** 2 / 2 + (deviation_a - deviation_b) ** 2
    xp = library_of(gap).namespace
    # arccosh(1 + 2 u^2) = 2 arcsinh(u), which keeps the digits of small distances.
    u = gap / (4 * deviation_a * deviation_b)
    return 8**0.5 * xp.arcsinh(root(u, xp))


def fisher_rao_geodesic(
    mean_a: Array, mean_b: Array, deviation_a: Array, deviation_b: Array, t: float
) -> tuple[Array, Array]:
    r"""Mean and deviation at time ``t`` in [0, 1] of the Fisher-Rao geodesic between Gaussian measures on a line.

    Half a circle of the half-plane (mean / sqrt2, deviation), at constant speed: the measure spreads on its way. On
    the hyperboloid, where p and q stand for a and b at a distance l,

    .. math::
        p_t = \frac{\sinh((1 - t) l)\, p + \sinh(t l)\, q}{\sinh l}.

    Parameters
    ----------
    mean_a, mean_b, deviation_a, deviation_b
        As for :func:`fisher_rao_distance`.
    t
        Time between 0, where a is, and 1, where b is.

    Returns
    -------
    tuple of Array
        Means and standard deviations, of the shape of those that are given.

    Raises
    ------
    ValueError
        As :func:`fisher_rao_distance`, and for times out of [0, 1].

    Notes
    -----
    Source: Costa, Santos and Strapasson, *Fisher information distance: a geometrical reading* (2015).

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import fisher_rao_geodesic
    >>> mean, deviation = fisher_rao_geodesic(np.zeros(1), np.ones(1), np.full(1, 0.1), np.full(1, 0.1), 0.5)
    >>> float(mean[0].round(6)), float(deviation[0].round(3))
    (0.5, 0.367)
    """
    _check_lines((mean_a, mean_b), (deviation_a, deviation_b))
    check_time(t)
    xp = library_of(mean_a).namespace
    # A point of the half-plane is a unit time-like vector of the hyperboloid, where geodesics are explicit.
    start, end = (_to_hyperboloid(m / 2**0.5, s) for m, s in ((mean_a, deviation_a), (mean_b, deviation_b)))
    length = fisher_rao_distance(mean_a, mean_b, deviation_a, deviation_b) / 2**0.5
    apart = length > 1e-6
    safe = xp.where(apart, length, 1.0)
    from_a = xp.where(apart, xp.sinh((1 - t) * safe) / xp.sinh(safe), 1 - t)
    from_b = xp.where(apart, xp.sinh(t * safe) / xp.sinh(safe), t)
    inverse, quotient = (from_a * p + from_b * q for p, q in zip(start, end, strict=True))
    return 2**0.5 * quotient / inverse, 1 / inverse


def squared_distance(m_a: Array, m_b: Array, C_a: Array, C_b: Array) -> Array:
    """W_2^2 of measures that have been checked."""
    xp = library_of(C_a).namespace
    # The eigenvalues of L^T C_b L with C_a = L L^T are those of C_a^{1/2} C_b C_a^{1/2}; their derivatives exist
    # everywhere, those of matrix roots by eigenvectors would not where eigenvalues coincide.
    factor = xp.linalg.cholesky(C_a)
    product = xp.swapaxes(factor, -1, -2) @ C_b @ factor
    cross = xp.sqrt(xp.clip(xp.linalg.eigvalsh(product), 0.0, None)).sum(-1)
    trace = xp.einsum("...ii->...", C_a) + xp.einsum("...ii->...", C_b)
    return ((m_a - m_b) ** 2).sum(-1) + trace - 2 * cross


def _map_matrix(C_a: Array, C_b: Array) -> Array:
    half, inverse_half = _roots(C_a)
    return inverse_half @ _roots(half @ C_b @ half)[0] @ inverse_half


def geodesic(m_a: Array, m_b: Array, C_a: Array, C_b: Array, t: float) -> Gaussian:
    """The geodesic between measures that have been checked."""
    check_time(t)
    identity = library_of(C_a).namespace.eye(C_a.shape[-1], dtype=C_a.dtype)
    identity = library_of(C_a).convert(identity, library_of(C_a).dtype_name(C_a), library_of(C_a).device(C_a))
    push = (1 - t) * identity + t * _map_matrix(C_a, C_b)
    return Gaussian((1 - t) * m_a + t * m_b, push @ C_a @ push)


def _roots(C: Array) -> tuple[Array, Array]:
    """C^{1/2} and C^{-1/2}, for symmetric positive definite matrices."""
    xp = library_of(C).namespace
    values, vectors = xp.linalg.eigh(C)
    roots = xp.sqrt(values)[..., None, :]
    transposed = xp.swapaxes(vectors, -1, -2)
    return (vectors * roots) @ transposed, (vectors / roots) @ transposed


def _to_hyperboloid(position: Array, height: Array) -> tuple[Array, Array]:
    """Two of the three coordinates (1 / h, x / h, (x^2 + h^2) / h): the third follows from them."""
    return 1 / height, position / height


def check_gaussians(m_a: Array, m_b: Array, C_a: Array, C_b: Array) -> None:
    """Raise a ValueError unless means and positive definite covariances have matching shapes."""
    for name, mean, covariance in (("a", m_a, C_a), ("b", m_b, C_b)):
        library = check_array(f"m_{name}", mean)
        if mean.ndim < 1 or not bool(library.namespace.isfinite(library.detach(mean)).all()):
            raise ValueError(f"m_{name} has shape {tuple(mean.shape)}: expected finite means (..., D).")
        check_same_kind(f"C_{name}", covariance, f"m_{name}", mean)
        expected = (*mean.shape, mean.shape[-1])
        if tuple(covariance.shape) != expected:
            raise ValueError(
                f"C_{name} has shape {tuple(covariance.shape)}: expected {expected}, one covariance per mean."
            )
        _check_positive_definite(f"C_{name}", library_of(covariance).detach(covariance))
    check_same_kind("m_b", m_b, "m_a", m_a)
    if tuple(m_a.shape) != tuple(m_b.shape):
        raise ValueError(
            f"m_a and m_b have shapes {tuple(m_a.shape)} and {tuple(m_b.shape)}: expected the same."
        )


def _check_positive_definite(name: str, covariance: Array) -> None:
    xp = library_of(covariance).namespace
    transposed = xp.swapaxes(covariance, -1, -2)
    largest = abs(covariance).max()
    if not bool(abs(covariance - transposed).max() <= 1e-5 * largest):
        raise ValueError(f"{name} is not symmetric, or not finite: expected covariance matrices.")
    smallest = float(xp.linalg.eigvalsh(covariance).min())
    if not smallest > 0:
        raise ValueError(
            f"{name} is not positive definite: its smallest eigenvalue is {smallest:.3g}. "
            "Add a small multiple of the identity to covariances of measures that are flat."
        )


def check_time(t: float) -> None:
    """Raise a ValueError unless the parameter is a time of a geodesic."""
    if not isinstance(t, numbers.Real) or not 0 <= t <= 1:
        raise ValueError(f"t={t!r}: expected a number between 0, where a is, and 1, where b is.")


def _check_lines(means: tuple[Array, Array], deviations: tuple[Array, Array]) -> None:
    """Raise a ValueError unless these are Gaussian measures on a line, in arrays of the same shape."""
    library = check_array("mean_a", means[0])
    arrays = dict(zip(("mean_a", "mean_b", "deviation_a", "deviation_b"), (*means, *deviations), strict=True))
    for name, array in arrays.items():
        check_same_kind(name, array, "mean_a", means[0])
        if tuple(array.shape) != tuple(means[0].shape) or not bool(
            library.namespace.isfinite(library.detach(array)).all()
        ):
            raise ValueError(
                f"{name} has shape {tuple(array.shape)} and mean_a {tuple(means[0].shape)}: expected finite numbers, "
                "one per measure, in arrays of the same shape."
            )
        values = library.detach(array)
        if name.startswith("deviation") and not bool((values > 0).all()):
            raise ValueError(
                f"{name} goes down to {float(values.min()):.3g}: expected positive standard deviations."
            )
