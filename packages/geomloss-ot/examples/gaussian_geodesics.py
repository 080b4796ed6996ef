"""Two ways from one Gaussian to another: the Wasserstein geodesic moves mass, that of Fisher and Rao spreads it.

Run: python gaussian_geodesics.py [picture.png]
"""

from __future__ import annotations

import sys

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib import pyplot as plt

from geomloss_ot import bures_wasserstein_geodesic, fisher_rao_geodesic

START, END = (-1.0, 0.2), (1.0, 0.3)  # means and standard deviations
TIMES = np.linspace(0, 1, 7)


def wasserstein(t: float) -> tuple[float, float]:
    """Mean and deviation at time t."""
    (m_a, s_a), (m_b, s_b) = START, END
    means, covariances = (np.array([m]) for m in (m_a, m_b)), (np.array([[s**2]]) for s in (s_a, s_b))
    mean, covariance = bures_wasserstein_geodesic(*means, *covariances, t)
    return float(mean[0]), float(covariance[0, 0] ** 0.5)


def fisher_rao(t: float) -> tuple[float, float]:
    """Mean and deviation at time t."""
    (m_a, s_a), (m_b, s_b) = START, END
    mean, deviation = fisher_rao_geodesic(*(np.array([value]) for value in (m_a, m_b, s_a, s_b)), t)
    return float(mean[0]), float(deviation[0])


def main() -> None:
    file = sys.argv[1] if len(sys.argv) > 1 else "gaussian_geodesics.png"
    x = np.linspace(-2.5, 2.5, 500)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
    for axis, path, title in ((axes[0], wasserstein, "Wasserstein"), (axes[1], fisher_rao, "Fisher-Rao")):
        for t in TIMES:
            mean, deviation = path(t)
            axis.plot(x, np.exp(-((x - mean) ** 2) / (2 * deviation**2)) / deviation, color=plt.cm.viridis(t))
        axis.set(title=title, xticks=[], yticks=[])
        print(f"{title}: deviation half way = {path(0.5)[1]:.3f}")
    figure.savefig(file, dpi=120)
    print(f"picture written to {file}")


if __name__ == "__main__":
    main()
