"""Transports labelled points: a cost of one's own, the squared distance plus a price for changing of label.

Run: python transport_with_labels.py [picture.png] [points]
"""

from __future__ import annotations

import sys

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib import pyplot as plt

from geomloss_ot import solve_sample

PRICES = (0.0, 0.5, 2.0)  # in units of squared distances


def moons(n: int, rng: np.random.Generator, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Two half rings, turned by an angle, with the label of each point."""
    labels = np.arange(n) % 2
    angles = np.pi * rng.uniform(size=n) + np.pi * labels + turn
    centres = np.where(labels[:, None] == 0, [-0.25, 0.1], [0.25, -0.1])
    return centres + 0.5 * np.stack([np.cos(angles), np.sin(angles)], 1) + 0.03 * rng.normal(
        size=(n, 2)
    ), labels


def with_labels(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Coordinates, then the indicator of the label: (N, 2 + 2)."""
    return np.concatenate([points, np.eye(2)[labels]], 1)


def main() -> None:
    file = sys.argv[1] if len(sys.argv) > 1 else "transport_with_labels.png"
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    rng = np.random.default_rng(0)
    (x, labels), (y, wanted) = moons(n, rng, 0.0), moons(n, rng, 2.2)
    figure, axes = plt.subplots(1, len(PRICES), figsize=(12, 3.7), layout="constrained")
    for axis, price in zip(axes, PRICES, strict=True):

        def cost(p, q, price=price):
            """A formula on symbolic matrices: the indicators of labels that differ are at a squared distance of 2."""
            others = p.extract(2, 2).sqdist(q.extract(2, 2)) / 2
            return p.extract(0, 2).sqdist(q.extract(0, 2)) + price * others

        result = solve_sample(with_labels(x, labels), with_labels(y, wanted), metric=cost, reg=4e-3, tol=1e-3)
        kept = result.plan_operator @ np.eye(2)[wanted]
        share = kept[np.arange(n), labels].sum()
        print(f"price {price}: mass that keeps its label = {share:.1%}")
        images = result.a_to_b[:, :2]
        axis.quiver(
            *x.T, *(images - x).T, labels, cmap="coolwarm", angles="xy", scale_units="xy", scale=1, width=2e-3
        )
        axis.scatter(*y.T, s=8, c=wanted, cmap="coolwarm", linewidths=0, alpha=0.5)
        axis.set(title=f"price {price}: {share:.0%} keep their label", aspect="equal", xticks=[], yticks=[])
    figure.savefig(file, dpi=100)
    print(f"picture written to {file}")


if __name__ == "__main__":
    main()
