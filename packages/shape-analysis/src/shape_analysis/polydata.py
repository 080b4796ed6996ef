"""Legacy VTK POLYDATA (text or binary, versions 1 to 5.1), which meshio lacks: from bytes to arrays, no disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FileFormatError

NUMBER_TYPES: dict[str, np.dtype[Any]] = {
    "float": np.dtype(">f4"),
    "double": np.dtype(">f8"),
    "int": np.dtype(">i4"),
    "vtktypeint32": np.dtype(">i4"),
    "vtktypeint64": np.dtype(">i8"),
}
"""Names of number types in the headers of sections -> how binary files store them."""

CELL_SECTIONS = ("VERTICES", "LINES", "POLYGONS")
OTHER_SECTIONS = ("POINT_DATA", "CELL_DATA", "FIELD", "METADATA", "TRIANGLE_STRIPS")


@dataclass(frozen=True)
class PolyData:
    """Points, and cells of each section as lists of indices in one array with the bounds of each cell."""

    points: NDArray[np.floating]  # (N, 3)
    cells: dict[str, list[NDArray[np.int64]]]


@dataclass
class _Cursor:
    """A position in the bytes of the file; reads lines, and numbers as text or in binary."""

    content: bytes
    position: int = 0
    binary: bool = field(default=False)

    def line(self) -> str:
        """The next line that is not empty, or "" at the end."""
        while self.position < len(self.content):
            end = self.content.find(b"\n", self.position)
            end = len(self.content) if end < 0 else end
            text = self.content[self.position : end].decode("ascii", errors="replace").strip()
            self.position = end + 1
            if text:
                return text
        return ""

    def numbers(self, count: int, type_name: str) -> NDArray[Any]:
        """The next `count` numbers."""
        if type_name not in NUMBER_TYPES:
            raise FileFormatError(
                f"numbers of type {type_name!r} are not supported; known: {', '.join(NUMBER_TYPES)}"
            )
        stored = NUMBER_TYPES[type_name]
        if self.binary:
            values = np.frombuffer(self.content, stored, count, self.position)
            self.position += count * stored.itemsize
            return values.astype(stored.newbyteorder("="))
        words: list[bytes] = []
        while len(words) < count:
            text = self.line()
            if not text:
                raise FileFormatError(f"the file ends after {len(words)} of {count} numbers")
            words.extend(text.encode().split())
        return np.array(words[:count]).astype(stored.newbyteorder("="))


def is_polydata(content: bytes) -> bool:
    """Whether the header announces legacy VTK POLYDATA."""
    header = content[:1024].split(b"\n", 4)
    return header[0].startswith(b"# vtk DataFile") and any(
        b"POLYDATA" in line.upper() for line in header[2:4]
    )


def parse(content: bytes) -> PolyData:
    """The points and cells of a file.

    Raises
    ------
    FileFormatError
        If the content is cut short or holds other things than numbers.
    """
    cursor = _Cursor(content)
    version = cursor.line().split()[-1]
    cursor.line()  # the title
    cursor.binary = cursor.line().upper() == "BINARY"
    cursor.line()  # DATASET POLYDATA
    points = None
    cells: dict[str, list[NDArray[np.int64]]] = {}
    while words := cursor.line().split():
        section = words[0].upper()
        if section == "POINTS":
            count = int(words[1])
            points = cursor.numbers(3 * count, words[2].lower()).reshape(count, 3)
        elif section in CELL_SECTIONS:
            read_cells = _cells_with_offsets if float(version) >= 5 else _cells_with_sizes
            cells[section] = read_cells(cursor, int(words[1]), int(words[2]))
        elif section in OTHER_SECTIONS:
            if section != "METADATA":
                break
        else:
            continue  # the lines of METADATA
    if points is None:
        raise FileFormatError("the file has no POINTS")
    return PolyData(points, cells)


def _cells_with_sizes(cursor: _Cursor, n_cells: int, n_numbers: int) -> list[NDArray[np.int64]]:
    """Before version 5: each cell is its number of points, then their indices."""
    flat = cursor.numbers(n_numbers, "int").astype(np.int64)
    cells, position = [], 0
    for _ in range(n_cells):
        size = int(flat[position])
        cells.append(flat[position + 1 : position + 1 + size])
        position += 1 + size
    return cells


def _cells_with_offsets(cursor: _Cursor, n_offsets: int, n_indices: int) -> list[NDArray[np.int64]]:
    """From version 5: where each cell starts, then all indices."""
    offsets = cursor.numbers(n_offsets, cursor.line().split()[1].lower()).astype(np.int64)
    indices = cursor.numbers(n_indices, cursor.line().split()[1].lower()).astype(np.int64)
    return [indices[start:stop] for start, stop in pairwise(offsets)]
