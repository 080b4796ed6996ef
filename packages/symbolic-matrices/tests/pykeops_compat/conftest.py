"""Programs written for KeOps import pykeops once and for all: their tests run in processes of their own."""

from __future__ import annotations

collect_ignore_glob = ["clients/*"]
