"""Files: each format gives back what was written; malformed files and impossible requests are clear errors."""

from __future__ import annotations

import gzip
import struct

import pytest
import torch
from torch.testing import assert_close

from shape_analysis import FileFormatError, Mesh, PointCloud, Polyline, io

MESH_SUFFIXES = [".vtk", ".ply", ".obj", ".stl", ".off", ".gii", ".gii.gz"]
TEXT_POLYDATA = """# vtk DataFile Version 3.0
a curve and its values
ASCII
DATASET POLYDATA
POINTS 4 float
0 0 0 1 0 0
1 1 0
0 1 0
LINES 2 7
2 0 1
3 1 2 3
POINT_DATA 4
SCALARS height float
LOOKUP_TABLE default
0 1 2 3
"""


def same_triangles(first: Mesh, second: Mesh) -> None:
    """Equal up to the order of the points, which some formats change."""
    assert_close(first.corners, second.corners, rtol=1e-6, atol=1e-6, check_dtype=False)


@pytest.mark.parametrize("suffix", MESH_SUFFIXES)
def test_meshes_come_back(suffix, sphere, dtype, tmp_path):
    mesh = sphere(30, dtype)
    io.write(tmp_path / f"mesh{suffix}", mesh)
    back = io.read(tmp_path / f"mesh{suffix}")
    assert isinstance(back, Mesh)
    same_triangles(back, mesh)


@pytest.mark.parametrize("suffix", [".vtk", ".ply"])
def test_precision_and_order_are_kept(suffix, sphere, dtype, tmp_path):
    mesh = sphere(30, dtype)
    io.write(tmp_path / f"mesh{suffix}", mesh, point_data={"height": mesh.points[:, 2]})
    back = io.read(tmp_path / f"mesh{suffix}")
    assert torch.equal(back.points, mesh.points)
    assert back.dtype == dtype
    assert torch.equal(back.triangles, mesh.triangles)


def test_point_data_are_in_the_file(sphere, tmp_path):
    import meshio

    mesh = sphere(30)
    io.write(tmp_path / "mesh.vtk", mesh, point_data={"height": mesh.points[:, 2]})
    stored = meshio.vtk.read(str(tmp_path / "mesh.vtk")).point_data["height"]
    assert_close(torch.tensor(stored.astype(float)), mesh.points[:, 2])


def test_polylines_and_points_come_back(circle, tmp_path):
    polygon = circle(8)
    io.write(tmp_path / "curve.vtk", polygon)
    back = io.read(tmp_path / "curve.vtk", dim=2)
    assert isinstance(back, Polyline)
    assert torch.equal(back.points, polygon.points)
    assert torch.equal(back.segments, polygon.segments)
    io.write(tmp_path / "points.ply", PointCloud(polygon.points))
    cloud = io.read(tmp_path / "points.ply")
    assert isinstance(cloud, PointCloud)
    assert_close(cloud.points[:, :2], polygon.points)


def test_text_polydata(tmp_path):
    (tmp_path / "curve.vtk").write_text(TEXT_POLYDATA)
    curve = io.read(tmp_path / "curve.vtk", dim=2)
    assert curve.points.tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]
    assert curve.segments.tolist() == [[0, 1], [1, 2], [2, 3]]


def test_binary_polydata_with_offsets(tmp_path):
    """Version 5.1, as VTK 9 writes it."""
    content = b"# vtk DataFile Version 5.1\ntriangle\nBINARY\nDATASET POLYDATA\nPOINTS 3 double\n"
    content += struct.pack(">9d", 0, 0, 0, 2, 0, 0, 0, 1, 0) + b"\nMETADATA\nINFORMATION 0\n\n"
    content += b"POLYGONS 2 3\nOFFSETS vtktypeint64\n" + struct.pack(">2q", 0, 3)
    content += b"\nCONNECTIVITY vtktypeint64\n" + struct.pack(">3q", 0, 1, 2) + b"\n"
    (tmp_path / "mesh.vtk").write_bytes(content)
    mesh = io.read(tmp_path / "mesh.vtk")
    assert float(mesh.areas.sum()) == 1
    assert mesh.dtype == torch.float64


@pytest.mark.parametrize("suffix", MESH_SUFFIXES)
@pytest.mark.parametrize(
    "content", [b"", b"these are not the bytes you are looking for\n" * 3], ids=["empty", "text"]
)
def test_malformed_files(suffix, content, tmp_path, capsys):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=rf"broken{suffix} cannot be read as a {suffix} shape: ."):
        io.read(path)


@pytest.mark.parametrize("suffix", [".vtk", ".ply", ".gii", ".gii.gz"])
def test_truncated_files(suffix, sphere, tmp_path, capsys):
    path = tmp_path / f"cut{suffix}"
    io.write(path, sphere(30))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FileFormatError, match="cannot be read"):
        io.read(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("POINTS 4 float", "POINTS 40 float", "could not convert|ends after"),
        ("3 1 2 3\n", "3 1 2 9\n", "segments refers to points 0 to 9"),
        ("POINTS 4 float", "POINTS 4 colour", "numbers of type 'colour' are not supported"),
        ("1 1 0\n", "nan 1 0\n", "NaN"),
        ("1 1 0\n", "1 1 nan\n", "other coordinates that are not 0"),
        ("1 1 0\n", "1 1 7\n", "other coordinates that are not 0"),
        ("LINES 2 7\n2 0 1\n3 1 2 3", "POLYGONS 1 5\n4 0 1 2 3", "polygons that are not triangles"),
    ],
)
def test_wrong_polydata(old, new, message, tmp_path):
    assert old in TEXT_POLYDATA
    (tmp_path / "curve.vtk").write_text(TEXT_POLYDATA.replace(old, new))
    with pytest.raises(FileFormatError, match=message):
        io.read(tmp_path / "curve.vtk", dim=2)


def test_gifti_without_points(tmp_path):
    import nibabel

    (tmp_path / "empty.gii.gz").write_bytes(gzip.compress(nibabel.GiftiImage().to_bytes()))
    with pytest.raises(FileFormatError, match="one array of points and one of triangles; it has 0 and 0"):
        io.read(tmp_path / "empty.gii.gz")


def test_impossible_requests(circle, sphere, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        io.read(tmp_path / "nothing.ply")
    with pytest.raises(FileFormatError, match=r"unknown suffix '.docx'; the formats are .vtk, .ply"):
        io.read(tmp_path / "brain.docx")
    with pytest.raises(FileFormatError, match="unknown suffix ''"):
        io.write(tmp_path / "brain", sphere(20))
    with pytest.raises(FileFormatError, match=r"A .gii file stores a Mesh, not a Polyline"):
        io.write(tmp_path / "curve.gii", circle())
    with pytest.raises(FileFormatError, match=r"A .ply file stores a Mesh or PointCloud, not a Polyline"):
        io.write(tmp_path / "curve.ply", circle())
    with pytest.raises(FileFormatError, match="dimension 2 or 3; these are in dimension 5"):
        io.write(tmp_path / "points.vtk", PointCloud(torch.zeros(2, 5)))
    with pytest.raises(FileFormatError, match=r"A .obj file cannot store point_data"):
        io.write(tmp_path / "mesh.obj", sphere(20), point_data={"x": torch.zeros(20)})
    with pytest.raises(FileFormatError, match=r"point_data\['x'\] has shape \(3,\); the shape has 20 points"):
        io.write(tmp_path / "mesh.vtk", sphere(20), point_data={"x": torch.zeros(3)})


def test_reference_polylines(reference_data):
    skull = io.read(reference_data / "skulls" / "template.vtk", dim=2)
    assert isinstance(skull, Polyline)
    assert skull.segments.shape == (144, 2)


def test_reference_meshes(reference_data):
    assert io.read(reference_data / "fingers" / "finger0.ply").n_points == 2046
