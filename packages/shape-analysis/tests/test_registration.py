"""Registration: shapes come near their targets; fits are recorded, stopped, interrupted and resumed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch.testing import assert_close

from shape_analysis import (
    LDDMM,
    Attachment,
    Kernel,
    Landmarks,
    PointCloud,
    Registration,
    RegistrationError,
    Rigid,
    Sinkhorn,
    Varifold,
    distances_to_surface,
    farthest_points,
    nearest,
)


def ellipsoid(mesh):
    return mesh.with_points(mesh.points * torch.tensor([1.5, 1.0, 0.8], dtype=mesh.dtype))


@pytest.mark.parametrize(
    "attachment",
    [Sinkhorn(blur=0.1, tol=1e-2), Varifold(Kernel("gaussian", 0.5))],
    ids=["sinkhorn", "varifold"],
)
def test_a_sphere_becomes_an_ellipsoid(attachment, sphere, dtype):
    source, target = sphere(60, dtype), ellipsoid(sphere(80, dtype))
    controls = source.points[farthest_points(source.points, 25)]
    model = LDDMM(Kernel("gaussian", 0.8), control_points=controls, n_steps=5)
    fit = Registration(model, attachment, 1e-3, max_iter=12)
    moved = fit.fit_transform(source, target)
    before = distances_to_surface(source.points, target)
    after = distances_to_surface(moved.points, target)
    assert float(after.mean()) < 0.4 * float(before.mean())
    assert fit.history_[-1].attachment < 0.2 * fit.history_[0].attachment
    assert moved.dtype == dtype


def test_rigid_registration_recovers_a_motion(sphere):
    source = ellipsoid(sphere(80))
    motion = torch.tensor([0.3, -0.2, 0.1, 0.5, 0.0, -0.5], dtype=torch.float64)
    target = Rigid()(source, motion).end
    fit = Registration(Rigid(), Sinkhorn(blur=0.1, tol=1e-2), 0.0, max_iter=20).fit(source, target)
    assert_close(fit.parameters_, motion, rtol=0, atol=2e-2)


@dataclass(frozen=True)
class Parabola(Attachment):
    """|x - y|^2 / 2: its registration by translation has a closed form."""

    def bind(self, target):
        return lambda shape: 0.5 * (shape.points - target.points).square().sum()


def test_regularization_has_the_closed_form():
    """One landmark: the energy is |p|^2 / 2, hence the optimum is p = (y - x) / (1 + weight)."""
    source, target = PointCloud([[0.0, 0.0]]), PointCloud([[3.0, 0.0]])
    fit = Registration(LDDMM(Kernel("gaussian", 1.0)), Parabola(), 0.5).fit(source, target)
    assert_close(fit.parameters_, torch.tensor([[2.0, 0.0]]), rtol=1e-3, atol=1e-5)
    last = fit.history_[-1]
    assert last.loss == pytest.approx(last.attachment + 0.5 * last.energy, rel=1e-5)
    assert last.energy == pytest.approx(2.0, rel=1e-2)


def test_paths_start_at_the_source_and_end_at_the_result():
    source, target = PointCloud([[0.0, 0.0]]), PointCloud([[3.0, 0.0]])
    fit = Registration(LDDMM(Kernel("gaussian", 1.0)), Landmarks(), 0.0).fit(source, target)
    assert fit.path_.times == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert len(fit.path_) == 6
    assert torch.equal(fit.path_.shapes[0].points, source.points)
    assert_close(fit.path_.end.points, fit.transform(source).points)
    assert_close(fit.transform(PointCloud([[0.0, 0.0], [99.0, 0.0]])).points[1], torch.tensor([99.0, 0.0]))


def test_history_never_rises(sphere):
    source = sphere(40)
    fit = Registration(LDDMM(Kernel("gaussian", 0.8), n_steps=3), Landmarks(), 1e-3, max_iter=12)
    fit.fit(source, ellipsoid(source))
    losses = [iteration.loss for iteration in fit.history_]
    assert losses == sorted(losses, reverse=True)
    assert [iteration.index for iteration in fit.history_] == list(range(len(losses)))
    assert fit.history_[-1].evaluations >= len(losses)
    assert fit.status_ == "finished"


def test_torch_optimizers(sphere):
    source = sphere(40)
    target = source.with_points(source.points + 0.3)
    adam = lambda parameters: torch.optim.Adam(parameters, lr=0.05)  # noqa: E731
    fit = Registration(Rigid(), Landmarks(), 0.0, optimizer=adam, max_iter=100).fit(source, target)
    assert_close(fit.transform(source).points, target.points, rtol=0, atol=2e-2)
    assert len(fit.history_) == 101


def test_callback_stops_the_fit_and_the_best_is_kept(sphere):
    source = sphere(40)
    seen = []

    def callback(iteration):
        seen.append(iteration)
        return iteration.index == 3

    fit = Registration(LDDMM(Kernel("gaussian", 0.8), n_steps=5), Landmarks(), 1e-3, callback=callback)
    fit.fit(source, ellipsoid(source))
    assert fit.status_ == "stopped"
    assert [iteration.index for iteration in seen] == [1, 2, 3]
    assert fit.history_[1:] == seen
    assert float(Landmarks()(fit.path_.end, ellipsoid(source))) == pytest.approx(
        seen[-1].attachment, rel=1e-2
    )


@dataclass(frozen=True)
class InterruptedAfter(Attachment):
    """Landmarks, with Ctrl-C during one evaluation."""

    evaluations: list

    def bind(self, target):
        inner = Landmarks().bind(target)

        def loss(shape):
            self.evaluations.append(1)
            if len(self.evaluations) == 6:
                raise KeyboardInterrupt
            return inner(shape)

        return loss


def test_interruption_keeps_the_best(sphere):
    source = sphere(40)
    fit = Registration(LDDMM(Kernel("gaussian", 0.8), n_steps=2), InterruptedAfter([]), 1e-3)
    fit.fit(source, ellipsoid(source))
    assert fit.status_ == "interrupted"
    assert fit.history_[-1].loss < fit.history_[0].loss
    assert torch.isfinite(fit.path_.end.points).all()


def test_fits_can_be_resumed(sphere):
    source, target = sphere(40), ellipsoid(sphere(40))
    model = LDDMM(Kernel("gaussian", 0.8), n_steps=2)
    first = Registration(model, Landmarks(), 1e-3, max_iter=3).fit(source, target)
    second = Registration(model, Landmarks(), 1e-3, max_iter=3).fit(source, target, initial=first.parameters_)
    assert second.history_[0].loss == pytest.approx(first.history_[-1].loss)
    assert second.history_[-1].loss < first.history_[-1].loss


def test_a_perfect_start_is_left_alone():
    cloud = PointCloud([[0.0, 0.0]])
    fit = Registration(LDDMM(Kernel("gaussian", 1.0)), Landmarks(), 1.0).fit(cloud, cloud)
    assert fit.parameters_.tolist() == [[0, 0]]
    assert fit.status_ == "finished"


def test_progress_is_shown(sphere, capsys):
    source = sphere(20)
    fit = Registration(Rigid(), Landmarks(), 0.0, max_iter=5, progress=True)
    fit.fit(source, ellipsoid(source))
    assert "registration" in capsys.readouterr().out


@dataclass(frozen=True)
class Cliff(Attachment):
    """|x - 1|^2 where x < 2, and NaN beyond: a line search has to come back."""

    def bind(self, target):
        def loss(shape):
            x = shape.points
            return torch.where(x < 2, (x - 1).square(), torch.full_like(x, math.nan)).sum()

        return loss


def test_values_that_are_not_finite_are_walked_around():
    cloud = PointCloud([[-40.0]])
    fit = Registration(LDDMM(Kernel("gaussian", 1.0)), Cliff(), 0.0).fit(cloud, cloud)
    assert float(fit.path_.end.points) == pytest.approx(1, abs=1e-2)


def test_invalid_input_is_named(sphere):
    mesh = sphere(20)
    with pytest.raises(RegistrationError, match=r"call fit\(source, target\) first"):
        Registration(Rigid(), Landmarks(), 0.0).transform(mesh)
    with pytest.raises(RegistrationError, match="regularization must be a number >= 0, got -1"):
        Registration(Rigid(), Landmarks(), -1.0)
    with pytest.raises(RegistrationError, match="max_iter must be at least 1"):
        Registration(Rigid(), Landmarks(), 0.0, max_iter=0)
    with pytest.raises(RegistrationError, match="Unknown optimizer 'newton'"):
        Registration(Rigid(), Landmarks(), 0.0, optimizer="newton").fit(mesh, mesh)
    with pytest.raises(RegistrationError, match="The loss is nan at the start"):
        Registration(Rigid(), Landmarks(), 0.0).fit(mesh, mesh, initial=torch.full((6,), math.nan))
    with pytest.raises(ValueError, match="differ in dtype"):
        Registration(Rigid(), Landmarks(), 0.0).fit(mesh, mesh.to(torch.float32))


def test_nearest_distances_fall_with_landmarks(sphere):
    """The same vertices, moved: a registration with correspondences is nearly exact."""
    source, target = sphere(60), ellipsoid(sphere(60))
    model = LDDMM(Kernel("gaussian", 0.8), n_steps=5)
    moved = Registration(model, Landmarks(), 1e-4, max_iter=40).fit_transform(source, target)
    assert float(nearest(moved.points, target.points).distances.max()) < 0.02
