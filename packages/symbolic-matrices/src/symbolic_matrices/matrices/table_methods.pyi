"""Written by tools/generate_stubs.py from the tables of operations and reductions."""

from typing import Any, TypedDict

from typing_extensions import Unpack

from ..formulas.expressions import Attributes
from ..formulas.operations import Operation
from .lazy_tensor import LazyTensor

class Options(TypedDict, total=False):
    backend: str
    ranges: Any
    accumulate: str
    precision: str
    out: Any

class TableMethods:
    def _apply(self, operation: Operation, *others: Any, attributes: Attributes = ()) -> LazyTensor: ...
    def reduction(
        self,
        name: str,
        *arguments: Any,
        axis: int | None = None,
        dim: int | None = None,
        weight: Any = None,
        **options: Unpack[Options],
    ) -> Any: ...
    def inverse(self) -> LazyTensor:
        """1 / x."""
    def square(self) -> LazyTensor:
        """x^2."""
    def power(self, y: Any) -> LazyTensor:
        """x^y."""
    def abs(self) -> LazyTensor:
        """|x|."""
    def mod(self, modulus: Any, offset: Any) -> LazyTensor:
        """x - m floor((x - offset) / m), the representative of x modulo m in [offset, offset + m)."""
    def exp(self) -> LazyTensor:
        """Exponential."""
    def log(self) -> LazyTensor:
        """Natural logarithm."""
    def exp2(self) -> LazyTensor:
        """2^x."""
    def expm1(self) -> LazyTensor:
        """exp(x) - 1, exact near 0."""
    def log1p(self) -> LazyTensor:
        """log(1 + x), exact near 0."""
    def sqrt(self) -> LazyTensor:
        """Square root; its gradient at 0 is 0."""
    def rsqrt(self) -> LazyTensor:
        """1 / sqrt(x), and 0 at 0."""
    def sin(self) -> LazyTensor:
        """Sine."""
    def cos(self) -> LazyTensor:
        """Cosine."""
    def tan(self) -> LazyTensor:
        """Tangent."""
    def asin(self) -> LazyTensor:
        """Arc sine."""
    def acos(self) -> LazyTensor:
        """Arc cosine."""
    def atan(self) -> LazyTensor:
        """Arc tangent."""
    def atan2(self, y: Any) -> LazyTensor:
        """Angle of the point (y, x): the arc tangent of x / y in the right quadrant."""
    def sinh(self) -> LazyTensor:
        """Hyperbolic sine."""
    def cosh(self) -> LazyTensor:
        """Hyperbolic cosine."""
    def tanh(self) -> LazyTensor:
        """Hyperbolic tangent."""
    def sign(self) -> LazyTensor:
        """-1, 0 or 1."""
    def step(self) -> LazyTensor:
        """1 where x >= 0, else 0."""
    def floor(self) -> LazyTensor:
        """Largest integer below x."""
    def ceil(self) -> LazyTensor:
        """Smallest integer above x."""
    def minimum(self, y: Any) -> LazyTensor:
        """The smaller of x and y (x takes the gradient of a tie)."""
    def maximum(self, y: Any) -> LazyTensor:
        """The larger of x and y (x takes the gradient of a tie)."""
    def clamp(self, a: Any, b: Any) -> LazyTensor:
        """x limited to the interval [a, b]."""
    def where(self, x: Any, y: Any) -> LazyTensor:
        """x where the condition is not 0, else y."""
    def dot(self, y: Any) -> LazyTensor:
        """Inner product of x and y, also written ``x | y``."""
    def sqnorm2(self) -> LazyTensor:
        """Squared Euclidean norm."""
    def norm2(self) -> LazyTensor:
        """Euclidean norm; its gradient at 0 is 0."""
    def sqdist(self, y: Any) -> LazyTensor:
        """Squared Euclidean distance, |x - y|^2, by direct differences."""
    def cross(self, y: Any) -> LazyTensor:
        """Cross product of two vectors of dimension 3."""
    def matvecmult(self, vector: Any) -> LazyTensor:
        """Matrix-vector product, of a matrix that is stored row by row."""
    def vecmatmult(self, matrix: Any) -> LazyTensor:
        """Vector-matrix product, of a matrix that is stored row by row."""
    def tensorprod(self, y: Any) -> LazyTensor:
        """All the products x_k y_l, row by row."""
    def take(self, position: Any) -> LazyTensor:
        """The component of x at a position, rounded, that is known at run time; NaN where there is none."""
    def cbrt(self) -> LazyTensor:
        """Cube root, of negative numbers too."""
    def erf(self) -> LazyTensor:
        """Error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    def erfc(self) -> LazyTensor:
        """Complementary error function, 1 - erf(x), exact in the tail."""
    def lgamma(self) -> LazyTensor:
        """log |Gamma(x)|, and infinity at 0, -1, -2..."""
    def digamma(self) -> LazyTensor:
        """Derivative of lgamma."""
    def xlogx(self) -> LazyTensor:
        """x log x, and 0 at 0."""
    def sinxdivx(self) -> LazyTensor:
        """sin(x) / x, and 1 at 0."""
    def sinc(self) -> LazyTensor:
        """Normalised cardinal sine, sin(pi x) / (pi x), and 1 at 0."""
    def sigmoid(self) -> LazyTensor:
        """Logistic function, 1 / (1 + exp(-x))."""
    def softplus(self) -> LazyTensor:
        """log(1 + exp(x)), without overflow."""
    def relu(self) -> LazyTensor:
        """max(x, 0)."""
    def gelu(self) -> LazyTensor:
        """x times the distribution function of a standard normal variable at x."""
    def sum(self, axis: int | None = None, dim: int | None = None, **options: Unpack[Options]) -> Any:
        """Sum of the F_ij."""
    sum_reduction = sum
    def mean(self, axis: int | None = None, dim: int | None = None, **options: Unpack[Options]) -> Any:
        """Mean of the F_ij; NaN over nothing."""
    def count(self, axis: int | None = None, dim: int | None = None, **options: Unpack[Options]) -> Any:
        """Number (int64) of the F_ij that are not 0, such as conditions that hold."""
    def any(self, axis: int | None = None, dim: int | None = None, **options: Unpack[Options]) -> Any:
        """Whether an F_ij is not 0, such as a condition that holds; False over nothing."""
    def all(self, axis: int | None = None, dim: int | None = None, **options: Unpack[Options]) -> Any:
        """Whether no F_ij is 0, such as a condition that fails; True over nothing."""
    def logsumexp(
        self, axis: int | None = None, dim: int | None = None, *, weight: Any = None, **options: Unpack[Options]
    ) -> Any:
        """log sum w_ij exp(F_ij), without overflow, with an optional weight; -inf over nothing."""
    logsumexp_reduction = logsumexp
    def sumsoftmaxweight(
        self, weight: Any, axis: int | None = None, dim: int | None = None, **options: Unpack[Options]
    ) -> Any:
        """sum exp(F_ij) w_ij / sum exp(F_ij), without overflow; 0 over nothing."""
    sumsoftmaxweight_reduction = sumsoftmaxweight
    def min(self, axis: int | None = None, dim: int | None = None, **options: Unpack[Options]) -> Any:
        """Smallest F_ij, component by component."""
    min_reduction = min
    def max(self, axis: int | None = None, dim: int | None = None, **options: Unpack[Options]) -> Any:
        """Largest F_ij, component by component."""
    max_reduction = max
    def argmin(self, axis: int | None = None, dim: int | None = None, **options: Unpack[Options]) -> Any:
        """Index (int64) of the smallest F_ij, the first of equal ones."""
    argmin_reduction = argmin
    def argmax(self, axis: int | None = None, dim: int | None = None, **options: Unpack[Options]) -> Any:
        """Index (int64) of the largest F_ij, the first of equal ones."""
    argmax_reduction = argmax
    def min_argmin(self, axis: int | None = None, dim: int | None = None, **options: Unpack[Options]) -> Any:
        """Smallest F_ij, and its index."""
    min_argmin_reduction = min_argmin
    def max_argmax(self, axis: int | None = None, dim: int | None = None, **options: Unpack[Options]) -> Any:
        """Largest F_ij, and its index."""
    max_argmax_reduction = max_argmax
    def Kmin(self, K: int, axis: int | None = None, dim: int | None = None, **options: Unpack[Options]) -> Any:
        """The K smallest F_ij, in increasing order; (M, K) or (M, K, D)."""
    Kmin_reduction = Kmin
    def argKmin(self, K: int, axis: int | None = None, dim: int | None = None, **options: Unpack[Options]) -> Any:
        """Indices (int64) of the K smallest F_ij, in increasing order of F_ij."""
    argKmin_reduction = argKmin
    def Kmin_argKmin(self, K: int, axis: int | None = None, dim: int | None = None, **options: Unpack[Options]) -> Any:
        """The K smallest F_ij, and their indices."""
    Kmin_argKmin_reduction = Kmin_argKmin
