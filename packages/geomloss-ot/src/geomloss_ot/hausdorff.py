"""Owns the smooth Hausdorff divergence, made of two symmetric problems; ignores public conventions."""

from __future__ import annotations

from symbolic_matrices.arrays import Array, library_of

from .divergences import Solved
from .geometries import Geometry


def hausdorff_value(aa: Solved, bb: Solved, geometry: Geometry) -> Array:
    """<a - b, f_bb - f_aa> / 2 in float64, with f_aa and f_bb the potentials of a and b against themselves.

    ``geometry`` holds the cost from the support of a to that of b. Source: Feydy et al., *Interpolating between
    optimal transport and MMD using Sinkhorn divergences* (2019), definition 1.
    """
    on_x, on_y = hausdorff_potentials(aa, bb, geometry)
    return (aa.problem.source.integrate(on_x) + bb.problem.source.integrate(on_y)) / 2


def hausdorff_potentials(aa: Solved, bb: Solved, geometry: Geometry) -> tuple[Array, Array]:
    """f_bb - f_aa at the points of a, and f_aa - f_bb at the points of b."""
    f_aa, f_bb = aa.potentials[0], bb.potentials[0]
    return _extension(bb, geometry) - f_aa, _extension(aa, geometry.T) - f_bb


def _extension(solved: Solved, geometry: Geometry) -> Array:
    """A potential at any points: the Sinkhorn update, which the potential itself satisfies on its own points.

    The second reduction is a sum over a plan with rows of mass one. It changes no value, but is a differentiable
    function of weights that vanish, which have no logarithm.
    """
    problem = solved.problem
    epsilon, measure, potential = problem.epsilon, problem.source, solved.potentials[0]
    library = library_of(potential)
    softmin = library.detach(
        geometry.softmin(epsilon, measure.log_weights + library.detach(potential) / epsilon)
    )
    rows = geometry.apply_plan(epsilon, softmin, potential, measure.weights[..., None])[..., 0]
    return problem.penalties[0].proximal(softmin - epsilon * library.namespace.log(rows), epsilon)
