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
