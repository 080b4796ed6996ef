"""Attachments: how far a moving shape is from a target, as a differentiable scalar."""

from __future__ import annotations

from .base import Attachment
from .landmarks import Landmarks, NearestPoints
from .transport import Sinkhorn
from .varifolds import Currents, OrientedVarifold, Varifold

__all__ = ["Attachment", "Currents", "Landmarks", "NearestPoints", "OrientedVarifold", "Sinkhorn", "Varifold"]
