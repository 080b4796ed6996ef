"""Owns the geodesics of Fisher's metric between Gaussian measures of any dimension; ignores transport."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize

from symbolic_matrices.arrays import Array, library_of

from .gaussians import Gaussian, check_gaussians, check_time

_PRECISION = 1e-13  # of the slope of squared distances, where quasi-Newton's steps end


def gaussian_fisher_rao_distance(m_a: Array, m_b: Array, C_a: Array, C_b: Array) -> Array:
    r"""Distance between Gaussian measures for Fisher's metric, that of relative entropy.

    The length of the geodesics of

    .. math::
        ds^2 = dm^\top C^{-1} dm + \tfrac12 \mathrm{tr} \big( (C^{-1} dC)^2 \big),

    which affine maps of the space, applied to both measures, leave as it is.

    Parameters
    ----------
    m_a, m_b
        Means (..., D), with any batch dimensions: NumPy, PyTorch or CuPy, float32 or float64.
    C_a, C_b
        Covariances (..., D, D): symmetric positive definite.

    Returns
    -------
    Array
        Distances (...). With PyTorch, differentiable once in everything.

    Raises
    ------
    ValueError
        For wrong shapes and matrices that are not symmetric positive definite.

    Notes
    -----
    In dimension one, :func:`fisher_rao_distance` of the standard deviations. In others, there is a closed form for
    equal means only. Gaussians are orbits, in the symmetric space of positive matrices of size 2 D + 1, of groups of
    isometries of dimension D (D - 1) / 2; their distance, half of that between two orbits, is found by quasi-Newton's
    steps from the orbits' points without rotation. Sources: Eriksen, *Geodesics
    connected with the Fisher metric on the multivariate normal manifold* (1987); Kobayashi, *Geodesics of multivariate
    normal distributions and a Toda lattice type Lax pair* (2023).

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import gaussian_fisher_rao_distance
    >>> zero, one = np.zeros(2), np.ones(2)
    >>> round(float(gaussian_fisher_rao_distance(zero, one, np.diag([1, 0.1]), np.diag([0.1, 1]))), 4)
    3.1329
    """
    check_gaussians(m_a, m_b, C_a, C_b)
    library = library_of(m_a)
    dtype, device = library.dtype_name(m_a), library.device(m_a)
    geodesics = _find_geodesics(m_a, m_b, C_a, C_b)
    lengths = np.array([geodesic.length for geodesic in geodesics]).reshape(m_a.shape[:-1])
    value = library.convert(lengths.tolist(), dtype, device)
    if not any(library.needs_gradient(array) for array in (m_a, m_b, C_a, C_b)):
        return value
    # PyTorch is optional: this file is only imported for its tensors.
    from .known_gradients import attach_gradients

    slopes = [geodesic.slopes for geodesic in geodesics]
    gradients = (
        library.convert(np.stack(parts).reshape(array.shape).tolist(), dtype, device)
        for parts, array in zip(zip(*slopes, strict=True), (m_a, m_b, C_a, C_b), strict=True)
    )
    attached: Array = attach_gradients(value, (m_a, m_b, C_a, C_b), tuple(gradients))
    return attached


def gaussian_fisher_rao_geodesic(m_a: Array, m_b: Array, C_a: Array, C_b: Array, t: float) -> Gaussian:
    """The Gaussian at time ``t`` in [0, 1] of the geodesic of :func:`gaussian_fisher_rao_distance`, outside of graphs.

    Where means differ, covariances grow on the way along what parts them.

    Parameters
    ----------
    m_a, m_b, C_a, C_b
        As for :func:`gaussian_fisher_rao_distance`.
    t
        Time, between 0, where a is, and 1, where b is.

    Returns
    -------
    Gaussian
        Mean (..., D) and covariance (..., D, D).

    Raises
    ------
    ValueError
        As :func:`gaussian_fisher_rao_distance`, and for times out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import gaussian_fisher_rao_geodesic
    >>> middle = gaussian_fisher_rao_geodesic(np.zeros(2), np.array([2.0, 0.0]), np.eye(2), np.eye(2), 0.5)
    >>> np.diag(middle.covariance).round(3)
    array([1.5, 1. ])
    """
    check_gaussians(m_a, m_b, C_a, C_b)
    check_time(t)
    library = library_of(m_a)
    reached = [geodesic.at(t) for geodesic in _find_geodesics(m_a, m_b, C_a, C_b)]
    mean, covariance = (
        library.convert(
            np.stack(parts).reshape(like.shape).tolist(), library.dtype_name(m_a), library.device(m_a)
        )
        for parts, like in zip(zip(*reached, strict=True), (m_a, C_a), strict=True)
    )
    return Gaussian(mean, covariance)


@dataclass(frozen=True)
class _Geodesic:
    """t -> exp(t log P), for a positive matrix P of size 2 D + 1, read as a Gaussian and pushed by an affine map.

    The first blocks of the matrix are C^-1 and C^-1 m.
    """

    matrix: np.ndarray
    origin: np.ndarray  # (D,)
    factor: np.ndarray  # (D, D)

    @cached_property
    def _spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """The logarithms of the eigenvalues, and eigenvectors."""
        return _spectrum(self.matrix)

    @property
    def length(self) -> float:
        return float(np.linalg.norm(self._spectrum[0])) / 2

    def at(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance."""
        logarithms, vectors = self._spectrum
        mean, covariance = self._read(_identity_plus(vectors, np.expm1(t * logarithms)))
        return self.origin + self.factor @ mean, self.factor @ covariance @ self.factor.T

    @property
    def slopes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Derivatives of the length in m_a, m_b, C_a and C_b: unit velocities at both ends, seen by the metric."""
        starts, ends = self._covelocity(0.0), self._covelocity(1.0)
        scale = 1 / self.length if self.length > 0 else 0.0
        return -scale * starts[0], scale * ends[0], -scale * starts[1], scale * ends[1]

    def _covelocity(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """C^-1 dm / dt and C^-1 (dC / dt) C^-1 / 2."""
        logarithms, vectors = self._spectrum
        powers, dim = np.exp(t * logarithms), len(self.origin)
        moving = (vectors * (logarithms * powers)) @ vectors.T
        mean, _ = self._read(_identity_plus(vectors, powers - 1))
        # With Q = C^-1: dC = -C dQ C and dm = C (d(Q m) - dQ m).
        velocity = moving[:dim, dim] - moving[:dim, :dim] @ mean
        inverse = np.linalg.inv(self.factor)
        return inverse.T @ velocity, -inverse.T @ moving[:dim, :dim] @ inverse / 2

    def _read(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        dim = len(self.origin)
        covariance = np.linalg.inv(matrix[:dim, :dim])
        return covariance @ matrix[:dim, dim], (covariance + covariance.T) / 2


def _spectrum(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the eigenvalues of a point of an orbit and eigenvectors, but for one of eigenvalue one.

    The inverse is the matrix with its first and last blocks swapped: eigenvalues go
    by pairs, and the largest of each pair, which is the most precise, gives the other one.
    """
    dim = len(matrix) // 2
    values, vectors = np.linalg.eigh(matrix)
    logarithms, large = np.clip(np.log(values[dim + 1 :]), 0.0, None), vectors[:, dim + 1 :]
    small = np.concatenate([large[dim + 1 :], large[dim : dim + 1], large[:dim]])
    return np.concatenate([logarithms, -logarithms]), np.concatenate([large, small], 1)


def _identity_plus(vectors: np.ndarray, values: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.eye(len(vectors)) + (vectors * values) @ vectors.T
    return found


def _find_geodesics(m_a: Array, m_b: Array, C_a: Array, C_b: Array) -> list[_Geodesic]:
    """One per problem of the batch, in order."""
    library, dim = library_of(m_a), m_a.shape[-1]
    means = (library.to_numpy(m).astype(float).reshape(-1, dim) for m in (m_a, m_b))
    covariances = (library.to_numpy(C).astype(float).reshape(-1, dim, dim) for C in (C_a, C_b))
    return [_find_geodesic(*pair) for pair in zip(*means, *covariances, strict=True)]


def _find_geodesic(m_a: np.ndarray, m_b: np.ndarray, C_a: np.ndarray, C_b: np.ndarray) -> _Geodesic:
    """From the standard Gaussian to b, once an affine map sends a there."""
    dim, factor = len(m_a), np.linalg.cholesky(C_a)
    inverse = np.linalg.inv(factor)
    mean, covariance = inverse @ (m_b - m_a), inverse @ C_b @ inverse.T
    upper = np.triu_indices(dim, 1)

    def lifted(turns: np.ndarray) -> np.ndarray:
        """The point of the orbit of b, whose elements are skew-symmetric matrices."""
        skew = np.zeros((dim, dim))
        skew[upper] = turns
        push = np.eye(2 * dim + 1)
        push[dim, :dim], push[dim + 1 :, dim] = mean, -mean
        push[dim + 1 :, :dim] = skew - skew.T - np.outer(mean, mean) / 2
        core = np.eye(2 * dim + 1)
        core[:dim, :dim], core[dim + 1 :, dim + 1 :] = np.linalg.inv(covariance), covariance
        return push @ core @ push.T

    def squared(turns: np.ndarray) -> tuple[float, np.ndarray]:
        """The squared distance to the orbit's point, and its slope: what turns at the start of the geodesic."""
        logarithms, vectors = _spectrum(lifted(turns))
        corner = ((vectors * logarithms) @ vectors.T)[dim + 1 :, :dim]
        return float((logarithms**2).sum()) / 2, 2 * (corner - corner.T)[upper]

    turns = np.zeros(len(upper[0]))
    if len(turns) and mean.any():
        turns = optimize.minimize(squared, turns, jac=True, method="BFGS", options={"gtol": 1e-8}).x
        turns = optimize.root(lambda turns: squared(turns)[1], turns, tol=_PRECISION).x
    return _Geodesic(lifted(turns), m_a, factor)
