"""Public functions say what they take, return and refuse, and show a call."""

from __future__ import annotations

import inspect
import re

import pytest

import geomloss_ot

FUNCTIONS = [name for name in geomloss_ot.__all__ if inspect.isfunction(getattr(geomloss_ot, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_documented(name):
    function = getattr(geomloss_ot, name)
    text = inspect.getdoc(function)
    for section in ("Parameters", "Returns", "Raises", "Examples"):
        assert re.search(rf"^{section}\n-+$", text, re.MULTILINE), section
    entries = re.search(r"^Parameters\n-+\n(.*?)\n\n[A-Z]\w+\n-+$", text, re.MULTILINE | re.DOTALL).group(1)
    named = re.findall(r"\w+", " ".join(line for line in entries.splitlines() if not line.startswith(" ")))
    assert sorted(named) == sorted(inspect.signature(function).parameters)
    assert f">>> from geomloss_ot import {name}\n" in text


def test_classes_are_documented():
    for name in set(geomloss_ot.__all__) - set(FUNCTIONS):
        assert len(inspect.getdoc(getattr(geomloss_ot, name))) > 40, name
