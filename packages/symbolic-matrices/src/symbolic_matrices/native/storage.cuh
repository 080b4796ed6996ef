// Owns how kernels read variables from memory: as the numbers that they compute with, or in half precision.
#ifndef SYMBOLIC_MATRICES_STORAGE_CUH
#define SYMBOLIC_MATRICES_STORAGE_CUH

#include "nearest.cuh"
#include "instructions.cuh"

namespace symbolic_matrices {

constexpr int vector_length = 16 / sizeof(REAL);  // numbers that one instruction loads

enum class Storage { real, float16, bfloat16 };

// Printed beside a formula some of whose variables are in half precision: how variable number `variable` is stored.
#ifndef SM_STORAGE_OF
#define SM_STORAGE_OF(variable) Storage::real
#endif

constexpr SM_INLINE Storage storage_of(int variable) { return SM_STORAGE_OF(variable); }

// A bfloat16 is the upper half of a float32.
SM_INLINE float from_bfloat16(unsigned short bits) { return __int_as_float(int(unsigned(bits) << 16)); }

// Entry number `at` of a variable.
SM_INLINE REAL load(const void* data, int variable, int64 at) {
    const Storage storage = storage_of(variable);
    if (storage == Storage::real) return static_cast<const REAL*>(data)[at];
    const unsigned short bits = static_cast<const unsigned short*>(data)[at];
    return storage == Storage::float16 ? from_float16(bits) : from_bfloat16(bits);
}

constexpr SM_INLINE int bytes_of(int variable) {
    return storage_of(variable) == Storage::real ? sizeof(REAL) : sizeof(unsigned short);
}

SM_INLINE const void* advance(const void* data, int variable, int64 entries) {
    return static_cast<const char*>(data) + entries * bytes_of(variable);
}

// Reads the variables at one row or column, while staging.
struct Reader {
    const void* const* variables;
    const int64* strides;
    int64 position;
    SM_INLINE REAL operator()(int variable, int component) const {
        return load(variables[variable], variable, position * strides[variable] + component);
    }
    SM_INLINE REAL parameter(int variable, int component) const { return load(variables[variable], variable, component); }
    SM_INLINE REAL index() const { return REAL(position); }
};

// The same for row or column number `first + n`, with the pointers kept in registers and few 64-bit products.
struct NearbyReader {
    const void* variables[SM_VARIABLES];
    const void* nearby[SM_VARIABLES];  // where number `first` stands
    const int64* strides;
    int64 first;
    int last;  // numbers past the last one repeat it

    SM_INLINE NearbyReader(const void* const* pointers, const int64* strides, int64 first, int last)
        : strides(strides), first(first), last(last) {
        SM_UNROLL for (int v = 0; v < SM_VARIABLES; ++v) {
            variables[v] = pointers[v];
            nearby[v] = advance(pointers[v], v, first * strides[v]);
        }
    }
    struct At {
        const NearbyReader& reader;
        int n;
        SM_INLINE REAL operator()(int variable, int component) const {
            return load(reader.nearby[variable], variable, n * reader.strides[variable] + component);
        }
        SM_INLINE REAL parameter(int variable, int component) const {
            return load(reader.variables[variable], variable, component);
        }
        SM_INLINE REAL index() const { return REAL(reader.first + n); }
        SM_INLINE const unsigned short* halves(int variable) const {
            return static_cast<const unsigned short*>(reader.nearby[variable]) + n * reader.strides[variable];
        }
        SM_INLINE const float* reals(int variable) const {
            return static_cast<const float*>(reader.nearby[variable]) + n * reader.strides[variable];
        }
    };
    SM_INLINE At at(int n) const { return At{*this, n < last ? n : last}; }

    // Whether all the vectors of a variable start at multiples of `bytes`.
    template <int bytes>
    SM_INLINE bool is_aligned(int variable) const {
        const uint64 pitch = strides[variable] * bytes_of(variable);
        return (reinterpret_cast<uint64>(nearby[variable]) | pitch) % bytes == 0;
    }
};

}  // namespace symbolic_matrices
#endif
