"""Inner loops in the compiler's assembly: of real kernels, by what they must compute, and of a few lines by hand."""

from __future__ import annotations

import sys

import instruction_counts as reference
import numpy as np
import pytest

from symbolic_matrices import BackendError, CompilerNotFoundError, Vi, Vj, explain
from symbolic_matrices.kernels import compilation
from symbolic_matrices.machine_code import cpu as cpu_machine_code
from symbolic_matrices.machine_code.assembly import read_assembly
from symbolic_matrices.machine_code.control_flow import Function
from symbolic_matrices.machine_code.cpu import read_inner_loop
from symbolic_matrices.machine_code.dialects import ArmDialect, Dialect, X86Dialect

X = np.zeros((1, 3), "float32")
LANES = {"avx512": 16, "avx2": 8, "neon": 4}
POLYNOMIAL = {"float32": (4, 9), "float64": (6, 16)}  # arithmetic of an exponential: at least, at most


def every_compiler() -> dict[str, compilation.Compiler]:
    found = (compilation._identify(command) for command in compilation._candidates())
    return {compiler.kind: compiler for compiler in found if compiler is not None}


@pytest.fixture(params=["gcc", "clang", "zig"])
def compiler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> compilation.Compiler:
    """Every compiler that is here, for explain as if it were the only one."""
    found = every_compiler().get(request.param)
    if found is None:
        pytest.skip(f"there is no {request.param}")
    monkeypatch.setattr(cpu_machine_code, "require_compiler", lambda: found)
    return found


# What a register of pairs takes at least and at most: differences, products and multiply-adds outside of exponentials,
# where a compiler may spend a multiplication on the start of a sum, and a column's weight may meet an addition.
ARITHMETIC = {
    "Gaussian, D = 3": (3 + 3 + 1, 11),
    "Gaussian, D = 10": (10 + 10 + 1, 27),
    "Gaussian, D = 64": (64 + 64 + 1, 135),
    "Gaussian, D = 3, 64 columns": (3 + 3 + 64, 76),
    "Gaussian, D = 3, float64": (3 + 3 + 1, 11),
    "Laplacian, D = 3": (3 + 3 + 1, 11),
    "log-sum-exp, D = 3": (3 + 3 + 1, 12),
    "gradient of the Gaussian, D = 3": (3 + 3 + 3, 16),
    "nearest, D = 3": (6, 6),
    "10 nearest, D = 3": (6, 6),
}


@pytest.mark.parametrize("arch", LANES)
def test_inner_loops_are_found_by_their_arithmetic(compiler: compilation.Compiler, arch: str) -> None:
    if arch == "neon" and compiler.kind == "gcc":
        pytest.skip("g++ compiles for one family of processors")
    for case, (least, most) in ARITHMETIC.items():
        loop = reference.explanation(case, arch).loop
        dtype = "float64" if "float64" in case else "float32"
        extra = (0, 0) if "nearest" in case else POLYNOMIAL[dtype]
        arithmetic = sum(loop.per_pair(kind) for kind in ("multiply-add", "multiply", "add"))
        assert loop.lanes == LANES[arch] // (2 if dtype == "float64" else 1), case
        assert loop.pairs % loop.lanes == 0, case
        assert least + extra[0] <= arithmetic <= most + extra[1], case
        assert loop.instructions == sum(loop.counts.values()) >= loop.counts["scalar, loop"], case
        assert loop.calls == (), case
        assert (loop.per_pair("divide, root") >= 1) == ("Laplacian" in case), case


def test_functions_that_are_called_are_named() -> None:
    loop = explain(Vi(X).sum(-1) ** Vj(X).sum(-1), "sum", axis=1, arch="native").loop
    assert len(loop.calls) == 1
    assert "pow" in loop.calls[0]
    assert loop.counts["call"] >= 1
    assert "instructions are not counted" in str(loop)


def test_explanation_prints_the_loop_on_request() -> None:
    K = (-Vi(X).sqdist(Vj(X))).exp()
    assert explain(K).loop is None
    assert explain(K).instructions_per_pair == 0
    assert "inner loop" not in str(explain(K))
    explanation = explain(K, arch="native")
    assert explanation.source == explain(K).source
    assert explanation.options == explain(K).options
    text = str(explanation)
    assert f"per {explanation.loop.lanes} pairs" in text
    assert text.endswith("\n".join(("inner loop:", *explanation.loop.listing)))
    assert f"{explanation.instructions_per_pair:.2f}" in text


def test_any_processor_may_be_asked_for() -> None:
    K = Vi(X).sqdist(Vj(X))
    lanes = {explain(K, arch=arch).loop.lanes for arch in ("baseline", "native")}
    assert lanes <= {4, 8, 16}
    with pytest.raises(BackendError, match=r"arch='avx3'.*'native', 'baseline', 'avx512'"):
        explain(K, arch="avx3")


def test_other_families_of_processors_take_a_compiler_that_knows_them() -> None:
    gcc = compilation.Compiler(("g++",), "12", "gcc")
    foreign = "neon" if cpu_machine_code._machine() == "x86_64" else "avx2"
    with pytest.raises(BackendError, match=f"arch='{foreign}'.*clang"):
        cpu_machine_code._options(gcc, foreign)
    clang = compilation.Compiler(("clang++",), "18", "clang")
    assert any(option.startswith("--target=") for option in cpu_machine_code._options(clang, foreign))


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "find_compiler", lambda: None)
    with pytest.raises(CompilerNotFoundError, match="pip install"):
        explain(Vi(X).sqdist(Vj(X)), arch="native")


@pytest.mark.skipif(sys.platform != "linux", reason="the symbols of an ELF file")
def test_symbols_name_the_formula_and_the_reduction() -> None:
    """What profilers show: perf takes names from this table."""
    explanation = explain((-Vi(X).sqdist(Vj(X))).exp() * Vj(X[:, :1]), "sum", axis=1)
    assert explanation.kernel_name.startswith("sum_exp_minus_sqdist_x0_y1_times_y2_")
    library = compilation.compile_library(explanation.source).read_bytes()
    symbols = {word for word in library.split(b"\0") if b"sweep" in word and word.startswith(b"_Z")}
    assert any(b"of_exp_minus_sqdist_x0_y1_times_y2" in name and b"Sum" in name for name in symbols)
    assert f"{explanation.kernel_name}\0".encode() in library


# ---------------------------------------------------------------------------- a few lines by hand


def function(text: str, dialect: type[Dialect] = X86Dialect) -> Function:
    return read_assembly(f"sweep:\n{text}", dialect).functions["sweep"]


def trips(text: str, dialect: type[Dialect] = X86Dialect) -> list[int | None]:
    found = function(text, dialect)
    return [found.trip_count(loop) for loop in found.loops]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "xorl %eax, %eax\n.L1:\nvaddps %zmm0, %zmm1, %zmm1\naddq $4, %rax\ncmpq $256, %rax\njne .L1\nret",
            64,
        ),
        ("leaq 40(%rdi), %rdx\nmovq %rdi, %rax\n.L1:\naddq $4, %rax\ncmpq %rdx, %rax\njne .L1\nret", 10),
        ("leaq 40(%rdi), %rdx\nmovq %rdi, %rax\n.L1:\naddq $4, %rax\ncmpq %rax, %rdx\njne .L1\nret", 10),
        ("movl $7, %ecx\n.L1:\ndecq %rcx\njne .L1\nret", 7),
        ("movq $-64, %rcx\n.L1:\nvmovaps %zmm0, %zmm1\naddq $8, %rcx\njne .L1\nret", 8),
        ("movl $1, %ecx\n.L1:\ncmpq $9, %rcx\nleaq 1(%rcx), %rcx\njne .L1\nret", 9),
        (".L1:\naddq $4, %rax\ncmpq %rdx, %rax\njne .L1\nret", None),
        ("movl $8, %eax\nmovq (%rdi), %rdx\n.L1:\naddq $4, %rax\ncmpq %rdx, %rax\njne .L1\nret", None),
    ],
)
def test_how_often_loops_run(text: str, expected: int | None) -> None:
    assert trips(text) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mov x8, xzr\n.L1:\nadd x8, x8, #16\ncmp x8, #256\nb.ne .L1\nret", 16),
        ("mov w9, #12\n.L1:\nsubs x9, x9, #1\nb.ne .L1\nret", 12),
        ("add x9, x0, #64\nmov x8, x0\n.L1:\nadd x8, x8, #4\ncmp x8, x9\nb.lo .L1\nret", 16),
        (".L1:\nadd x8, x8, #4\ncmp x8, x9\nb.lo .L1\nret", None),
    ],
)
def test_how_often_loops_run_on_arm(text: str, expected: int | None) -> None:
    assert trips(text, ArmDialect) == [expected]


NEST = """
    movq %rsp, %rbp
.Lcolumns:
    vmovaps %zmm1, -64(%rbp)
    xorl %eax, %eax
.Lcomponents:                      # a loop that the compiler knows the length of
    vfmadd231ps (%rsi,%rax){1to16}, %zmm0, %zmm1
    addq $4, %rax
    cmpq $40, %rax
    jne .Lcomponents
    vcmpps $1, %zmm1, %zmm2, %k1
    kortestw %k1, %k1
    jne .Lrare
.Lnext:
    addq $128, %rsi
    cmpq %rdx, %rsi
    jne .Lcolumns
.Lleft:
    vfmadd231ps (%rsi){1to16}, %zmm0, %zmm1
    addq $4, %rsi
    cmpq %rcx, %rsi
    jne .Lleft
    ret
.Lrare:
    vaddps %zmm3, %zmm1, %zmm1
    vmovaps %zmm1, (%rdi){%k1}
    jmp .Lnext
shape:
    .quad 16
    .quad 128
    .quad 8
    .quad 8
"""


def test_loops_inside_count_as_often_as_they_run_and_rare_branches_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu_machine_code, "_SHAPE", "shape")
    loop = read_inner_loop(read_assembly(f"sweep:{NEST}", X86Dialect), X86Dialect)
    assert loop.counts == {
        "multiply-add": 10, "compare, blend": 2, "spill": 1, "scalar, loop": 1 + 3 * 10 + 1 + 3,
    }  # fmt: skip
    assert loop.pairs == 256  # it goes on by two times 8 columns of 8 bytes
    assert loop.instructions_per_pair == 48 * 16 / 256
    assert loop.stack_accesses == 1
    assert ".Lcolumns:" in loop.listing
    assert "    vfmadd231ps (%rsi,%rax){1to16}, %zmm0, %zmm1    [10 times]" in loop.listing


def test_text_without_loops_is_refused() -> None:
    with pytest.raises(BackendError, match="no loop over columns"):
        read_inner_loop(read_assembly("sweep:\nvaddps %zmm0, %zmm1, %zmm1\nret", X86Dialect), X86Dialect)


@pytest.mark.parametrize(
    ("instruction", "kind"),
    [
        ("vfmadd132ps 96(%rax){1to16}, %zmm20, %zmm8", "multiply-add"),
        ("vsubps (%rax){1to16}, %zmm21, %zmm8", "add"),
        ("mulss %xmm0, %xmm1", "multiply"),
        ("vdivpd %ymm0, %ymm1, %ymm2", "divide, root"),
        ("vscalefps %zmm23, %zmm8, %zmm8", "exponent"),
        ("vmaxps %zmm0, %zmm3, %zmm0", "compare, blend"),
        ("vmovaps %zmm2, %zmm0{%k1}", "compare, blend"),
        ("vpminsd %ymm0, %ymm1, %ymm1", "compare, blend"),
        ("kmovd %k3, %edx", "compare, blend"),
        ("vcvtps2pd %ymm0, %zmm1", "convert"),
        ("vpslld $23, %ymm1, %ymm1", "integer"),
        ("vxorps %xmm0, %xmm0, %xmm0", "integer"),
        ("vpermt2ps %zmm1, %zmm2, %zmm3", "shuffle"),
        ("vbroadcastss (%rax), %ymm1", "broadcast"),
        ("vmovups (%rax,%rcx), %ymm1", "load"),
        ("movaps %xmm1, 16(%rax)", "store"),
        ("vmovaps %zmm1, (%rdi){%k1}", "store"),
        ("vmovaps %zmm8, %zmm22", "move"),
        ("call pow", "call"),
        ("addq $4, %rax", "scalar, loop"),
        ("movq %rsi, %rax", "scalar, loop"),
        ("jne .L1", "scalar, loop"),
    ],
)
def test_kinds_of_instructions(instruction: str, kind: str) -> None:
    assert X86Dialect.kind(instruction) == kind


@pytest.mark.parametrize(
    ("instruction", "kind"),
    [
        ("fmla v0.4s, v1.4s, v2.s[0]", "multiply-add"),
        ("fsub v0.4s, v1.4s, v2.4s", "add"),
        ("fmul v0.4s, v1.4s, v2.4s", "multiply"),
        ("frintn v0.4s, v1.4s", "exponent"),
        ("fcmgt v0.4s, v1.4s, v2.4s", "compare, blend"),
        ("bsl v0.16b, v1.16b, v2.16b", "compare, blend"),
        ("ld1r { v0.4s }, [x0]", "broadcast"),
        ("ldp q0, q1, [x0]", "load"),
        ("str q0, [x0, #16]", "store"),
        ("mov v0.16b, v1.16b", "move"),
        ("shl v0.4s, v1.4s, #23", "integer"),
        ("bl pow", "call"),
        ("ldr x0, [x1]", "scalar, loop"),
        ("b.ne .LBB0_1", "scalar, loop"),
    ],
)
def test_kinds_of_instructions_on_arm(instruction: str, kind: str) -> None:
    assert ArmDialect.kind(instruction) == kind


def test_the_description_changes_no_instruction() -> None:
    """The text that is inspected has one constant more than the one that runs, and nothing else."""
    compiler = compilation.require_compiler()
    source = explain(Vi(X).sqdist(Vj(X))).source
    plain, described = (
        read_assembly(
            compilation.compile_assembly(source, compiler, (*compilation.compiler_flags(compiler), *more)),
            ArmDialect if cpu_machine_code._machine() == "aarch64" else X86Dialect,
        )
        for more in ((), (f"-DSM_LOOP_SHAPE={cpu_machine_code._SHAPE}",))
    )
    assert set(plain.functions) == set(described.functions)
    for name, found in plain.functions.items():
        assert found.instructions == described.functions[name].instructions
