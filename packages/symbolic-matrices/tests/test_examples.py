"""The examples run, and find what they are after."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_neighbors_of_many_clouds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["neighbors_of_many_clouds.py", "--clouds", "50"])
    runpy.run_path(str(EXAMPLES / "neighbors_of_many_clouds.py"), run_name="__main__")
    assert "told apart: 100.0 % of the clouds" in capsys.readouterr().out
