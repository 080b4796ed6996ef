"""Writes the table of polynomial coefficients of the native functions, from their definitions.

Each row is a function g on an interval and the weight that turns an error of g into a relative error of the result
that is computed from it. The coefficients are those of the best polynomial in the weighted maximum norm (Remez's
exchange algorithm, in 60 digits); they are rounded to the format one after the other, from the lowest power on, and the
others are fitted again each time, so that they make up for the rounding.
"""

from __future__ import annotations

import argparse
import functools
import struct
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mpmath as mp

NATIVE = Path(__file__).parents[1] / "packages/symbolic-matrices/src/symbolic_matrices/native"
TARGET = NATIVE / "polynomials.hpp"
Function = Callable[[mp.mpf], mp.mpf]

mp.mp.dps = 60


@dataclass(frozen=True)
class Row:
    """A polynomial of ``x`` in ``interval`` that approximates ``g``; degrees for float32 and float64."""

    name: str
    doc: str
    g: Function
    weight: Function
    intervals: tuple[tuple[float, float], tuple[float, float]]  # float32, float64
    degrees: tuple[int, int]


def root_series(f: Function) -> Function:
    """(f(s) / s - 1) / s^2 as a function of z = s^2, for an odd f of slope 1 at 0."""

    def g(z: mp.mpf) -> mp.mpf:
        s = mp.sqrt(z)
        return (f(s) / s - 1) / z

    return g


def root_weight(f: Function) -> Function:
    """Relative error of f(s) = s + s z g(z) for an error 1 of g."""
    return lambda z: z * mp.sqrt(z) / f(mp.sqrt(z))


def odd_row(name: str, doc: str, f: Function, end: float, degrees: tuple[int, int]) -> Row:
    return Row(name, doc, root_series(f), root_weight(f), ((0, end), (0, end)), degrees)


ERFC_POLE = mp.mpf("0.75")  # mirrored by error_functions.hpp
ERFC_MIDDLE = mp.mpf("3.75")
ERFC_LEVEL = mp.mpf("0.65625")


def erfc_factor(t: mp.mpf) -> mp.mpf:
    """(x + pole) exp(x^2) erfc(x) - level, where t = (x - middle) / (x + middle)."""
    if t > 1 - mp.mpf(10) ** -12:
        return 1 / mp.sqrt(mp.pi) - ERFC_LEVEL
    x = ERFC_MIDDLE * (1 + t) / (1 - t)
    if x > 60:  # the factors leave the range of numbers, and the asymptotic series is exact
        series = mp.nsum(lambda k: (-1) ** int(k) * mp.fac2(2 * k - 1) / (2 * x * x) ** k, [0, 12])
        return (x + ERFC_POLE) * series / (x * mp.sqrt(mp.pi)) - ERFC_LEVEL
    return (x + ERFC_POLE) * mp.exp(x * x) * mp.erfc(x) - ERFC_LEVEL


DIGAMMA_ROOT = mp.findroot(mp.digamma, 1.46)


def digamma_factor(t: mp.mpf) -> mp.mpf:
    """digamma(x) / (x - root), where x = 1.5 + t."""
    return mp.digamma(t + 1.5) / (t + 1.5 - DIGAMMA_ROOT)


LN2 = mp.log(2)
EXP_LIMITS, EXP2_LIMITS = (-LN2 / 2, LN2 / 2), (mp.mpf(-0.5), mp.mpf(0.5))
HALF_QUADRANT = (mp.pi / 4) ** 2 * mp.mpf("1.0001")
ROWS = (
    Row("exp_polynomial", "exp x = 1 + x + x^2 P(x)", lambda x: (mp.expm1(x) - x) / x**2,
        lambda x: x**2 * mp.exp(-x), (EXP_LIMITS, EXP_LIMITS), (4, 9)),
    Row("exp2_polynomial", "2^x = 1 + x P(x)", lambda x: mp.expm1(x * LN2) / x,
        lambda x: abs(x) * 2**-x, (EXP2_LIMITS, EXP2_LIMITS), (5, 10)),
    Row("log_polynomial", "log((1 + s) / (1 - s)) = 2 s + s z P(z), z = s^2",
        lambda z: 2 * (mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, lambda z: z * mp.sqrt(z) / 2 / mp.atanh(mp.sqrt(z)),
        ((0, 0.0401), (0, 0.0401)), (2, 6)),
    odd_row("sin_polynomial", "sin s = s + s z P(z), z = s^2", mp.sin, HALF_QUADRANT, (2, 5)),
    Row("cos_polynomial", "cos s = 1 - z / 2 + z^2 P(z), z = s^2",
        lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, lambda z: z**2 / mp.cos(mp.sqrt(z)),
        ((0, HALF_QUADRANT), (0, HALF_QUADRANT)), (2, 5)),
    odd_row("tanh_polynomial", "tanh s = s + s z P(z), z = s^2", mp.tanh, 0.49, (5, 12)),
    odd_row("tan_polynomial", "tan s = s + s z P(z), z = s^2", mp.tan, HALF_QUADRANT, (6, 14)),
    odd_row("atan_polynomial", "atan s = s + s z P(z), z = s^2", mp.atan, 1, (8, 19)),
    odd_row("asin_polynomial", "asin s = s + s z P(z), z = s^2", mp.asin, 0.25, (5, 12)),
    odd_row("atanh_polynomial", "atanh s = s + s z P(z), z = s^2", mp.atanh, mp.mpf(1) / 9, (4, 9)),
    odd_row("sinh_polynomial", "sinh s = s + s z P(z), z = s^2", mp.sinh, 1, (3, 7)),
    odd_row("sin_pi_polynomial", "sin(pi s) / pi = s + s z P(z), z = s^2", lambda s: mp.sin(mp.pi * s) / mp.pi,
            0.25, (4, 8)),
    Row("erf_polynomial", "erf s = s + s P(z), z = s^2",
        lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1, lambda z: mp.sqrt(z) / mp.erf(mp.sqrt(z)),
        ((0, 1), (0, 1)), (6, 13)),
    Row("erf_exponent_polynomial", "1 - erf x = exp(-P(x))",
        lambda x: -mp.log(mp.erfc(x)), lambda x: mp.erfc(x) / mp.erf(x), ((1, 4), (1, 6)), (7, 18)),
    Row("erfc_polynomial", "(x + pole) exp(x^2) erfc(x) - level =: P(t), t = (x - middle) / (x + middle)",
        erfc_factor, lambda t: 1 / (erfc_factor(t) + ERFC_LEVEL), ((-1, 1), (-1, 1)), (12, 25)),
    Row("inverse_cbrt_polynomial", "x^(-1/3)",
        lambda x: x ** (-mp.mpf(1) / 3), lambda x: x ** (mp.mpf(1) / 3), ((0.5, 4), (0.5, 4)), (4, 6)),
    Row("log2_polynomial", "log2((1 + s) / (1 - s)) = s (c1 + z (c3 + z P(z))), z = s^2",
        lambda z: (mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 1 - z / 3) * 2 / LN2 / z**2,
        lambda z: z**2 * mp.sqrt(z) * LN2 / 2 / mp.atanh(mp.sqrt(z)), ((0, 0.02945), (0, 0.02945)), (2, 7)),
)  # fmt: skip
# Of functions that are computed in float64 for both formats.
DOUBLE_ROWS = (
    Row("digamma_polynomial", "digamma x = (x - root) P(x - 3/2)",
        digamma_factor, lambda t: 1 / digamma_factor(t), ((-0.5, 0.5), (-0.5, 0.5)), (0, 24)),
)  # fmt: skip


POINTS_PER_COEFFICIENT = 6


def weighted_samples(row: Row, bits: int) -> tuple[list[list[mp.mpf]], list[mp.mpf]]:
    """The powers of x and g(x), both times the weight, at one point per equal angle.

    Least squares there is within a small factor of the best maximum norm.
    """
    which = 0 if bits == 32 else 1
    low, high = (mp.mpf(end) for end in row.intervals[which])
    count = row.degrees[which] + 1
    points = POINTS_PER_COEFFICIENT * count
    angles = [mp.pi * (i + mp.mpf(1) / 2) / points for i in range(points)]
    x = [low + (high - low) * (1 - mp.cos(angle)) / 2 for angle in angles]
    weights = [row.weight(at) for at in x]
    columns = [[w * at**k for at, w in zip(x, weights, strict=True)] for k in range(count)]
    return columns, [w * row.g(at) for at, w in zip(x, weights, strict=True)]


def fitted(row: Row, bits: int) -> tuple[list[float], float]:
    """The rounded coefficients, and the largest relative error that they leave."""
    columns, rest = weighted_samples(row, bits)
    rounded: list[float] = []
    for k in range(len(columns)):
        leading = _least_squares(columns[k:], rest)[0]
        rounded.append(_rounded(leading, bits))
        rest = [r - rounded[k] * c for r, c in zip(rest, columns[k], strict=True)]
    return rounded, float(max(map(abs, rest)))


@dataclass(frozen=True)
class StepTable:
    """2^(k / steps) for k = 0, 1, ... in one format, and the polynomials that go on from there.

    Both are relative to ``level``, the constant term of the best polynomial of one degree more, which the table absorbs
    and which rounds to 1 itself: powers of integers stay exact.
    """

    name: str
    bits: int
    steps: int
    interval: tuple[float, float]  # of the polynomials, in steps
    degree: int

    @functools.cached_property
    def level(self) -> mp.mpf:
        power = self._row("", "", LN2, lambda x: mp.mpf(2) ** x, lambda x: mp.mpf(2) ** -x, self.degree + 1)
        return _least_squares(*weighted_samples(power, self.bits))[0]

    def powers(self) -> list[float]:
        exact = (self.level * mp.mpf(2) ** (mp.mpf(k) / self.steps) for k in range(self.steps))
        return [_rounded(value, self.bits) for value in exact]

    def rows(self) -> tuple[Row, ...]:
        return tuple(self._series(base, rate) for base, rate in (("exp2", LN2), ("exp", mp.mpf(1))))

    def _series(self, base: str, rate: mp.mpf) -> Row:
        """(exp(rate x) / level - 1) / x."""
        name, doc = (
            f"{base}_{self.name}_polynomial",
            f"{base} x = (1 + x P(x)) level, within 1/{self.steps} of exp2",
        )
        return self._row(
            name,
            doc,
            rate,
            lambda x: (mp.exp(rate * x) / self.level - 1) / x,
            lambda x: abs(x) * mp.exp(-rate * x) * self.level,
            self.degree,
        )

    def _row(self, name: str, doc: str, rate: mp.mpf, g: Function, weight: Function, degree: int) -> Row:
        low, high = (end * LN2 / (rate * self.steps) for end in self.interval)
        return Row(name, doc, g, weight, ((low, high), (low, high)), (degree, degree))


STEP_TABLES = (
    StepTable("step", 32, 32, (0, 1), 1),
    StepTable("step", 64, 16, (0, 1), 5),
    StepTable("eighth", 32, 8, (-0.5, 0.5), 2),
)


def _least_squares(columns: list[list[mp.mpf]], target: list[mp.mpf]) -> mp.matrix:
    normal = mp.matrix([[mp.fdot(a, b) for b in columns] for a in columns])
    return mp.lu_solve(normal, mp.matrix([mp.fdot(a, target) for a in columns]))


def _rounded(value: mp.mpf, bits: int) -> float:
    """The nearest float32 or float64 (float(value) rounds once; float32 is far from a tie)."""
    return struct.unpack("f", struct.pack("f", float(value)))[0] if bits == 32 else float(value)


def printed(value: float, bits: int) -> str:
    """The shortest decimal that rounds back to the number."""
    if bits == 64:
        return repr(value)
    return next(
        text for digits in range(1, 10) if _rounded(mp.mpf(text := f"{value:.{digits}g}"), 32) == value
    )


def array(name: str, values: list[float], bits: int, real: str = "REAL") -> list[str]:
    text = ", ".join(printed(value, bits) for value in values)
    text = textwrap.fill(text, 110, initial_indent="    ", subsequent_indent="    ")
    return [f"constexpr {real} {name}[] = {{", f"{text}}};"]


def table(rows: tuple[Row, ...], bits: int, real: str = "REAL") -> list[str]:
    lines = []
    for row in rows:
        coefficients, error = fitted(row, bits)
        lines.append(f"// {row.doc}: 2^{mp.nstr(mp.log(error, 2), 3)}")
        lines += array(row.name, coefficients, bits, real)
    return lines


def step_tables(bits: int) -> list[str]:
    lines = []
    for steps in STEP_TABLES:
        if steps.bits == bits:
            lines.append(f"// level 2^(k / {steps.steps}), level - 1 = {mp.nstr(steps.level - 1, 3)}")
            lines += array(f"{steps.name}_powers", steps.powers(), bits)
            lines += table(steps.rows(), bits)
    return lines


def header() -> str:
    return "\n".join(
        [
            "// Owns the coefficients of the polynomials. Written by tools/generate_polynomials.py: do not edit.",
            "//",
            "// Above each: what it approximates, and the largest relative error of that with exact arithmetic.",
            "#ifndef SYMBOLIC_MATRICES_POLYNOMIALS_HPP",
            "#define SYMBOLIC_MATRICES_POLYNOMIALS_HPP",
            "",
            "namespace symbolic_matrices {",
            "#if REAL_BITS == 32",
            *table(ROWS, 32),
            *step_tables(32),
            "#else",
            *table(ROWS, 64),
            *step_tables(64),
            "#endif",
            *table(DOUBLE_ROWS, 64, "double"),
            "}  // namespace symbolic_matrices",
            "#endif",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=TARGET, help="the header to write")
    parser.parse_args().output.write_text(header())


if __name__ == "__main__":
    main()
