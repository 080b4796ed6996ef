// Owns the vocabulary of vector.hpp for CUDA, where a register holds the value of one row: Vec is a number.
#ifndef SYMBOLIC_MATRICES_VECTOR_CUH
#define SYMBOLIC_MATRICES_VECTOR_CUH

#define SM_INLINE __device__ __forceinline__
#define SM_CALL static __device__ __noinline__
#define SM_UNROLL _Pragma("unroll")

#define SM_LIBM_64(name) ::name
#if REAL_BITS == 32
#define SM_LIBM(name) ::name##f
#else
#define SM_LIBM(name) ::name
#endif

namespace symbolic_matrices {

typedef long long int64;
typedef unsigned long long uint64;
typedef int64 Integer;  // positions: there may be more columns than an int counts

typedef REAL Vec;
typedef Integer Bits;
typedef bool Mask;
typedef bool Flags;

constexpr int lanes = 1;

// Columns whose pairs are evaluated together; a long formula, or one with wide vectors, asks for fewer.
#ifndef SM_MOST_COLUMNS
#define SM_MOST_COLUMNS 8
#endif
constexpr int columns_at_once = SM_MOST_COLUMNS;

SM_INLINE Vec splat(REAL value) { return value; }
SM_INLINE Bits splat_bits(Integer value) { return value; }

SM_INLINE Bits ones(Mask mask) { return mask ? 1 : 0; }

typedef double Wide;
SM_INLINE Wide to_wide(Vec x) { return x; }
SM_INLINE Vec from_wide(Wide x) { return Vec(x); }

SM_INLINE REAL lane(Vec x, int) { return x; }
SM_INLINE void set_lane(Vec& x, int, REAL value) { x = value; }

template <REAL function(REAL)>
SM_INLINE Vec by_lane(Vec x) {
    return function(x);
}

SM_INLINE Vec select(Mask mask, Vec yes, Vec no) { return mask ? yes : no; }

// Where one of the two is NaN, the other one: a single instruction.
SM_INLINE Vec larger(Vec a, Vec b) { return SM_LIBM(fmax)(a, b); }
SM_INLINE Vec smaller(Vec a, Vec b) { return SM_LIBM(fmin)(a, b); }

SM_INLINE Flags not_at_least(Vec a, Vec b) { return !(a >= b); }  // true for a NaN on either side
SM_INLINE bool any(Flags flags) { return flags; }

}  // namespace symbolic_matrices
#endif
