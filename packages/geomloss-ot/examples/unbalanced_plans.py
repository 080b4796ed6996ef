"""Shows what blur and reach do to a plan on a line: entropy spreads it, a finite reach leaves far mass behind.

Run: python unbalanced_plans.py [picture.png] [pixels]
"""

from __future__ import annotations

import sys

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib import pyplot as plt

from geomloss_ot import solve_grid

BLURS, REACHES = (0.1, 0.02), (None, 0.3, 0.1)


def densities(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, and two measures of mass one: two bumps, and two others, one of them far from both."""
    x = (np.arange(size) + 0.5) / size
    a = np.exp(-((x - 0.2) ** 2) / 0.004) + 0.7 * np.exp(-((x - 0.45) ** 2) / 0.002)
    b = np.exp(-((x - 0.35) ** 2) / 0.006) + 0.5 * np.exp(-((x - 0.85) ** 2) / 0.002)
    return x, a / a.sum(), b / b.sum()


def main() -> None:
    file = sys.argv[1] if len(sys.argv) > 1 else "unbalanced_plans.png"
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    x, a, b = densities(size)
    figure, axes = plt.subplots(len(BLURS), len(REACHES), figsize=(11, 7.4), layout="constrained")
    for row, blur in zip(axes, BLURS, strict=True):
        for axis, reach in zip(row, REACHES, strict=True):
            result = solve_grid(a, b, blur=blur, reach=reach)
            plan = result.plan
            print(f"blur {blur}, reach {reach}: mass {plan.sum():.3f}, cost {float(result.value_linear):.4f}")
            axis.imshow(plan.T**0.5, origin="lower", extent=(0, 1, 0, 1), cmap="magma_r")
            for marginal, target, color in ((plan.sum(1), a, "tab:blue"), (plan.sum(0), b, "tab:red")):
                height = 0.2 / max(a.max(), b.max())
                places = [(x, 1 + height * target), (x, 1 + height * marginal)]
                if color == "tab:red":
                    places = [(v, u) for u, v in places]
                axis.fill(*places[0], color=color, alpha=0.15, linewidth=0)
                axis.plot(*places[1], color=color)
            title = f"blur {blur}, " + (f"reach {reach}: mass {plan.sum():.2f}" if reach else "balanced")
            axis.set(title=title, xlim=(0, 1.22), ylim=(0, 1.22), xticks=[], yticks=[])
    figure.savefig(file, dpi=100)
    print(f"picture written to {file}")


if __name__ == "__main__":
    main()
