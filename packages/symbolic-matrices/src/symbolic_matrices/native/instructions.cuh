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

// The nearest number with 10 digits after the point (of 23), as the bits of a float32. From sm_80 on, as what follows.
SM_INLINE unsigned round_to_tf32(float value) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    return bits;
}

// Four matrices of 8 rows of 16 bytes in shared memory, by the lanes of a warp: lane l gives the address of row l % 8 of
// matrix l / 8, and gets word l % 4 of row l / 4 of each.
SM_INLINE void load_matrices(unsigned (&words)[4], const unsigned* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(unsigned(__cvta_generic_to_shared(row)))
                 : "memory");
}

// Adds the product of a 16 x k matrix by a k x 8 one to a 16 x 8 matrix of float32, which a warp holds in its registers.
// Of rows or columns of 8 words, lane l holds words l % 4 and 4 + l % 4: of rows l / 4 and l / 4 + 8 in a[0] and a[2], a[1]
// and a[3], of column l / 4 in b0 and b1. It holds columns 2 (l % 4) and the next of the same rows in sum[0] and sum[1],
// sum[2] and sum[3].
#define SM_MATRIX_PRODUCT(name, shape_and_types)                                                \
    SM_INLINE void name(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {    \
        asm volatile("mma.sync.aligned." shape_and_types                                        \
                     " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"         \
                     : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])                   \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));           \
    }
SM_MATRIX_PRODUCT(multiply_16x8x16_float16, "m16n8k16.row.col.f32.f16.f16.f32")
SM_MATRIX_PRODUCT(multiply_16x8x16_bfloat16, "m16n8k16.row.col.f32.bf16.bf16.f32")
SM_MATRIX_PRODUCT(multiply_16x8x8_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32")
#undef SM_MATRIX_PRODUCT

}  // namespace symbolic_matrices
#endif
