// Stands in for the header of the same name in native/, where these functions are inline PTX. Written from the manual of
// PTX, not from the kernels that call them.

// cvt.f32.f16: sign, 5 bits of exponent, 10 of mantissa.
inline float from_float16(unsigned short bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const float size = exponent == 31  ? (mantissa ? NAN : INFINITY)
                       : exponent == 0 ? ldexpf(mantissa, -24)
                                       : ldexpf(1024 + mantissa, exponent - 25);
    return bits >> 15 ? -size : size;
}

// cvt.rna.tf32.f32: the 13 last bits of the fraction are rounded off, ties away from 0.
inline unsigned round_to_tf32(float value) {
    if (value != value || isinf(value)) return value != value ? 0x7fffffff : value > 0 ? 0x7f800000 : 0xff800000;
    int exponent;
    const float fraction = frexpf(fabsf(value), &exponent);  // of 24 bits, in [1/2, 1)
    const float rounded = copysignf(ldexpf(floorf(fraction * 2048 + 0.5f), exponent - 11), value);
    unsigned bits;
    memcpy(&bits, &rounded, 4);
    return bits;
}

// ldmatrix.sync.aligned.m8n8.x4: row r of matrix k is where lane 8 k + r says; lane l receives elements 2 (l % 4) and
// 2 (l % 4) + 1, of 16 bits, of row l / 4.
inline void load_matrices(unsigned (&words)[4], const unsigned* row) {
    const unsigned* const* const rows = emulator::exchange_with_warp(row);
    for (int matrix = 0; matrix < 4; ++matrix) {
        const unsigned* const address = rows[8 * matrix + emulator::lane() / 4];
        if (reinterpret_cast<unsigned long long>(address) % 16) emulator::stop("ldmatrix needs rows at multiples of 16 bytes");
        words[matrix] = address[emulator::lane() % 4];
    }
}

// mma.sync.aligned: D = A B + C, with A (16 x k) and B (k x 8) spread over the lanes as the tables of the manual say.
// With g = lane / 4 and t = lane % 4, the position of number i of a lane is
//   m16n8k16, 16 bits:  A row g + 8 (i / 2 % 2), column 2 t + i % 2 + 8 (i / 4);  B row 2 t + i % 2 + 8 (i / 2), column g
//   m16n8k8, TF32:      A row g + 8 (i % 2), column t + 4 (i / 2);                B row t + 4 i, column g
//   C, D:               row g + 8 (i / 2), column 2 t + i % 2
struct MatrixProduct {
    float a[16][16], b[16][8];

    // Tensor cores keep few digits beyond those of a float32, and cut off the rest, four products at a time.
    void add_to(float (&sum)[4], int depth) const {
        const int g = emulator::lane() / 4, t = emulator::lane() % 4;
        for (int i = 0; i < 4; ++i) {
            const int row = g + 8 * (i / 2), column = 2 * t + i % 2;
            for (int first = 0; first < depth; first += 4) {
                double total = sum[i];
                for (int k = first; k < first + 4; ++k) total += double(a[row][k]) * b[k][column];
                const float nearest = float(total);
                sum[i] = fabs(double(nearest)) > fabs(total) ? nextafterf(nearest, 0.0f) : nearest;
            }
        }
    }
};

// The numbers of a lane.
struct MatrixOperands {
    float a[8], b[4];
};

template <class Value>
inline void multiply_16x8x16(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, Value value) {
    MatrixOperands own;
    for (int i = 0; i < 8; ++i) own.a[i] = value(a[i / 2] >> 16 * (i % 2) & 0xffff);
    for (int i = 0; i < 4; ++i) own.b[i] = value((i < 2 ? b0 : b1) >> 16 * (i % 2) & 0xffff);
    const MatrixOperands* const warp = emulator::exchange_with_warp(own);
    MatrixProduct product;
    for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 8; ++i) product.a[g + 8 * (i / 2 % 2)][2 * t + i % 2 + 8 * (i / 4)] = warp[lane].a[i];
        for (int i = 0; i < 4; ++i) product.b[2 * t + i % 2 + 8 * (i / 2)][g] = warp[lane].b[i];
    }
    product.add_to(sum, 16);
}

inline void multiply_16x8x16_float16(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    multiply_16x8x16(sum, a, b0, b1, from_float16);
}

inline void multiply_16x8x16_bfloat16(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    multiply_16x8x16(sum, a, b0, b1, [](unsigned bits) { return __int_as_float(int(bits << 16)); });
}

inline void multiply_16x8x8_tf32(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    // The last 13 bits are ignored.
    const auto value = [](unsigned bits) { return __int_as_float(int(bits & 0xffffe000)); };
    const MatrixOperands own{{value(a[0]), value(a[1]), value(a[2]), value(a[3])}, {value(b0), value(b1)}};
    const MatrixOperands* const warp = emulator::exchange_with_warp(own);
    MatrixProduct product;
    for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; ++i) product.a[g + 8 * (i % 2)][t + 4 * (i / 2)] = warp[lane].a[i];
        for (int i = 0; i < 2; ++i) product.b[t + 4 * i][g] = warp[lane].b[i];
    }
    product.add_to(sum, 8);
}
