"""Sphinx settings of the pages of geomloss-ot."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

from docs_settings import settings

globals().update(settings("geomloss-ot"))
