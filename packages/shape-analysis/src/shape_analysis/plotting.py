"""Pictures of meshes and of registrations, with matplotlib alone: projected, shaded triangles sorted by depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .neighborhoods import distances_to_surface
from .shapes import Mesh

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Array = NDArray[np.floating]

# From the paper's white for "nothing to see" to dark for "far away", with a steady fall of lightness in between.
RESIDUAL_COLORS = ("#efe9dc", "#f6d08a", "#ee9448", "#cf4a41", "#8c2155", "#3a1145")
PLAIN_COLOR = "#c9d3da"
TEXT_COLOR = "#2b2b33"


@dataclass(frozen=True)
class Camera:
    """Where a mesh is seen from: angles in degrees, as in matplotlib; azimuth 0 looks from +x, 90 from +y."""

    azimuth: float
    elevation: float = 0.0

    def axes(self) -> Array:
        """Rows: the directions to the right and to the top of the picture, and towards the viewer, shape (3, 3)."""
        azimuth, elevation = np.deg2rad([self.azimuth, self.elevation])
        right = [-np.sin(azimuth), np.cos(azimuth), 0.0]
        viewer = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
        return np.array([right, np.cross(viewer, right), viewer])


def draw_mesh(
    axes: Axes,
    mesh: Mesh,
    values: Tensor | None = None,
    *,
    camera: Camera = Camera(-60.0, 20.0),
    colormap: Colormap | None = None,
    limits: tuple[float, float] | None = None,
) -> None:
    """Draw a mesh, in orthographic projection.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    mesh : Mesh
    values : Tensor, shape (N,), optional
        A number per vertex, shown as a colour. Default: one plain colour.
    camera : Camera
    colormap : matplotlib colormap, optional
        Default: from light (0) to dark.
    limits : pair of floats, optional
        The values at both ends of the colormap. Default: 0 and the largest value.
    """
    from matplotlib.collections import PolyCollection

    points = _numpy(mesh.points)
    triangles = mesh.triangles.cpu().numpy()
    view = camera.axes()
    seen = points @ view.T  # (N, 3): right, up, towards the viewer
    facing = _numpy(mesh.directions) @ view[2] > 0
    order = np.argsort(seen[triangles, 2].mean(axis=1))
    order = order[facing[order]]
    colors = _vertex_colors(mesh, values, colormap, limits) * _shades(mesh, view)[:, None]
    faces = colors[triangles[order]].mean(axis=1).clip(0, 1)
    # Edges in the colour of the face hide the hairlines that antialiasing leaves between neighbours.
    axes.add_collection(
        PolyCollection(list(seen[triangles[order], :2]), facecolors=faces, edgecolors=faces, linewidths=0.25)
    )
    axes.set_aspect("equal")
    axes.autoscale_view()
    axes.set_axis_off()


def plot_registration(source: Mesh, moved: Mesh, target: Mesh, *, title: str = "") -> Figure:
    """Before and after: the source and the moved source, coloured by their distance to the target, beside the target.

    Parameters
    ----------
    source, moved, target : Mesh
        `moved` is the source, deformed.
    title : str
        Stands above the picture.

    Returns
    -------
    matplotlib.figure.Figure
        Two views of each surface, and the histogram of the distances; save it with ``figure.savefig(path)``.

    Examples
    --------
    >>> triangle = Mesh([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[0, 1, 2]])
    >>> figure = plot_registration(triangle, triangle, triangle)
    >>> len(figure.axes)  # six views, the colour bar and the histogram
    8
    """
    from matplotlib.figure import Figure

    before, after = (distances_to_surface(mesh.points, target).cpu() for mesh in (source, moved))
    top = max(float(before.quantile(0.995)), 1e-12)
    figure = Figure(figsize=(13.5, 9.2), dpi=130, facecolor="white")
    grid = figure.add_gridspec(
        3, 4, width_ratios=(1, 1, 1, 0.028), height_ratios=(1, 1, 0.42), left=0.07, right=0.93, top=0.87, bottom=0.08,
        wspace=0.04, hspace=0.08,
    )  # fmt: skip
    columns = (
        (source, before, f"source\nmean distance {before.mean():.2f}, largest {before.max():.2f}"),
        (moved, after, f"moved source\nmean distance {after.mean():.2f}, largest {after.max():.2f}"),
        (target, None, "target\n"),
    )
    for row, camera in enumerate((Camera(180.0, 8.0), Camera(0.0, 8.0))):
        for column, (mesh, values, caption) in enumerate(columns):
            axes = figure.add_subplot(grid[row, column])
            draw_mesh(axes, mesh, values, camera=camera, limits=(0.0, top))
            if row == 0:
                axes.set_title(caption, color=TEXT_COLOR, fontsize=11.5, linespacing=1.5)
    _add_color_bar(figure, figure.add_subplot(grid[:2, 3]), top)
    _draw_histogram(figure.add_subplot(grid[2, :3]), before, after, top)
    figure.suptitle(title, x=0.07, ha="left", color=TEXT_COLOR, fontsize=15, fontweight="bold")
    return figure


def residual_colormap() -> Colormap:
    """The default colours: light for 0, dark for far."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("residual", RESIDUAL_COLORS)


def _add_color_bar(figure: Figure, axes: Axes, top: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = figure.colorbar(ScalarMappable(Normalize(0.0, top), residual_colormap()), cax=axes, extend="max")
    bar.outline.set_visible(False)
    bar.set_label("distance to the target surface", color=TEXT_COLOR, fontsize=10.5)


def _draw_histogram(axes: Axes, before: Tensor, after: Tensor, top: float) -> None:
    bins = np.linspace(0.0, top, 90)
    for values, label, color in (
        (before, "before", RESIDUAL_COLORS[2]),
        (after, "after", RESIDUAL_COLORS[4]),
    ):
        mean = float(values.mean())
        axes.hist(
            values.numpy(), bins=bins.tolist(), color=color, alpha=0.75, label=f"{label}: mean {mean:.2f}"
        )
        axes.axvline(mean, color=color, linewidth=1.5, linestyle="--")
    axes.set_xlim(0.0, top)
    axes.set_yticks([])
    axes.set_xlabel("distance of each vertex to the target", color=TEXT_COLOR)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.legend(frameon=False)


def _vertex_colors(
    mesh: Mesh, values: Tensor | None, colormap: Colormap | None, limits: tuple[float, float] | None
) -> Array:
    """Red, green and blue of each vertex, shape (N, 3)."""
    from matplotlib.colors import to_rgb

    if values is None:
        return np.tile(to_rgb(PLAIN_COLOR), (mesh.n_points, 1))
    low, high = limits or (0.0, float(values.max()))
    scaled = (_numpy(values) - low) / max(high - low, 1e-12)
    colors: Array = (colormap or residual_colormap())(scaled.clip(0, 1))
    return colors[:, :3]


def _shades(mesh: Mesh, view: Array) -> Array:
    """Brightness of each vertex: a lamp above the left shoulder of the viewer, and darker folds, shape (N,)."""
    lamp = view.T @ np.array([-0.35, 0.55, 0.76])
    facing = (_numpy(mesh.vertex_normals) @ lamp).clip(0, 1)
    hollows = _hollowness(mesh)
    spread = max(float(np.abs(hollows).mean()), 1e-12)
    depth = np.clip(hollows / (3 * spread), -1, 1)
    return (0.42 + 0.62 * facing) * (1.0 - 0.16 * depth)


def _hollowness(mesh: Mesh) -> Array:
    """How far the neighbours of each vertex stand above its tangent plane: positive in a fold, shape (N,)."""
    first, second = mesh.edges.T
    ends, others = torch.cat([first, second]), torch.cat([second, first])
    points = mesh.points.detach()
    sums = torch.zeros_like(points).index_add(0, ends, points[others] - points[ends])
    counts = torch.bincount(ends, minlength=mesh.n_points).clamp(min=1)
    return _numpy(((sums / counts[:, None]) * mesh.vertex_normals.detach()).sum(dim=1))


def _numpy(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().double().numpy()
    return array
