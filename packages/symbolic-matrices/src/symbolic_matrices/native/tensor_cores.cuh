// Owns products of matrices by tensor cores: the inner products of a block's rows with a tile of columns, and the squared
// distances that follow from them. A warp computes 32 rows; the block stages a few components of its vectors at a time.
//
// Operands are 32-bit words: two numbers in half precision, as they are in memory, or one that is rounded to TF32, 10
// digits after the point. Products are exact and added up in float32. With three terms, a float32 is the sum of two TF32
// numbers, high + low, and only the product of the low ones is left out.
//
// |x - y|^2 = |x|^2 + |y|^2 - 2 <x, y>, where the tensor cores compute the norms as products of the same operands: it is
// exactly 0 where x = y. Operands in TF32 are relative to the first row of the block, so that points far from the origin
// lose nothing.
#ifndef SYMBOLIC_MATRICES_TENSOR_CORES_CUH
#define SYMBOLIC_MATRICES_TENSOR_CORES_CUH

#include "storage.cuh"

namespace symbolic_matrices {

// What computes a product; `numbers` of them fit a word.
struct FusedMultiplyAdd {
    static constexpr bool is_tensor = false;
};
struct Float16 {
    static constexpr bool is_tensor = true;
    static constexpr int numbers = 2;
    static SM_INLINE void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
        multiply_16x8x16_float16(sum, a, b0, b1);
    }
};
struct BFloat16 {
    static constexpr bool is_tensor = true;
    static constexpr int numbers = 2;
    static SM_INLINE void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
        multiply_16x8x16_bfloat16(sum, a, b0, b1);
    }
};
struct TF32 {
    static constexpr bool is_tensor = true;
    static constexpr int numbers = 1;
    static SM_INLINE void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
        multiply_16x8x8_tf32(sum, a, b0, b1);
    }
};

// Vectors that are a variable as it stands in memory: in half precision, or in float32.
template <int variable>
struct HalfOperand {};
template <int variable>
struct RealOperand {
    template <class Read>
    static SM_INLINE REAL read(const Read& read, int component) {
        return read(variable, component);
    }
};

template <class P, int tile_rows, int tile_columns, int pitch>
class TensorProduct {
    static constexpr int planes = P::terms == 3 ? 2 : 1;  // high and low words
    static constexpr int step_words = tile_columns / (2 * planes);  // that are staged at once; see cuda_printing.py
    static constexpr int step = step_words * P::Format::numbers;
    static constexpr int turns = step_words / 8;
    static constexpr int turns_at_once = turns > 1 ? turns / 2 : 1;
    // Rows start where ldmatrix wants them, and eight neighbours are in different banks of the memory.
    static constexpr int word_pitch = step_words + 4;
    static constexpr int plane_words = (tile_rows + tile_columns) * word_pitch;
    static constexpr int column_pairs = tile_columns / 16;
    static_assert(tile_rows == 128 && SM_THREADS == 128, "four warps of 32 rows");
    static_assert(step_words >= 8 && planes * plane_words <= tile_rows * pitch, "the components do not fit under a tile");

    float sum[2][2 * column_pairs][4] = {};
    float row_norms[2][2][4] = {}, column_norms[2][4] = {};  // on the diagonals of these products

  public:
    // `staged` is the memory of a tile, `tile` may be the same.
    template <class Rows, class Columns>
    static SM_INLINE void compute(REAL* memory, REAL* tile, const Rows& rows, const Columns& columns) {
        unsigned* const staged = reinterpret_cast<unsigned*>(memory);
        const unsigned* const left = staged + 32 * warp() * word_pitch + left_place();
        const unsigned* const right = staged + tile_rows * word_pitch + right_place();
        TensorProduct product;
        _Pragma("unroll 1") for (int first = 0; first < P::dim; first += step) {
            __syncthreads();  // the threads are done with the components before
            stage<tile_rows>(staged, first, typename P::RowOperand(), rows, rows);
            stage<tile_columns>(staged + tile_rows * word_pitch, first, typename P::ColumnOperand(), columns, rows);
            __syncthreads();
            _Pragma("unroll turns_at_once") for (int word = 0; word < step_words; word += 8)
                product.add(left + word, right + word);
        }
        __syncthreads();  // the tile takes the place of the components
        if constexpr (P::is_distance) product.to_distances(tile);
        product.store(tile);
    }

  private:
    static SM_INLINE int lane() { return threadIdx.x % 32; }
    static SM_INLINE int warp() { return threadIdx.x / 32; }

    // Where a lane's part of a 16 x 8 block of words starts, of the operand on the left or on the right.
    static SM_INLINE int left_place() { return (lane() % 16) * word_pitch + lane() / 16 * 4; }
    static SM_INLINE int right_place() { return (lane() % 8 + lane() / 16 * 8) * word_pitch + lane() / 8 % 2 * 4; }

    // All the products of 8 words.
    SM_INLINE void add(const unsigned* rows, const unsigned* columns) {
        unsigned x[2][planes][4];
        SM_UNROLL for (int m = 0; m < 2; ++m) load(x[m], rows + m * 16 * word_pitch);
        SM_UNROLL for (int pair = 0; pair < column_pairs; ++pair) {
            unsigned y[planes][4];
            load(y, columns + pair * 16 * word_pitch);
            SM_UNROLL for (int m = 0; m < 2; ++m)
                SM_UNROLL for (int n = 0; n < 2; ++n) multiply(sum[m][2 * pair + n], x[m], y, 2 * n, 2 * n + 1);
        }
        if constexpr (P::is_distance) add_norms(x, columns);
    }

    // The same words serve on both sides. Each warp takes 16 of the columns.
    SM_INLINE void add_norms(const unsigned (&x)[2][planes][4], const unsigned* columns) {
        SM_UNROLL for (int m = 0; m < 2; ++m)
            SM_UNROLL for (int half = 0; half < 2; ++half) multiply(row_norms[m][half], x[m], x[m], half, half + 2);
        unsigned y[planes][4], left[planes][4];
        load(y, columns + warp() % column_pairs * 16 * word_pitch);
        SM_UNROLL for (int p = 0; p < planes; ++p) {
            left[p][0] = y[p][0], left[p][1] = y[p][2];
            left[p][2] = y[p][1], left[p][3] = y[p][3];
        }
        SM_UNROLL for (int half = 0; half < 2; ++half) multiply(column_norms[half], left, y, 2 * half, 2 * half + 1);
    }

    static SM_INLINE void load(unsigned (&words)[planes][4], const unsigned* place) {
        SM_UNROLL for (int p = 0; p < planes; ++p) load_matrices(words[p], place + p * plane_words);
    }

    // Columns in words b0 and b1 of y; smaller terms first.
    static SM_INLINE void multiply(float (&sum)[4], const unsigned (&x)[planes][4], const unsigned (&y)[planes][4], int b0,
                                   int b1) {
        if constexpr (planes == 2) {
            P::Format::multiply(sum, x[1], y[0][b0], y[0][b1]);
            P::Format::multiply(sum, x[0], y[1][b0], y[1][b1]);
        }
        P::Format::multiply(sum, x[0], y[0][b0], y[0][b1]);
    }

    // Rows or columns of vectors that are given by numbers in half precision: 16 bytes of a vector per thread.
    template <int count, int variable, class Vectors, class Rows>
    static SM_INLINE void stage(unsigned* staged, int first, HalfOperand<variable>, const Vectors& vectors, const Rows&) {
        const int component = first + 8 * (threadIdx.x % chunks);
        const auto numbers = [&](int at) { return vectors.at(at).halves(variable) + component; };
        if (P::dim % 8 == 0 && vectors.template is_aligned<16>(variable)) {
            const bool is_inside = P::dim % step == 0 || component < P::dim;
            stage_chunks<count>(staged, [&](int at) {
                return is_inside ? *reinterpret_cast<const uint4*>(numbers(at)) : make_uint4(0, 0, 0, 0);
            });
        } else {
            stage_chunks<count>(staged, [&](int at) {
                const unsigned short* const n = numbers(at);
                return make_uint4(two(n, component), two(n + 2, component + 2), two(n + 4, component + 4),
                                  two(n + 6, component + 6));
            });
        }
    }
    static constexpr int chunks = step_words / 4;
    template <int count, class Read>
    static SM_INLINE void stage_chunks(unsigned* staged, const Read& read) {
        constexpr int at_once = SM_THREADS / chunks;
        _Pragma("unroll 4") for (int n = 0; n < count; n += at_once) {
            const int at = n + threadIdx.x / chunks;
            if (count % at_once != 0 && at >= count) break;
            write(staged + at * word_pitch + 4 * (threadIdx.x % chunks), read(at));
        }
    }
    static SM_INLINE unsigned two(const unsigned short* numbers, int component) {
        const unsigned low = component < P::dim ? numbers[0] : 0, high = component + 1 < P::dim ? numbers[1] : 0;
        return low | high << 16;
    }

    // The same for numbers in float32, if vectors start where 16 bytes do.
    template <int count, int variable, class Vectors, class Rows>
    static SM_INLINE void stage(unsigned* staged, int first, RealOperand<variable> operand, const Vectors& vectors,
                                const Rows& rows) {
        if (P::dim % 4 != 0 || !vectors.template is_aligned<16>(variable)) {
            stage_components<count>(staged, first, operand, vectors, rows);
            return;
        }
        const int component = first + 4 * (threadIdx.x % chunks);
        const bool is_inside = P::dim % step == 0 || component < P::dim;
        float center[4];
        SM_UNROLL for (int k = 0; k < 4; ++k) center[k] = is_inside ? center_of(rows, component + k) : 0.0f;
        stage_chunks<count>(staged, [&](int at) {
            const float4 numbers = is_inside ? *reinterpret_cast<const float4*>(vectors.at(at).reals(variable) + component)
                                             : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            return make_float4(numbers.x - center[0], numbers.y - center[1], numbers.z - center[2], numbers.w - center[3]);
        });
    }
    template <class Rows>
    static SM_INLINE float center_of(const Rows& rows, int component) {
        return P::is_distance ? P::RowOperand::read(rows.at(0), component) : 0.0f;
    }
    static SM_INLINE void write(unsigned* place, uint4 words) { *reinterpret_cast<uint4*>(place) = words; }
    static SM_INLINE void write(unsigned* place, float4 numbers) {
        const uint4 high = make_uint4(round_to_tf32(numbers.x), round_to_tf32(numbers.y), round_to_tf32(numbers.z),
                                      round_to_tf32(numbers.w));
        write(place, high);
        if constexpr (planes == 2)
            write(place + plane_words, make_uint4(low_word(numbers.x, high.x), low_word(numbers.y, high.y),
                                                  low_word(numbers.z, high.z), low_word(numbers.w, high.w)));
    }
    static SM_INLINE unsigned low_word(float number, unsigned high) {
        return round_to_tf32(number - __int_as_float(int(high)));
    }

    template <int count, class Operand, class Vectors, class Rows>
    static SM_INLINE void stage(unsigned* staged, int first, Operand operand, const Vectors& vectors, const Rows& rows) {
        stage_components<count>(staged, first, operand, vectors, rows);
    }

    // Vectors that are computed: a component per thread, neighbours by neighbours.
    template <int count, class Operand, class Vectors, class Rows>
    static SM_INLINE void stage_components(unsigned* staged, int first, Operand, const Vectors& vectors, const Rows& rows) {
        constexpr int at_once = SM_THREADS / step_words;
        const int word = threadIdx.x % step_words, component = first + word;
        const bool is_inside = P::dim % step == 0 || component < P::dim;
        const int k = is_inside ? component : P::dim - 1;
        const float center = center_of(rows, k);
        _Pragma("unroll 4") for (int n = 0; n < count; n += at_once) {
            const int at = n + threadIdx.x / step_words;
            if (count % at_once != 0 && at >= count) break;
            const float value = is_inside ? Operand::read(vectors.at(at), k) - center : 0.0f;
            const unsigned high = round_to_tf32(value);
            unsigned* const place = staged + at * word_pitch + word;
            place[0] = high;
            if constexpr (planes == 2) place[plane_words] = low_word(value, high);
        }
    }

    // A lane with an entry of the diagonal gives the norm to all, in the columns that pad the tile.
    SM_INLINE void to_distances(REAL* tile) {
        const int g = lane() / 4, first_row = 32 * warp() + g, first_column = 16 * (warp() % column_pairs) + g;
        if (lane() % 4 == g / 2) {
            SM_UNROLL for (int half = 0; half < 2; ++half) {
                SM_UNROLL for (int m = 0; m < 2; ++m)
                    row_norm(tile, first_row + 16 * m + 8 * half) = on_diagonal(row_norms[m][half], half);
                if (warp() < column_pairs)
                    column_norm(tile, first_column + 8 * half) = on_diagonal(column_norms[half], half);
            }
        }
        __syncthreads();
        SM_UNROLL for (int m = 0; m < 2; ++m)
            SM_UNROLL for (int n = 0; n < 2 * column_pairs; ++n)
                SM_UNROLL for (int k = 0; k < 4; ++k) {
                    const float norms = row_norm(tile, row(m, k)) + column_norm(tile, column(n) + k % 2);
                    const float distance = norms - 2.0f * sum[m][n][k];
                    sum[m][n][k] = distance < 0.0f ? 0.0f : distance;  // NaN stays
                }
    }
    static SM_INLINE float on_diagonal(const float (&block)[4], int half) {
        return lane() / 4 % 2 ? block[2 * half + 1] : block[2 * half];
    }
    static SM_INLINE REAL& row_norm(REAL* tile, int row) { return tile[row * pitch + tile_columns]; }
    static SM_INLINE REAL& column_norm(REAL* tile, int column) { return tile[column * pitch + tile_columns + 1]; }

    // Of number k of a lane, in block m of 16 rows or n of 8 columns.
    static SM_INLINE int row(int m, int k) { return 32 * warp() + 16 * m + lane() / 4 + k / 2 * 8; }
    static SM_INLINE int column(int n) { return 8 * n + 2 * (lane() % 4); }

    SM_INLINE void store(REAL* tile) const {
        SM_UNROLL for (int m = 0; m < 2; ++m)
            SM_UNROLL for (int n = 0; n < 2 * column_pairs; ++n)
                SM_UNROLL for (int k = 0; k < 4; k += 2)
                    *reinterpret_cast<float2*>(tile + row(m, k) * pitch + column(n)) =
                        make_float2(sum[m][n][k], sum[m][n][k + 1]);
    }
};

}  // namespace symbolic_matrices
#endif
