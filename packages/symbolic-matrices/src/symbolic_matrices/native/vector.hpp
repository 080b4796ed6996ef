// Owns the SIMD vocabulary of processors: one register of values (Vec), of integers or of a mask (Bits).
//
// Everything is written with the vector extension that GCC and Clang share; the width follows the target's registers,
// as wider vectors are split badly by the compiler. REAL and REAL_BITS are defined by the printed kernel.
#ifndef SYMBOLIC_MATRICES_VECTOR_HPP
#define SYMBOLIC_MATRICES_VECTOR_HPP

#define SM_INLINE __attribute__((always_inline)) inline
#define SM_CALL __attribute__((noinline)) static
#define SM_UNROLL _Pragma("GCC unroll 32")

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#define SM_AVX512 1
#define SM_VECTOR_BYTES 64
#elif defined(__AVX__)
#define SM_VECTOR_BYTES 32
#else
#define SM_VECTOR_BYTES 16
#endif

namespace symbolic_matrices {

typedef __INT32_TYPE__ int32;
typedef __INT64_TYPE__ int64;
typedef __UINT64_TYPE__ uint64;

#if REAL_BITS == 32
typedef int32 Integer;
#else
typedef int64 Integer;
#endif

typedef REAL Vec __attribute__((vector_size(SM_VECTOR_BYTES)));
typedef Integer Bits __attribute__((vector_size(SM_VECTOR_BYTES)));
typedef Bits Mask;  // 0 or -1, lane by lane

constexpr int lanes = SM_VECTOR_BYTES / sizeof(REAL);

// Columns whose pairs are evaluated together: independent chains that hide each other's latency, and share each load of
// a row's value. 32 registers have room for more of them than 16. A long formula, whose text is repeated for each of
// them, asks for fewer through SM_MOST_COLUMNS, so that it compiles in reasonable time.
#ifndef SM_MOST_COLUMNS
#define SM_MOST_COLUMNS 8
#endif
#if defined(SM_AVX512) || defined(__aarch64__)
constexpr int columns_in_registers = 8;
#else
constexpr int columns_in_registers = 4;
#endif
constexpr int columns_at_once = columns_in_registers < SM_MOST_COLUMNS ? columns_in_registers : SM_MOST_COLUMNS;

SM_INLINE Vec splat(REAL value) { return value - Vec{}; }  // folds to a broadcast: x - 0 is x for every x
SM_INLINE Bits splat_bits(Integer value) { return value - Bits{}; }

// A cast between vectors of one size keeps the bits.
SM_INLINE Bits bits_of(Vec x) { return (Bits)x; }
SM_INLINE Vec vec_of(Bits x) { return (Vec)x; }

SM_INLINE Vec to_vec(Bits x) { return __builtin_convertvector(x, Vec); }
SM_INLINE Bits ones(Mask mask) { return -mask; }  // 1 where the mask holds, else 0

typedef double Wide __attribute__((vector_size(lanes * sizeof(double)), aligned(SM_VECTOR_BYTES)));
SM_INLINE Wide to_wide(Vec x) { return __builtin_convertvector(x, Wide); }
SM_INLINE Vec from_wide(Wide x) { return __builtin_convertvector(x, Vec); }

SM_INLINE Bits logical_shift_right(Bits x, int count) {
    typedef __typeof__(0u + Integer{}) Unsigned __attribute__((vector_size(SM_VECTOR_BYTES)));
    return (Bits)((Unsigned)x >> count);
}

// Unaligned access
SM_INLINE Vec load(const REAL* from) {
    Vec x;
    __builtin_memcpy(&x, from, sizeof(x));
    return x;
}
SM_INLINE Bits load(const Integer* from) {
    Bits x;
    __builtin_memcpy(&x, from, sizeof(x));
    return x;
}
SM_INLINE void store(REAL* to, Vec x) { __builtin_memcpy(to, &x, sizeof(x)); }
SM_INLINE void store(Integer* to, Bits x) { __builtin_memcpy(to, &x, sizeof(x)); }

SM_INLINE REAL lane(Vec x, int l) { return x[l]; }
SM_INLINE void set_lane(Vec& x, int l, REAL value) { x[l] = value; }

// A function of one number, lane by lane.
template <REAL function(REAL)>
SM_INLINE Vec by_lane(Vec x) {
    Vec y;
    for (int l = 0; l < lanes; ++l) y[l] = function(x[l]);
    return y;
}

// 0, 1, 2, ... in lane order
SM_INLINE Bits lane_numbers() {
    Bits result{};
    SM_UNROLL for (int l = 0; l < lanes; ++l) result[l] = l;
    return result;
}

SM_INLINE Vec select(Mask mask, Vec yes, Vec no) { return mask ? yes : no; }
SM_INLINE Bits select(Mask mask, Bits yes, Bits no) { return mask ? yes : no; }
SM_INLINE REAL select(bool mask, REAL yes, REAL no) { return mask ? yes : no; }

// Integers in the order of the numbers: both zeros are one, NaN comes last, and only then the integer `last_in_order`.
constexpr Integer last_in_order = Integer(~0ull >> (65 - REAL_BITS)), first_in_order = -last_in_order - 1;
SM_INLINE Bits flipped_if_negative(Bits x) { return x ^ ((x >> (REAL_BITS - 1)) & last_in_order); }
SM_INLINE Bits ordered(Vec x) {
    return x == x ? flipped_if_negative((Bits)(x + REAL(0))) : splat_bits(last_in_order - 1);
}
SM_INLINE Vec from_ordered(Bits key) { return (Vec)flipped_if_negative(key); }

// The lanes of x one place further up, behind the last lane of `before`.
SM_INLINE Bits shifted_up(Bits before, Bits x) {
#ifdef __clang__
    Integer both[2 * lanes];
    store(both, before);
    store(both + lanes, x);
    return load(both + lanes - 1);
#else
    return __builtin_shuffle(before, x, lane_numbers() + Integer(lanes - 1));
#endif
}

// a > b ? a : b and a < b ? a : b, hence b where either is NaN: one instruction that compilers do not find by themselves.
#ifdef __AVX__
#if REAL_BITS == 32
#define SM_SUFFIX "ps"
#else
#define SM_SUFFIX "pd"
#endif
SM_INLINE Vec larger(Vec a, Vec b) {
    Vec result;
    asm("vmax" SM_SUFFIX " %2, %1, %0" : "=v"(result) : "v"(a), "v"(b));
    return result;
}
SM_INLINE Vec smaller(Vec a, Vec b) {
    Vec result;
    asm("vmin" SM_SUFFIX " %2, %1, %0" : "=v"(result) : "v"(a), "v"(b));
    return result;
}
#else
SM_INLINE Vec larger(Vec a, Vec b) { return a > b ? a : b; }
SM_INLINE Vec smaller(Vec a, Vec b) { return a < b ? a : b; }
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Flags: a mask that is only ever tested as a whole. AVX-512 has registers for it, which the extension cannot reach.

#ifdef SM_AVX512
typedef unsigned int Flags;
SM_INLINE Flags not_at_least(Vec a, Vec b) {  // !(a >= b), hence true for a NaN on either side
    Flags flags;
    asm("vcmpnge" SM_SUFFIX " %2, %1, %0" : "=k"(flags) : "v"(a), "v"(b));
    return flags;
}
SM_INLINE unsigned lane_bits(Flags flags) { return flags; }
SM_INLINE bool any(Flags flags) { return flags != 0; }
#else
typedef Bits Flags;
SM_INLINE Flags not_at_least(Vec a, Vec b) { return ~(a >= b); }
SM_INLINE unsigned lane_bits(Flags flags) {  // bit l tells of lane l
#if defined(__AVX__) && REAL_BITS == 32
    return __builtin_ia32_movmskps256((Vec)flags);
#elif defined(__AVX__)
    return __builtin_ia32_movmskpd256((Vec)flags);
#elif defined(__SSE2__) && REAL_BITS == 32
    return __builtin_ia32_movmskps((Vec)flags);
#elif defined(__SSE2__)
    return __builtin_ia32_movmskpd((Vec)flags);
#else
    unsigned bits = 0;
    SM_UNROLL for (int l = 0; l < lanes; ++l) bits |= unsigned(flags[l] & 1) << l;
    return bits;
#endif
}
SM_INLINE bool any(Flags flags) {
#ifdef __SSE2__
    return lane_bits(flags) != 0;
#else
    typedef int64 Halves __attribute__((vector_size(SM_VECTOR_BYTES)));
    const Halves halves = (Halves)flags;
    return (halves[0] | halves[1]) != 0;
#endif
}
#endif

}  // namespace symbolic_matrices
#endif
