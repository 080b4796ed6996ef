"""LDDMM: diffeomorphisms as geodesic flows of momenta; the equations come from one symbolic Hamiltonian."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from symbolic_matrices import LazyTensor, Pm, Vi, Vj

from ..integrators import TABLEAUS, State, VectorField, integrate
from ..kernels import KernelFormula
from ..shapes import Shape
from .base import Deformation

# Up to this number of control points, their kernel matrix is factorised to speed up the search for momenta.
LARGEST_FACTORISED = 3000


@dataclass(frozen=True, eq=False)
class LDDMM(Deformation):
    """Large deformation diffeomorphic metric mapping, by geodesic shooting.

    Momenta p on control points q have the energy

    ``H(q, p) = 1/2 sum_ij k(q_i, q_j) <p_i, p_j>``

    and follow Hamilton's equations ``dq/dt = dH/dp``, ``dp/dt = -dH/dq``; any other point x follows
    ``dx/dt = sum_j k(x, q_j) p_j``. Both right-hand sides are symbolic reductions: the memory is linear in the numbers
    of points and of time steps, gradients included.

    Parameters
    ----------
    kernel : Kernel or callable
        A symmetric formula k(x_i, y_j), in the units of the points.
    control_points : Tensor, shape (C, D), optional
        Where the momenta live at time 0. Default: the points of the source.
    integrator : str
        A key of `integrators.TABLEAUS`: "euler", "midpoint", "ralston" or "rk4".
    n_steps : int
        Time steps per unit of time.

    Notes
    -----
    The parameters are the momenta at time 0, shape (C, D). Source of the method: Miller, Trouve and Younes, "Geodesic
    shooting for computational anatomy", JMIV 2006; with control points: Durrleman et al., NeuroImage 2014.

    Examples
    --------
    One landmark moves straight, at the constant velocity k(0) p = p:

    >>> import torch
    >>> from shape_analysis import Kernel, LDDMM, PointCloud
    >>> model = LDDMM(Kernel("gaussian", 1.0))
    >>> source = PointCloud(torch.zeros(1, 2))
    >>> model(source, torch.tensor([[1.0, 2.0]]), times=(0.5, 1.0)).end.points.round(decimals=3)
    tensor([[1., 2.]])
    """

    kernel: KernelFormula
    control_points: Tensor | None = None
    integrator: str = "ralston"
    n_steps: int = 10

    def __post_init__(self) -> None:
        if self.integrator not in TABLEAUS:
            raise ValueError(
                f"Unknown integrator {self.integrator!r}; the names are {', '.join(map(repr, TABLEAUS))}."
            )
        if self.n_steps < 1:
            raise ValueError(f"n_steps must be at least 1, got {self.n_steps}.")

    def initial_parameters(self, source: Shape) -> Tensor:
        """No momentum on any control point, shape (C, D)."""
        return torch.zeros_like(self._controls(source))

    def energy(self, source: Shape, parameters: Tensor) -> Tensor:
        """The Hamiltonian H(q, p), which is constant along the path: half of its squared length."""
        return hamiltonian(self.kernel, self._controls(source), parameters)

    def coordinates(self, source: Shape) -> Callable[[Tensor], Tensor]:
        """Momenta ``p = L^-T z``, where ``K = L L^T``: the energy is |z|^2 / 2, instead of an ill-conditioned p'Kp / 2.

        With too many control points for a dense factorisation, z = p.
        """
        controls = self._controls(source).detach()
        if controls.shape[0] > LARGEST_FACTORISED:
            return super().coordinates(source)
        factor, failure = torch.linalg.cholesky_ex(_dense_kernel(self.kernel, controls.double()))
        if failure:  # a formula that is not positive
            return super().coordinates(source)
        upper = factor.T.to(controls)
        return lambda variables: torch.linalg.solve_triangular(upper, variables, upper=True)

    def flow(self, source: Shape, parameters: Tensor, points: Tensor, times: Sequence[float]) -> list[Tensor]:
        """The points carried by the geodesic, at each time."""
        controls = self._controls(source)
        # The control points often are the points to carry: they follow the flow that they generate.
        are_controls = points is controls
        start: State = (controls, parameters) if are_controls else (controls, parameters, points)
        states = self._shoot(start, times)
        return [state[0] if are_controls else state[2] for state in states]

    def shoot(self, source: Shape, parameters: Tensor, times: Sequence[float]) -> list[tuple[Tensor, Tensor]]:
        """The geodesic itself: control points (C, D) and momenta (C, D) at each time."""
        return [(state[0], state[1]) for state in self._shoot((self._controls(source), parameters), times)]

    def _controls(self, source: Shape) -> Tensor:
        return source.points if self.control_points is None else self.control_points.to(source.points)

    def _shoot(self, start: State, times: Sequence[float]) -> list[State]:
        """Integrate away from 0 in both directions, through the times in the order of their distance to 0."""
        field = geodesic_field(self.kernel)
        known: dict[float, State] = {}
        for sign in (1.0, -1.0):
            state, now = start, 0.0
            for time in sorted({float(time) for time in times if time * sign >= 0}, key=abs):
                duration = time - now
                n_steps = max(1, math.ceil(abs(duration) * self.n_steps - 1e-9))
                if duration:
                    state = integrate(field, state, duration, n_steps, TABLEAUS[self.integrator])
                known[time], now = state, time
        return [known[float(time)] for time in times]


def hamiltonian(kernel: KernelFormula, q: Tensor, p: Tensor) -> Tensor:
    """``H(q, p) = 1/2 sum_ij k(q_i, q_j) <p_i, p_j>``, a scalar, for control points and momenta of shape (C, D)."""
    energies = kernel(Vi(q), Vj(q)) * (Vi(p) | Vj(p))
    return 0.5 * energies.sum(axis=1).sum()


def _dense_kernel(kernel: KernelFormula, q: Tensor) -> Tensor:
    """The matrix k(q_i, q_j) of shape (C, C), with a diagonal that is a little larger, for its factorisation."""
    rows = LazyTensor(q[None, :, None, :].expand(q.shape[0], -1, -1, -1).contiguous())
    columns = LazyTensor(q[:, None, None, :].contiguous())
    matrix: Tensor = kernel(rows, columns).sum(axis=2)[..., 0]  # batches of one column each
    return matrix + 1e-6 * torch.diag_embed(matrix.diagonal())


def geodesic_field(kernel: KernelFormula) -> VectorField:
    """The right-hand side of Hamilton's equations, for states (q, p) or (q, p, x) with points x to carry."""

    def field(state: State) -> State:
        q, p = state[0], state[1]
        velocity, force = _hamilton_equations(kernel, q, p)
        if len(state) == 2:
            return velocity, force
        return velocity, force, (kernel(Vi(state[2]), Vj(q)) * Vj(p)).sum(axis=1)

    return field


def _hamilton_equations(kernel: KernelFormula, q: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """dq/dt and dp/dt, in one reduction.

    As k is symmetric, the two variables of k(q_i, q_j) <p_i, p_j> contribute the same: the gradient of 1/2 sum_ij is
    that of sum_j in the row variables q_i and p_i alone.
    """
    q_i, p_i = Vi(q), Vi(p)
    energies = kernel(q_i, Vj(q)) * (p_i | Vj(p))
    one = Pm(torch.ones(1, dtype=q.dtype, device=q.device))
    slopes = energies.grad(p_i, one).concat(-energies.grad(q_i, one)).sum(axis=1)  # (C, 2D)
    dim = q.shape[1]
    return slopes[:, :dim], slopes[:, dim:]
