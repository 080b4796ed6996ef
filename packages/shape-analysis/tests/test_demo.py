"""The demo, from beginning to end, on coarse versions of its surfaces."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from shape_analysis import Mesh, io

pytest.importorskip("nilearn")
pytest.importorskip("matplotlib")

SCRIPT = Path(__file__).parents[1] / "examples" / "register_brain_surfaces.py"


@pytest.fixture
def demo(monkeypatch):
    spec = importlib.util.spec_from_file_location("register_brain_surfaces", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_demo_brings_the_hemispheres_together(demo, tmp_path, capsys):
    before, after = demo.main(
        ["--points", "2000", "--controls", "400", "--iterations", "6", "--output", str(tmp_path)]
    )
    assert after.divergence < 0.5 * before.divergence
    assert after.to_surface.mean() < 0.9 * before.to_surface.mean()
    moved = io.read(tmp_path / "moved_left_hemisphere.vtk")
    assert isinstance(moved, Mesh)
    assert moved.n_points == len(after.to_surface)
    assert (tmp_path / "brain_registration.png").stat().st_size > 50_000
    printed = capsys.readouterr().out
    for words in (
        "threads:",
        "before:",
        "after:",
        "kernels prepared",
        "The mean distance to the surface fell by",
    ):
        assert words in printed


def test_demo_reads_the_full_surfaces(demo):
    source, target = demo.load_surfaces(None)
    assert source.n_points == target.n_points == 10242
    # Outward normals on both: a mirror turns a surface inside out unless its triangles are flipped.
    for surface in (source, target):
        assert (surface.centroids * surface.directions).sum() / 3 > 1e5  # its volume, in mm^3
