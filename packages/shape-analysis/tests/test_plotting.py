"""Pictures: what is drawn, from where, in which colours."""

from __future__ import annotations

import pytest
import torch

from shape_analysis.plotting import Camera, draw_mesh, plot_registration

pytest.importorskip("matplotlib")


def test_camera_axes_are_orthonormal_and_upright():
    axes = torch.tensor(Camera(30.0, 20.0).axes())
    torch.testing.assert_close(axes @ axes.T, torch.eye(3, dtype=torch.float64))
    assert float(torch.linalg.det(axes)) == pytest.approx(1)
    assert axes[1, 2] > 0.9
    assert Camera(180.0).axes()[2] == pytest.approx([-1, 0, 0], abs=1e-12)


def test_only_the_visible_half_is_drawn(sphere):
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    mesh = sphere(300)
    draw_mesh(axes, mesh, camera=Camera(0.0))
    drawn = len(axes.collections[0].get_paths())
    assert drawn == pytest.approx(mesh.triangles.shape[0] / 2, rel=0.1)


def test_values_are_seen_as_colours(sphere):
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    mesh = sphere(300)
    draw_mesh(axes, mesh, mesh.points[:, 2].clamp(min=0), camera=Camera(0.0))
    (faces,) = axes.collections
    heights = torch.tensor([path.vertices[:3, 1].mean() for path in faces.get_paths()])
    brightness = torch.tensor(faces.get_facecolor()[:, :3].sum(axis=1))
    assert brightness[heights > 0.8].mean() < 0.6 * brightness[heights < 0].mean()


def test_before_and_after(sphere, tmp_path):
    source = sphere(100)
    target = source.with_points(1.5 * source.points)
    figure = plot_registration(source, target, target, title="spheres")
    figure.savefig(tmp_path / "picture.png", dpi=40)
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    captions = [axes.get_title() for axes in figure.axes]
    assert "mean distance 0.48" in captions[0]
    assert "mean distance 0.00, largest 0.00" in captions[1]
