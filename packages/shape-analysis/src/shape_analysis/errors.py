"""Exceptions that a user of shape_analysis can meet; all are also the built-in exception that they specialise."""

from __future__ import annotations


class ShapeError(ValueError):
    """A shape, or an array that describes one, is not valid."""


class FileFormatError(ValueError):
    """A file cannot be read as a shape, or a shape cannot be written in a format."""


class RegistrationError(ValueError):
    """A registration cannot start, or is used before it has been fitted."""
