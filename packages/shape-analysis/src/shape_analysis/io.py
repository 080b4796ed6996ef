"""Read and write shapes: the only file that touches the disk; a format is a row that names a library's functions."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import meshio
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import polydata
from .errors import FileFormatError
from .shapes import Mesh, PointCloud, Polyline, Shape

PathLike = str | os.PathLike[str]
PointData = Mapping[str, Tensor]


@dataclass(frozen=True)
class Cells:
    """What a file holds, in arrays: points, and the elements that it states."""

    points: NDArray[np.floating]  # (N, D)
    triangles: NDArray[np.integer] | None = None  # (T, 3)
    segments: NDArray[np.integer] | None = None  # (E, 2)


@dataclass(frozen=True)
class Format:
    """How one kind of file is read and written, which shapes it stores, and whether also values at the points."""

    read: Callable[[Path], Cells]
    write: Callable[[Path, Shape, PointData], None]
    kinds: tuple[type[Shape], ...] = (Mesh,)
    point_data: bool = False


def read(path: PathLike, dim: int = 3) -> Mesh | Polyline | PointCloud:
    """Read a shape from a file.

    Triangles make a `Mesh`; segments without triangles, a `Polyline`; points alone, a `PointCloud`. The coordinates
    keep the precision of the file.

    Parameters
    ----------
    path : str or path
        The suffix tells the format: .vtk (legacy), .ply, .obj, .stl, .off, .gii, .gii.gz.
    dim : int
        2 for a planar shape whose file has a third coordinate, always 0.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If the suffix is unknown, or the content is not what the suffix announces.

    Examples
    --------
    >>> import tempfile
    >>> file = tempfile.mkdtemp() + "/triangle.ply"
    >>> write(file, Mesh([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[0, 1, 2]]))
    >>> read(file)
    Mesh(3 points in dimension 3, torch.float32, cpu)
    """
    path = Path(path)
    file_format = _format_of(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with np.errstate(
            over="ignore"
        ):  # meshio computes the size that an STL file should have, from its bytes
            cells = file_format.read(path)
        return _to_shape(cells, dim)
    except ImportError:
        raise
    # Readers of malformed files fail in as many ways as there are libraries; some even exit the interpreter.
    except (Exception, SystemExit) as error:
        reason = str(error) or type(error).__name__
        raise FileFormatError(f"{path} cannot be read as a {_suffix(path)} shape: {reason}") from error


def write(path: PathLike, shape: Shape, point_data: PointData | None = None) -> None:
    """Write a shape to a file; a planar shape gets a third coordinate, 0.

    Parameters
    ----------
    path : str or path
        The suffix tells the format, as for `read`.
    shape : Mesh, Polyline or PointCloud
    point_data : mapping of names to tensors (N,), optional
        Values at the points; .vtk and .ply only.

    Raises
    ------
    FileFormatError
        If the suffix is unknown, or the format cannot store such a shape or such values.
    """
    path = Path(path)
    file_format = _format_of(path)
    point_data = point_data or {}
    if not isinstance(shape, file_format.kinds):
        kinds = " or ".join(kind.__name__ for kind in file_format.kinds)
        raise FileFormatError(f"A {_suffix(path)} file stores a {kinds}, not a {type(shape).__name__}.")
    if shape.dim > 3:
        raise FileFormatError(f"Files store points in dimension 2 or 3; these are in dimension {shape.dim}.")
    if point_data and not file_format.point_data:
        raise FileFormatError(f"A {_suffix(path)} file cannot store point_data; write a .vtk or .ply file.")
    for name, values in point_data.items():
        if values.shape[:1] != (shape.n_points,):
            raise FileFormatError(
                f"point_data[{name!r}] has shape {tuple(values.shape)}; the shape has {shape.n_points} points."
            )
    file_format.write(path, shape, point_data)


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "".join(suffixes[-2:]) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])


def _format_of(path: Path) -> Format:
    suffix = _suffix(path)
    if suffix not in FORMATS:
        raise FileFormatError(
            f"{path.name}: unknown suffix {suffix!r}; the formats are {', '.join(FORMATS)}."
        )
    return FORMATS[suffix]


def _to_shape(cells: Cells, dim: int) -> Mesh | Polyline | PointCloud:
    array = np.asarray(cells.points)
    if np.any(array[:, dim:] != 0):
        raise FileFormatError(
            f"dim={dim} was asked for, but the points have other coordinates that are not 0"
        )
    dtype = torch.float64 if array.dtype.itemsize == 8 else torch.float32
    points = torch.tensor(np.asarray(array[:, :dim], dtype=array.dtype.newbyteorder("=")), dtype=dtype)
    if cells.triangles is not None:
        return Mesh(points, torch.tensor(np.asarray(cells.triangles, dtype=np.int64)))
    if cells.segments is not None:
        return Polyline(points, torch.tensor(np.asarray(cells.segments, dtype=np.int64)))
    return PointCloud(points)


# Formats of meshio


def _from_meshio(reader: Any) -> Callable[[Path], Cells]:
    def read_file(path: Path) -> Cells:
        mesh = reader.read(str(path))
        found = {block.type for block in mesh.cells}
        unknown = found - {"triangle", "line", "vertex"}
        if unknown:
            raise FileFormatError(
                f"it holds {', '.join(sorted(unknown))} cells; only triangles and segments are known"
            )
        return Cells(
            mesh.points, _joined(mesh, "triangle"), None if "triangle" in found else _joined(mesh, "line")
        )

    return read_file


def _joined(mesh: meshio.Mesh, kind: str) -> NDArray[np.integer] | None:
    blocks = [block.data for block in mesh.cells if block.type == kind]
    return np.concatenate(blocks) if blocks else None


def _to_meshio(writer: Any) -> Callable[[Path, Shape, PointData], None]:
    def write_file(path: Path, shape: Shape, point_data: PointData) -> None:
        points = torch.nn.functional.pad(shape.points.detach().cpu(), (0, 3 - shape.dim)).numpy()
        values = {name: data.detach().cpu().numpy() for name, data in point_data.items()}
        writer.write(str(path), meshio.Mesh(points, _meshio_cells(shape), point_data=values))

    return write_file


def _meshio_cells(shape: Shape) -> list[tuple[str, NDArray[np.integer]]]:
    # 32-bit indices, which every format knows.
    if isinstance(shape, Mesh):
        return [("triangle", shape.triangles.cpu().to(torch.int32).numpy())]
    if isinstance(shape, Polyline):
        return [("line", shape.segments.cpu().to(torch.int32).numpy())]
    return [("vertex", np.arange(shape.n_points, dtype=np.int32)[:, None])]


def _read_vtk(path: Path) -> Cells:
    content = path.read_bytes()
    if not polydata.is_polydata(content):
        return _from_meshio(meshio.vtk)(path)
    data = polydata.parse(content)
    polygons, lines = data.cells.get("POLYGONS", []), data.cells.get("LINES", [])
    if any(len(polygon) != 3 for polygon in polygons):
        raise FileFormatError("it holds polygons that are not triangles; triangulate the surface first")
    triangles = np.stack(polygons) if polygons else None
    # A line of several points is a chain of segments.
    chains = [np.stack([line[:-1], line[1:]], axis=1) for line in lines]
    return Cells(data.points, triangles, np.concatenate(chains) if chains and not polygons else None)


# GIFTI


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise ImportError("GIFTI files need nibabel: pip install 'shape-analysis[nibabel]'.") from error
    return nibabel


def _read_gifti(path: Path) -> Cells:
    nibabel = _nibabel()
    content = path.read_bytes()
    image = nibabel.GiftiImage.from_bytes(
        gzip.decompress(content) if _suffix(path).endswith(".gz") else content
    )
    points = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")
    triangles = image.get_arrays_from_intent("NIFTI_INTENT_TRIANGLE")
    if len(points) != 1 or len(triangles) > 1:
        raise FileFormatError(
            f"a surface has one array of points and one of triangles; it has {len(points)} and {len(triangles)}"
        )
    return Cells(points[0].data, triangles[0].data if triangles else None)


def _write_gifti(path: Path, shape: Shape, point_data: PointData) -> None:
    assert isinstance(shape, Mesh)
    gifti = _nibabel().gifti
    # The standard has no float64.
    points = shape.points.detach().cpu().to(torch.float32).numpy()
    triangles = shape.triangles.cpu().to(torch.int32).numpy()
    image = gifti.GiftiImage(
        darrays=[
            gifti.GiftiDataArray(points, intent="NIFTI_INTENT_POINTSET"),
            gifti.GiftiDataArray(triangles, intent="NIFTI_INTENT_TRIANGLE"),
        ]
    )
    content = image.to_bytes()
    path.write_bytes(gzip.compress(content) if _suffix(path).endswith(".gz") else content)


FORMATS: dict[str, Format] = {
    ".vtk": Format(_read_vtk, _to_meshio(meshio.vtk), (Mesh, Polyline, PointCloud), point_data=True),
    ".ply": Format(_from_meshio(meshio.ply), _to_meshio(meshio.ply), (Mesh, PointCloud), point_data=True),
    ".obj": Format(_from_meshio(meshio.obj), _to_meshio(meshio.obj)),
    ".stl": Format(_from_meshio(meshio.stl), _to_meshio(meshio.stl)),
    ".off": Format(_from_meshio(meshio.off), _to_meshio(meshio.off)),
    ".gii": Format(_read_gifti, _write_gifti),
    ".gii.gz": Format(_read_gifti, _write_gifti),
}
"""The formats, by suffix."""
