"""What benchmarks measured, for people: lines of a table, JSON, a summary and plots for the docs. Knows no package."""

from __future__ import annotations

import dataclasses
import json
import platform
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from benchmarking import Case, Figure, Point, Row

COLUMNS = {
    "case": 36, "contender": 20, "time or value": 13, "Gpairs/s": 8, "of peak": 7, "error": 6, "first call": 10,
    "memory": 9, "ratio": 6, "target": 6, "": 5,
}  # fmt: skip
OURS = "ours"
Key = TypeVar("Key", bound=Hashable)
SHARED_BY = 0.5  # a peer gets a column of the summary if it takes part in so many of the cases

# ---------------------------------------------------------------------- the table that a terminal shows


def print_rows(rows: Iterable[Iterable[str]]) -> None:
    """Print lines of a Markdown table."""
    for row in rows:
        padded = (text.ljust(width) for text, width in zip(row, COLUMNS.values(), strict=True))
        print(f"| {' | '.join(padded)} |", flush=True)


def print_header() -> None:
    print_rows([COLUMNS, ["-" * width for width in COLUMNS.values()]])


def cells(row: Row) -> tuple[str, ...]:
    """One row of the table as text."""
    return (
        row.case,
        row.contender,
        f"{row.value:.4g} {row.unit}",
        optional(row.gigapairs, ".3g"),
        optional(row.peak_share, ".0%"),
        optional(row.error, ".0e"),
        optional(row.first_call, ".3g", " s"),
        optional(row.megabytes, ".0f", " MB"),
        optional(row.ratio, ".3g"),
        optional(row.target, "g"),
        row.verdict,
    )


def optional(value: float | None, style: str, unit: str = "") -> str:
    return "" if value is None else format(value, style) + unit


def short(value: float | None, unit: str = "") -> str:
    """Two significant digits, without powers of ten."""
    return "" if value is None else f"{float(f'{value:.2g}'):g}" + unit


# ---------------------------------------------------------------------- what the docs show


def write_results(name: str, rows: list[Row], fma_peak: Mapping[str, float], folder: Path) -> None:
    """Write name.json, name.md (a line per case), name.png (all cases) and name-CURVE.png for each curve."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {**describe_machine(fma_peak), "rows": [dataclasses.asdict(row) for row in rows]}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    tables = [table for table in (summarise_cases(rows), summarise_figures(rows)) if table]
    (folder / f"{name}.md").write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    compared = [row for row in rows if not is_figure(row)]
    plot_cases([row for row in compared if row.point is None], folder / f"{name}.png")
    for curve, members in group_by(compared, lambda row: row.point.curve if row.point else "").items():
        if curve:
            plot_curve(members, folder / f"{name}-{slug(curve)}.png")
    print(f"\nWritten to {folder}.")


def read_rows(path: Path) -> list[Row]:
    """The rows of a file that `write_results` wrote; none if there is no file."""
    if not path.exists():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return [Row(**{**row, "point": row["point"] and Point(**row["point"])}) for row in rows]


def merge_rows(measured: Iterable[Row], written: Iterable[Row], jobs: Sequence[Case | Figure]) -> list[Row]:
    """The rows of each job, in this order: those measured now, or else those that were written before.

    All the rows of a case come from the same run, as their ratios compare them; rows without a job are gone.
    """
    fresh, old = (group_by(rows, lambda row: (row.case, is_figure(row))) for rows in (measured, written))
    keys = dict.fromkeys((job.name, isinstance(job, Figure)) for job in jobs)
    return [row for key in keys for row in fresh.get(key, old.get(key, []))]


def is_figure(row: Row) -> bool:
    """Whether a row is a number that stands alone."""
    return row.gigapairs is None


def describe_machine(fma_peak: Mapping[str, float]) -> dict[str, Any]:
    return {
        "machine": platform.machine(),
        "processor": processor_name(),
        "system": platform.system(),
        "python": platform.python_version(),
        "fused multiply-adds per second": dict(fma_peak),
    }


def processor_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        found = re.search(r"model name\s*:\s*(.+)", information.read_text(encoding="utf-8", errors="replace"))
        if found:
            return found[1]
    return platform.processor()


def summarise_cases(rows: Sequence[Row]) -> str:
    """A Markdown table: one line per case, one column per peer of most cases, one for the best peer of each."""
    cases = group_by((row for row in rows if not is_figure(row)), lambda row: row.case)
    if not cases:
        return ""
    attendance = [row.contender for members in cases.values() for row in members if row.contender != OURS]
    peers = [peer for peer in dict.fromkeys(attendance) if attendance.count(peer) >= SHARED_BY * len(cases)]
    header = ["case", "time", "billion pairs/s", "of peak", "relative error", "first call", "memory"]
    header += [f"{peer} takes" for peer in peers] + ["best peer takes"]
    return markdown_table(header, [summary_line(members, peers) for members in cases.values()])


def summary_line(members: Sequence[Row], peers: Sequence[str]) -> list[str]:
    ours = next(row for row in members if row.contender == OURS)
    ratios = {row.contender: row.ratio for row in members if row.ratio is not None}
    best = min(ratios, key=ratios.__getitem__, default=None)
    return [
        ours.case,
        format_seconds(ours.value),
        short(ours.gigapairs),
        optional(ours.peak_share, ".0%"),
        optional(ours.error, ".0e"),
        short(ours.first_call, " s"),
        optional(ours.megabytes, ".0f", " MB"),
        *(short(ratios.get(peer), " x") for peer in peers),
        "" if best is None else short(ratios[best], f" x ({best})"),
    ]


def summarise_figures(rows: Sequence[Row]) -> str:
    """A Markdown table of the figures that stand alone, with their limits."""
    figures = [row for row in rows if is_figure(row)]
    lines = [
        [row.case, short(row.value, f" {row.unit}"), short(row.value * (row.ratio or 0), f" {row.unit}")]
        for row in figures
    ]
    return markdown_table(["figure", "measured", "limit"], lines) if lines else ""


def markdown_table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def format_seconds(seconds: float) -> str:
    return short(seconds, " s") if seconds >= 1 else short(1e3 * seconds, " ms")


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def group_by(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    """The rows by their key, in order."""
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


# ---------------------------------------------------------------------- plots


def plot_cases(rows: Sequence[Row], path: Path) -> None:
    """One line per case, one mark per contender."""
    import matplotlib.pyplot as plt  # a slow import that --table does without

    names = list(dict.fromkeys(row.case for row in rows))
    if not names:
        return
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.5 * len(names)), layout="constrained")
    for contender, members in group_by(rows, lambda row: row.contender).items():
        axes.plot(
            [row.gigapairs or 0.0 for row in members],
            [names.index(row.case) for row in members],
            "o",
            label=contender,
        )
    axes.set(xscale="log", xlabel="billion pairs per second", yticks=range(len(names)), yticklabels=names)
    axes.invert_yaxis()
    save(figure, axes, path)


def plot_curve(rows: Sequence[Row], path: Path) -> None:
    """The time against what varies, both on logarithmic axes; one line per contender."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for contender, members in group_by(rows, lambda row: row.contender).items():
        points = [(row.point.value, row.value) for row in members if row.point]
        axes.plot(*zip(*points, strict=True), "o-", label=contender)
    point = rows[0].point
    assert point is not None
    axes.set(title=point.curve, xscale="log", yscale="log", xlabel=point.variable, ylabel="seconds")
    save(figure, axes, path)


def save(figure: Any, axes: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
