"""Build each package and install it alone, with its declared dependencies and nothing else.

For each package of the workspace: build the sdist and the wheel, look inside for the files that users need,
install the wheel, then the sdist, in a fresh virtual environment, and import the package from there. What
others need of the workspace comes from the wheels built here, never from the source tree.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Package:
    """One folder of `packages/`: its name for pip, and what its archives must hold."""

    name: str

    @property
    def folder(self) -> Path:
        return ROOT / "packages" / self.name

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    @property
    def sources(self) -> set[str]:
        """The files below src/ that belong in the archives, relative to it."""
        source = self.folder / "src"
        kept = (
            path for path in source.rglob("*") if path.suffix in {".py", ".pyi", ".hpp", ".cuh", ".typed"}
        )
        return {path.relative_to(source).as_posix() for path in kept}


PACKAGES = tuple(Package(folder.parent.name) for folder in sorted(ROOT.glob("packages/*/pyproject.toml")))


def run(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """Run a command; stop the program with its output if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(
            f"{' '.join(str(part) for part in command)}\nfailed with status {done.returncode}:\n{done.stdout}"
        )
    return done.stdout


def build(package: Package, folder: Path) -> tuple[Path, Path]:
    """Build the sdist, then the wheel from it (so that the sdist is known to be complete)."""
    run(sys.executable, "-m", "build", "--outdir", folder, package.folder)
    stem = f"{package.module}-*"
    (wheel,), (sdist,) = folder.glob(f"{stem}.whl"), folder.glob(f"{stem}.tar.gz")
    return wheel, sdist


def check_contents(package: Package, wheel: Path, sdist: Path) -> None:
    """Every source file is in both archives, with the licence."""
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        top = sdist.name.removesuffix(".tar.gz")
        in_sdist = {name.removeprefix(f"{top}/") for name in archive.getnames()}
    missing = [f"wheel: {name}" for name in package.sources if name not in in_wheel]
    missing += [f"sdist: {name}" for name in package.sources if f"src/{name}" not in in_sdist]
    missing += ["wheel: LICENSE"] * (not any(name.endswith("licenses/LICENSE") for name in in_wheel))
    missing += [
        f"sdist: {name}" for name in ("LICENSE", "README.md", "pyproject.toml") if name not in in_sdist
    ]
    if missing:
        sys.exit(f"{package.name}: missing from its archives:\n  " + "\n  ".join(sorted(missing)))


def install_alone(package: Package, archives: Iterable[Path], constraints: Path, folder: Path) -> None:
    """Install the archives one after the other in a fresh environment, and import the package from each."""
    venv.create(folder, with_pip=True, clear=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    # The first archive brings the dependencies; the next ones replace it, and need the same.
    options: tuple[str, ...] = ("--constraint", str(constraints))
    for archive in archives:
        run(python, "-m", "pip", "install", "--quiet", *options, archive)
        run(python, "-m", "pip", "check")
        version = import_alone(package, python, folder)
        print(f"{package.name} {version}: {archive.name} installs alone and imports", flush=True)
        options = ("--force-reinstall", "--no-deps")


def import_alone(package: Package, python: Path, folder: Path) -> str:
    """Import the package from the environment in the folder, and from nowhere else; return its version."""
    program = (
        f"import importlib.metadata, {package.module} as p; version = importlib.metadata.version('{package.name}'); "
        f"assert '{folder.name}' in p.__file__, p.__file__; "
        f"assert getattr(p, '__version__', version) == version, p.__version__; print(version)"
    )
    # The "safe path" leaves the current folder out of the places to import from.
    return run(python, "-c", program, environment={"PYTHONPATH": "", "PYTHONSAFEPATH": "1"}).strip()


def write_constraints(path: Path, others: Iterable[Path]) -> Path:
    """Hold torch at the version of this environment, whatever its build, and the workspace at our wheels."""
    lines = [f"torch=={importlib.metadata.version('torch').partition('+')[0]}"]
    lines += [f"{wheel.name.partition('-')[0].replace('_', '-')} @ {wheel.as_uri()}" for wheel in others]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def parse_names() -> set[str]:
    """The names given on the command line, or all of them."""
    known = [package.name for package in PACKAGES]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(known)} (default: all)")
    names = set(parser.parse_args().names or known)
    if unknown := names.difference(known):
        parser.error(f"no package is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return names


def main() -> None:
    """Check the packages named on the command line."""
    names = parse_names()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary).resolve()
        # All are built, since those that are checked may need the others.
        archives = {package: build(package, work / "dist") for package in PACKAGES}
        for package in filter(lambda package: package.name in names, PACKAGES):
            check_contents(package, *archives[package])
            others = [wheel for other, (wheel, _) in archives.items() if other != package]
            constraints = write_constraints(work / "constraints.txt", others)
            install_alone(package, archives[package], constraints, work / "alone")


if __name__ == "__main__":
    main()
