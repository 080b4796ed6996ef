// Owns what is an instruction of GPUs and no function of CUDA's language: inline PTX. Elsewhere than on a GPU, a file of
// the same name stands in for this one.
#ifndef SYMBOLIC_MATRICES_INSTRUCTIONS_CUH
#define SYMBOLIC_MATRICES_INSTRUCTIONS_CUH

namespace symbolic_matrices {

// The float32 of the same value as a float16, given by its bits.
SM_INLINE float from_float16(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

}  // namespace symbolic_matrices
#endif
