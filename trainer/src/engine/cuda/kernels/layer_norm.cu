// Layer normalisation. A warp has a row; where the width is a multiple of 8 and at most 2048, it keeps it in registers.
// Statistics of a row are its mean and the inverse of its deviation. Source: Ba, Kiros, Hinton, arXiv 1607.06450.

template <int VECTORS>
__device__ void normalize_rows(const bf16 *x, const float *gain, const float *bias, bf16 *out, float *statistics,
                               i64 rows, i64 width, float epsilon) {
    int lane = threadIdx.x & 31;
    i64 row = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    if (row >= rows) return;
    x += row * width;
    out += row * width;
    float value[VECTORS][8];
    float sum = 0.0f;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        int column = (v * 32 + lane) * 8;
        if (column < width) {
            load_8(x + column, value[v]);
#pragma unroll
            for (int j = 0; j < 8; j++) sum += value[v][j];
        }
    }
    float mean = warp_sum(sum) / width;
    float squares = 0.0f;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        if ((v * 32 + lane) * 8 < width) {
#pragma unroll
            for (int j = 0; j < 8; j++) squares += (value[v][j] - mean) * (value[v][j] - mean);
        }
    }
    float inverse = rsqrtf(warp_sum(squares) / width + epsilon);
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        int column = (v * 32 + lane) * 8;
        if (column < width) {
#pragma unroll
            for (int j = 0; j < 8; j++) {
                value[v][j] = (value[v][j] - mean) * inverse * gain[column + j] + bias[column + j];
            }
            store_8(out + column, value[v]);
        }
    }
    if (lane == 0) {
        statistics[2 * row] = mean;
        statistics[2 * row + 1] = inverse;
    }
}

#define NORM const bf16 *x, const float *gain, const float *bias, bf16 *out, float *statistics, i64 rows, i64 width, float epsilon
#define NORM_VALUES x, gain, bias, out, statistics, rows, width, epsilon

extern "C" __global__ void layer_norm_1(NORM) { normalize_rows<1>(NORM_VALUES); }
extern "C" __global__ void layer_norm_2(NORM) { normalize_rows<2>(NORM_VALUES); }
extern "C" __global__ void layer_norm_3(NORM) { normalize_rows<3>(NORM_VALUES); }
extern "C" __global__ void layer_norm_4(NORM) { normalize_rows<4>(NORM_VALUES); }
extern "C" __global__ void layer_norm_8(NORM) { normalize_rows<8>(NORM_VALUES); }

extern "C" __global__ void layer_norm_any(NORM) {
    int lane = threadIdx.x & 31;
    i64 row = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    if (row >= rows) return;
    x += row * width;
    out += row * width;
    float sum = 0.0f, squares = 0.0f;
    for (i64 c = lane; c < width; c += 32) sum += widen(x[c]);
    float mean = warp_sum(sum) / width;
    for (i64 c = lane; c < width; c += 32) squares += (widen(x[c]) - mean) * (widen(x[c]) - mean);
    float inverse = rsqrtf(warp_sum(squares) / width + epsilon);
    for (i64 c = lane; c < width; c += 32) out[c] = narrow((widen(x[c]) - mean) * inverse * gain[c] + bias[c]);
    if (lane == 0) {
        statistics[2 * row] = mean;
        statistics[2 * row + 1] = inverse;
    }
}

// The gradient of the input, and for each block the sums over its rows of `dy * normalised` and of `dy`: `partial` is
// [blocks, 2, width]. A block has every gridDim.x-th group of rows, so the sums depend on the grid and not on timing.
template <int VECTORS>
__device__ void normalize_rows_gradient(const bf16 *dy, const bf16 *x, const float *statistics, const float *gain, bf16 *dx,
                                        float *partial, i64 rows, i64 width) {
    SHARED_BYTES(shared_bytes);
    float *sums = (float *)shared_bytes;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    float gain_sum[VECTORS][8], bias_sum[VECTORS][8];
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
#pragma unroll
        for (int j = 0; j < 8; j++) gain_sum[v][j] = bias_sum[v][j] = 0.0f;
    }
    for (i64 row = (i64)blockIdx.x * warps + warp; row < rows; row += (i64)gridDim.x * warps) {
        float mean = statistics[2 * row], inverse = statistics[2 * row + 1];
        float normal[VECTORS][8], slope[VECTORS][8];
        float sum = 0.0f, product = 0.0f;
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            int column = (v * 32 + lane) * 8;
            if (column < width) {
                load_8(x + row * width + column, normal[v]);
                load_8(dy + row * width + column, slope[v]);
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    normal[v][j] = (normal[v][j] - mean) * inverse;
                    gain_sum[v][j] += slope[v][j] * normal[v][j];
                    bias_sum[v][j] += slope[v][j];
                    slope[v][j] *= gain[column + j];
                    sum += slope[v][j];
                    product += slope[v][j] * normal[v][j];
                }
            }
        }
        sum = warp_sum(sum) / width;
        product = warp_sum(product) / width;
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            int column = (v * 32 + lane) * 8;
            if (column < width) {
#pragma unroll
                for (int j = 0; j < 8; j++) slope[v][j] = inverse * (slope[v][j] - sum - normal[v][j] * product);
                store_8(dx + row * width + column, slope[v]);
            }
        }
    }
    for (int turn = 0; turn < warps; turn++) {
        if (warp == turn) {
#pragma unroll
            for (int v = 0; v < VECTORS; v++) {
                int column = (v * 32 + lane) * 8;
                if (column < width) {
#pragma unroll
                    for (int j = 0; j < 8; j++) {
                        sums[column + j] = gain_sum[v][j] + (turn == 0 ? 0.0f : sums[column + j]);
                        sums[width + column + j] = bias_sum[v][j] + (turn == 0 ? 0.0f : sums[width + column + j]);
                    }
                }
            }
        }
        __syncthreads();
    }
    for (i64 c = threadIdx.x; c < 2 * width; c += blockDim.x) partial[(i64)blockIdx.x * 2 * width + c] = sums[c];
}

#define NORM_GRADIENT const bf16 *dy, const bf16 *x, const float *statistics, const float *gain, bf16 *dx, float *partial, i64 rows, i64 width
#define NORM_GRADIENT_VALUES dy, x, statistics, gain, dx, partial, rows, width

extern "C" __global__ void layer_norm_gradient_1(NORM_GRADIENT) { normalize_rows_gradient<1>(NORM_GRADIENT_VALUES); }
extern "C" __global__ void layer_norm_gradient_2(NORM_GRADIENT) { normalize_rows_gradient<2>(NORM_GRADIENT_VALUES); }
extern "C" __global__ void layer_norm_gradient_3(NORM_GRADIENT) { normalize_rows_gradient<3>(NORM_GRADIENT_VALUES); }
extern "C" __global__ void layer_norm_gradient_4(NORM_GRADIENT) { normalize_rows_gradient<4>(NORM_GRADIENT_VALUES); }

// The same for every width, in two launches: the input's gradient, then a block's share of the sums.
extern "C" __global__ void layer_norm_gradient_any(NORM_GRADIENT) {
    int lane = threadIdx.x & 31;
    i64 row = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    if (row >= rows) return;
    float mean = statistics[2 * row], inverse = statistics[2 * row + 1];
    float sum = 0.0f, product = 0.0f;
    for (i64 c = lane; c < width; c += 32) {
        float slope = widen(dy[row * width + c]) * gain[c];
        sum += slope;
        product += slope * (widen(x[row * width + c]) - mean) * inverse;
    }
    sum = warp_sum(sum) / width;
    product = warp_sum(product) / width;
    for (i64 c = lane; c < width; c += 32) {
        float normal = (widen(x[row * width + c]) - mean) * inverse;
        float slope = widen(dy[row * width + c]) * gain[c];
        dx[row * width + c] = narrow(inverse * (slope - sum - normal * product));
    }
}

extern "C" __global__ void layer_norm_sums_any(const bf16 *dy, const bf16 *x, const float *statistics, float *partial,
                                               i64 rows, i64 width, i64 strip) {
    i64 column = FIRST;
    if (column >= width) return;
    i64 first = (i64)blockIdx.y * strip;
    i64 end = first + strip < rows ? first + strip : rows;
    float gain_sum = 0.0f, bias_sum = 0.0f;
    for (i64 row = first; row < end; row++) {
        float slope = widen(dy[row * width + column]);
        gain_sum += slope * (widen(x[row * width + column]) - statistics[2 * row]) * statistics[2 * row + 1];
        bias_sum += slope;
    }
    partial[(i64)blockIdx.y * 2 * width + column] = gain_sum;
    partial[(i64)blockIdx.y * 2 * width + width + column] = bias_sum;
}

// into[c] += the sum over strips of partial[strip * stride + c]. A block has 32 columns and 8 threads for each.
extern "C" __global__ void add_partials(const float *partial, float *into, i64 strips, i64 stride, i64 width) {
    __shared__ float sums[8][33];
    int x = threadIdx.x & 31, y = threadIdx.x >> 5;
    i64 column = (i64)blockIdx.x * 32 + x;
    float sum = 0.0f;
    if (column < width) {
        for (i64 strip = y; strip < strips; strip += 8) sum += partial[strip * stride + column];
    }
    sums[y][x] = sum;
    __syncthreads();
    if (y == 0 && column < width) {
        for (int other = 1; other < 8; other++) sum += sums[other][x];
        into[column] += sum;
    }
}

// Sums of columns over `strip` rows each: `partial` is [strips, width]. A block has 32 * COLUMNS columns and 8 rows at
// a time.
template <int COLUMNS>
__device__ void sum_columns(const bf16 *x, float *partial, i64 rows, i64 width, i64 strip) {
    __shared__ float sums[8][32 * COLUMNS];
    int lane = threadIdx.x & 31, y = threadIdx.x >> 5;
    i64 column = ((i64)blockIdx.x * 32 + lane) * COLUMNS;
    i64 first = (i64)blockIdx.y * strip;
    i64 end = first + strip < rows ? first + strip : rows;
    float sum[COLUMNS];
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) sum[j] = 0.0f;
    if (column < width) {
        for (i64 row = first + y; row < end; row += 8) {
            if (COLUMNS == 8) {
                float value[8];
                load_8(x + row * width + column, value);
#pragma unroll
                for (int j = 0; j < COLUMNS; j++) sum[j] += value[j];
            } else {
                sum[0] += widen(x[row * width + column]);
            }
        }
    }
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) sums[y][lane * COLUMNS + j] = sum[j];
    __syncthreads();
    for (int c = threadIdx.x; c < 32 * COLUMNS; c += 256) {
        i64 place = (i64)blockIdx.x * 32 * COLUMNS + c;
        if (place < width) {
            float total = 0.0f;
            for (int other = 0; other < 8; other++) total += sums[other][c];
            partial[(i64)blockIdx.y * width + place] = total;
        }
    }
}

extern "C" __global__ void column_sums_8(const bf16 *x, float *partial, i64 rows, i64 width, i64 strip) {
    sum_columns<8>(x, partial, rows, width, strip);
}

extern "C" __global__ void column_sums_1(const bf16 *x, float *partial, i64 rows, i64 width, i64 strip) {
    sum_columns<1>(x, partial, rows, width, strip);
}
