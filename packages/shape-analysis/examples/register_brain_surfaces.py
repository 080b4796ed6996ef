"""Register the left hemisphere of a real brain onto the mirror image of its right hemisphere, by LDDMM.

The two cortical surfaces are those of fsaverage5 (10,242 vertices each), which come with nilearn: nothing is
downloaded. The script measures how far the surfaces are from each other, finds a diffeomorphism that carries one onto
the other, first for coarse versions of them and then at full resolution, and writes a picture and the moved surface.

    python register_brain_surfaces.py --output outputs
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from shape_analysis import (
    LDDMM,
    Iteration,
    Kernel,
    Mesh,
    Registration,
    Sinkhorn,
    decimate,
    distances_to_surface,
    farthest_points,
    io,
    nearest,
)
from symbolic_matrices import Profile, show_config

REGULARIZATION = 1e-4


@dataclass(frozen=True)
class Scales:
    """Lengths in millimetres, which grow with the distance between vertices."""

    deformation: tuple[float, ...]  # of the Gaussian kernels
    coarse_blur: float
    fine_blur: float

    @classmethod
    def of(cls, surface: Mesh) -> Scales:
        """Those of a surface: 1 unit at full resolution."""
        unit = (10_242 / surface.n_points) ** 0.5
        return cls((5 * unit, 10 * unit, 20 * unit), 3 * unit, 2 * unit)


@dataclass(frozen=True)
class Residual:
    """How far a surface is from the target."""

    divergence: float  # Sinkhorn divergence, mm^2
    to_vertices: torch.Tensor  # (N,) distance of each vertex to the nearest vertex of the target, mm
    to_surface: torch.Tensor  # (N,) distance of each vertex to the nearest point of the target, mm

    def __str__(self) -> str:
        return (
            f"Sinkhorn divergence {self.divergence:7.3f} mm^2 | "
            f"nearest vertex: mean {self.to_vertices.mean():.2f}, max {self.to_vertices.max():.2f} mm | "
            f"surface: mean {self.to_surface.mean():.2f}, max {self.to_surface.max():.2f} mm"
        )


@contextmanager
def timed(title: str) -> Iterator[None]:
    """Print how long a stage took, and what the engine did in it."""
    print(f"\n{title}", flush=True)
    start = time.perf_counter()
    with Profile() as profile:
        yield
    print(f"  [{time.perf_counter() - start:.1f} s; engine: {profile}]", flush=True)


def load_surfaces(n_points: int | None) -> tuple[Mesh, Mesh]:
    """The left surface, and the right one seen in a mirror; decimated to `n_points` vertices if it is given."""
    location = find_spec("nilearn")
    if location is None or location.origin is None:
        raise SystemExit("This demo reads surfaces that come with nilearn: pip install nilearn")
    folder = Path(location.origin).parent / "datasets" / "data" / "fsaverage5"
    left, right = (io.read(folder / f"pial_{side}.gii.gz") for side in ("left", "right"))
    assert isinstance(left, Mesh)
    assert isinstance(right, Mesh)
    mirrored = right.with_points(right.points * torch.tensor([-1.0, 1.0, 1.0])).flipped()
    if n_points is None or n_points >= left.n_points:
        return left, mirrored
    return decimate(left, n_points), decimate(mirrored, n_points)


def measure(surface: Mesh, target: Mesh) -> Residual:
    """All residuals between a surface and the target."""
    with torch.no_grad():
        return Residual(
            float(Sinkhorn(Scales.of(target).fine_blur, support="vertices", tol=1e-2)(surface, target)),
            nearest(surface.points, target.points).distances,
            distances_to_surface(surface.points, target),
        )


def register(source: Mesh, target: Mesh, options: argparse.Namespace) -> Registration[Mesh]:
    """Coarse-to-fine: the momenta of the coarse surfaces are where the search at full resolution starts."""
    scales = Scales.of(source)
    n_controls = min(options.controls, source.n_points)
    controls = source.points[farthest_points(source.points, n_controls)]
    model = LDDMM(Kernel("gaussian", scales.deformation), control_points=controls, n_steps=5)
    n_coarse = source.n_points // 4
    with timed(
        f"Coarse registration: {n_coarse} vertices, {n_controls} control points, blur {scales.coarse_blur:.3g} mm"
    ):
        attachment = Sinkhorn(scales.coarse_blur, support="vertices", tol=1e-2)
        coarse = Registration(
            model, attachment, REGULARIZATION, max_iter=3 * options.iterations, callback=show
        )
        coarse.fit(decimate(source, n_coarse), decimate(target, n_coarse))
    with timed(f"Fine registration: all {source.n_points} vertices, blur {scales.fine_blur:.3g} mm"):
        attachment = Sinkhorn(scales.fine_blur, support="vertices", tol=1e-2)
        fine = Registration(model, attachment, REGULARIZATION, max_iter=options.iterations, callback=show)
        fine.fit(source, target, initial=coarse.parameters_)
    return fine


def show(iteration: Iteration) -> None:
    """Print one line in five of a fit."""
    if iteration.index % 5 == 0:
        print(
            f"  iteration {iteration.index:3d}: loss {iteration.loss:8.4f} = attachment {iteration.attachment:.4f} "
            f"+ {REGULARIZATION:g} x energy {iteration.energy:.0f}   ({iteration.seconds:.1f} s)",
            flush=True,
        )


def write_results(source: Mesh, moved: Mesh, target: Mesh, after: Residual, folder: Path) -> None:
    """The picture (PNG) and the moved surface (VTK) with its distance to the target at each vertex."""
    from shape_analysis.plotting import plot_registration

    folder.mkdir(parents=True, exist_ok=True)
    picture, surface = folder / "brain_registration.png", folder / "moved_left_hemisphere.vtk"
    title = f"Left hemisphere onto mirrored right hemisphere: LDDMM, {source.n_points:,} vertices (mm)"
    plot_registration(source, moved, target, title=title).savefig(picture)
    io.write(surface, moved, point_data={"distance_to_target": after.to_surface})
    print(f"  wrote {picture} and {surface}")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=None, help="vertices to keep (default: all 10242)")
    parser.add_argument("--controls", type=int, default=1000, help="control points of the deformation")
    parser.add_argument("--iterations", type=int, default=8, help="L-BFGS iterations at full resolution")
    parser.add_argument("--output", type=Path, default=Path("outputs"), help="folder of the results")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> tuple[Residual, Residual]:
    """Run the demo; the residuals before and after."""
    options = parse_arguments(arguments)
    # The engine does the work, in threads of its own: those of PyTorch would only compete with them.
    torch.set_num_threads(1)
    start = time.perf_counter()
    print(show_config())
    with timed("Reading the surfaces and measuring their residual"):
        source, target = load_surfaces(options.points)
        print(f"  source: {source}\n  target: {target}")
        before = measure(source, target)
        print(f"  before: {before}")
    fit = register(source, target, options)
    with timed("Measuring and drawing the result"):
        moved = fit.path_.end
        after = measure(moved, target)
        write_results(source, moved, target, after, options.output)
    print(f"\nbefore: {before}\nafter:  {after}")
    print(
        f"The mean distance to the surface fell by {1 - after.to_surface.mean() / before.to_surface.mean():.0%}, "
        f"the divergence by {1 - after.divergence / before.divergence:.0%}, "
        f"in {time.perf_counter() - start:.0f} s altogether."
    )
    return before, after


if __name__ == "__main__":
    main()
