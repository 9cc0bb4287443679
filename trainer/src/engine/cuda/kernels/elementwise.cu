// One value in, one value out.

// Source: Hendrycks and Gimpel, arXiv 1606.08415, with the error function itself.
__device__ __forceinline__ float gelu_of(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }

__device__ __forceinline__ float gelu_slope(float x) {
    float below = 0.5f * (1.0f + erff(x * 0.70710678118654752f));
    return below + x * 0.39894228040143268f * expf(-0.5f * x * x);
}

extern "C" __global__ void gelu(const bf16 *before, bf16 *out, i64 count) {
    EACH(i, (count + 7) / 8) {
        float x[8];
        load_8(before + 8 * i, x);
#pragma unroll
        for (int j = 0; j < 8; j++) x[j] = gelu_of(x[j]);
        store_8(out + 8 * i, x);
    }
}

// `out` may be `dy`.
extern "C" __global__ void gelu_gradient(const bf16 *dy, const bf16 *before, bf16 *out, i64 count) {
    EACH(i, (count + 7) / 8) {
        float x[8], d[8];
        load_8(before + 8 * i, x);
        load_8(dy + 8 * i, d);
#pragma unroll
        for (int j = 0; j < 8; j++) d[j] *= gelu_slope(x[j]);
        store_8(out + 8 * i, d);
    }
}

template <typename T> __device__ void add_values(const T *a, const T *b, T *out, i64 count) {
    EACH(i, (count + 7) / 8) {
        float x[8], y[8];
        load_8(a + 8 * i, x);
        load_8(b + 8 * i, y);
#pragma unroll
        for (int j = 0; j < 8; j++) x[j] += y[j];
        store_8(out + 8 * i, x);
    }
}

// `out` may be `a`.
extern "C" __global__ void add_bf16(const bf16 *a, const bf16 *b, bf16 *out, i64 count) { add_values(a, b, out, count); }
extern "C" __global__ void add_f32(const float *a, const float *b, float *out, i64 count) { add_values(a, b, out, count); }

extern "C" __global__ void narrow_values(const float *from, bf16 *to, i64 count) {
    EACH(i, count) to[i] = narrow(from[i]);
}

extern "C" __global__ void widen_values(const bf16 *from, float *to, i64 count) {
    EACH(i, count) to[i] = widen(from[i]);
}

template <typename T>
__device__ void drop(const T *x, T *out, i64 count, i64 group, const u32 *seed_words, u32 site, float share) {
    u64 seed = seed_of(seed_words);
    float grown = 1.0f / (1.0f - share);
    EACH(i, count) {
        bool kept = keeps(seed, site, (u64)(i / group), share);
        put(out + i, kept ? widen(x[i]) * grown : 0.0f);
    }
}

extern "C" __global__ void dropout_bf16(const bf16 *x, bf16 *out, i64 count, i64 group, const u32 *seed, u32 site,
                                        float share) {
    drop(x, out, count, group, seed, site, share);
}

extern "C" __global__ void dropout_f32(const float *x, float *out, i64 count, i64 group, const u32 *seed, u32 site,
                                       float share) {
    drop(x, out, count, group, seed, site, share);
}

extern "C" __global__ void add_bias_bf16(bf16 *x, const float *bias, i64 rows, i64 width) {
    EACH(i, rows * width) put(x + i, widen(x[i]) + bias[i % width]);
}

extern "C" __global__ void add_bias_f32(float *x, const float *bias, i64 rows, i64 width) {
    EACH(i, rows * width) x[i] += bias[i % width];
}

// `out` may be `x`.
extern "C" __global__ void divide_by(const float *x, const float *divisor, float *out, i64 count) {
    EACH(i, count) out[i] = x[i] / divisor[0];
}

// out = a b by 16 x 16 tiles: for the few shapes that cuBLASLt has no algorithm for. Element (i, l) of `a` stands at
// i * a_row + l * a_column, element (l, j) of `b` at l * b_row + j * b_column, and `out` is dense, `columns` wide.
template <typename T, typename O>
__device__ void multiply_plainly(const T *a, i64 a_row, i64 a_column, const T *b, i64 b_row, i64 b_column, O *out,
                                 i64 rows, i64 columns, i64 inner, float beta) {
    __shared__ float left[16][17], right[16][17];
    int x = threadIdx.x & 15, y = threadIdx.x >> 4;
    i64 i = (i64)blockIdx.y * 16 + y, j = (i64)blockIdx.x * 16 + x;
    float sum = 0.0f;
    for (i64 start = 0; start < inner; start += 16) {
        i64 l = start + x, m = start + y;
        left[y][x] = i < rows && l < inner ? widen(a[i * a_row + l * a_column]) : 0.0f;
        right[y][x] = m < inner && j < columns ? widen(b[m * b_row + j * b_column]) : 0.0f;
        __syncthreads();
#pragma unroll
        for (int s = 0; s < 16; s++) sum += left[y][s] * right[s][x];
        __syncthreads();
    }
    if (i < rows && j < columns) {
        O *at = out + i * columns + j;
        put(at, beta == 0.0f ? sum : sum + beta * widen(*at));
    }
}

extern "C" __global__ void multiply_bf16_bf16(const bf16 *a, i64 a_row, i64 a_column, const bf16 *b, i64 b_row,
                                              i64 b_column, bf16 *out, i64 rows, i64 columns, i64 inner, float beta) {
    multiply_plainly(a, a_row, a_column, b, b_row, b_column, out, rows, columns, inner, beta);
}

extern "C" __global__ void multiply_bf16_f32(const bf16 *a, i64 a_row, i64 a_column, const bf16 *b, i64 b_row,
                                             i64 b_column, float *out, i64 rows, i64 columns, i64 inner, float beta) {
    multiply_plainly(a, a_row, a_column, b, b_row, b_column, out, rows, columns, inner, beta);
}

extern "C" __global__ void multiply_f32_f32(const float *a, i64 a_row, i64 a_column, const float *b, i64 b_row,
                                            i64 b_column, float *out, i64 rows, i64 columns, i64 inner, float beta) {
    multiply_plainly(a, a_row, a_column, b, b_row, b_column, out, rows, columns, inner, beta);
}
