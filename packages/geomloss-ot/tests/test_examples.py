"""The examples run at a reduced size, find what they are after and write pictures."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def _run(name, size, tmp_path, monkeypatch, capsys):
    picture = tmp_path / f"{name}.png"
    monkeypatch.setattr(sys, "argv", [name, str(picture), *size])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert picture.stat().st_size > 5000
    return capsys.readouterr().out


def test_all_examples_are_tested():
    source = Path(__file__).read_text(encoding="utf-8")
    for script in EXAMPLES.glob("*.py"):
        assert f'"{script.stem}"' in source


def test_gradient_flow(tmp_path, monkeypatch, capsys):
    text = _run("gradient_flow", ["100"], tmp_path, monkeypatch, capsys)
    values = [float(value) for value in re.findall(r"divergence = (\S+)", text)]
    assert values[-1] < 1e-3 * values[0]


def test_transfer_colors(tmp_path, monkeypatch, capsys):
    text = _run("transfer_colors", ["16"], tmp_path, monkeypatch, capsys)
    before, after = map(float, re.search(r"(\d\.\d+) -> (\d\.\d+)", text).groups())
    assert after < before / 10


def test_transfer_labels(tmp_path, monkeypatch, capsys):
    text = _run("transfer_labels", ["300"], tmp_path, monkeypatch, capsys)
    assert float(re.search(r"right: (\d+\.\d)%", text).group(1)) > 90


def test_image_barycenters(tmp_path, monkeypatch, capsys):
    text = _run("image_barycenters", ["20"], tmp_path, monkeypatch, capsys)
    lowest, highest = map(float, re.search(r"(\d\.\d+) to (\d\.\d+)", text).groups())
    assert lowest == pytest.approx(1.0, abs=1e-3)
    assert highest == pytest.approx(1.0, abs=1e-3)


def test_gaussian_geodesics(tmp_path, monkeypatch, capsys):
    text = _run("gaussian_geodesics", [], tmp_path, monkeypatch, capsys)
    assert "Wasserstein: deviation half way = 0.250" in text
    assert float(re.search(r"Fisher-Rao: deviation half way = (\S+)", text).group(1)) > 0.5


def test_compare_losses(tmp_path, monkeypatch, capsys):
    text = _run("compare_losses", ["80"], tmp_path, monkeypatch, capsys)
    left = {name: float(value) for name, value in re.findall(r"(.*): transport that is left = (\S+)", text)}
    assert len(left) == 5
    assert left["sinkhorn, blur .05"] < 1e-3 < left["energy"] < left["gaussian, blur .2"]


def test_interpolate_shapes(tmp_path, monkeypatch, capsys):
    text = _run("interpolate_shapes", ["400"], tmp_path, monkeypatch, capsys)
    assert float(re.search(r"leaves: (\S+)%", text).group(1)) < 0.1
    lower, upper = map(float, re.search(r"between (\S+) and (\S+)", text).groups())
    assert lower <= upper <= 1.02 * lower


def test_transport_with_labels(tmp_path, monkeypatch, capsys):
    text = _run("transport_with_labels", ["120"], tmp_path, monkeypatch, capsys)
    free, middle, dear = map(float, re.findall(r"label = (\S+)%", text))
    assert free < middle < dear
    assert dear == pytest.approx(100, abs=0.5)


def test_unbalanced_plans(tmp_path, monkeypatch, capsys):
    text = _run("unbalanced_plans", ["60"], tmp_path, monkeypatch, capsys)
    masses = list(map(float, re.findall(r"mass (\S+),", text)))
    for balanced, far, near in (masses[:3], masses[3:]):
        assert balanced == pytest.approx(1.0, abs=1e-3)
        assert balanced > far > near > 0.5


def test_cloud_barycenters(tmp_path, monkeypatch, capsys):
    text = _run("cloud_barycenters", ["60"], tmp_path, monkeypatch, capsys)
    radii = dict(re.findall(r"weights \[(.*)\]: mean radius (\S+)", text))
    assert float(radii["1. 0. 0."]) == pytest.approx(2 / 3, abs=0.05)  # the disc
    assert float(radii["0. 1. 0."]) == pytest.approx(0.97, abs=0.02)  # the ring
    assert len(radii) == 10
