// Attention on tensor cores, for head widths that are multiples of 8 up to 128. A block of four warps has 64 queries (or,
// for the gradients of keys and values, 64 keys), 16 a warp, and walks over the other side in tiles. Probabilities are never
// stored: the backward makes them again from the logarithm of each softmax's sum. No float is added atomically, so that
// gradients are the same each time; the price is that the backward makes the scores twice.
//
// Source: Dao, "FlashAttention-2", arXiv 2307.08691, algorithms 1 and 2.

#define LOG2_E 1.4426950408889634f
#define LN_2 0.69314718055994531f
#define BLOCK_ROWS 64
#define ATTENTION_THREADS 128

struct Attention {
    const bf16 *q, *k, *v;
    i64 q_stride, kv_stride;  // Values between a token and the next.
    const u32 *lengths;       // Keys that count, or null.
    const u32 *seed;          // Of the dropout, or null.
    i64 batch, heads, head_width, queries, keys;
    float scale, share;
    u32 site, causal;
};

// Where dropout counts a probability.
__device__ __forceinline__ u64 place_of(const Attention &a, i64 batch, i64 head, i64 query, i64 key) {
    return (u64)(((batch * a.heads + head) * a.queries + query) * a.keys + key);
}

// Rows `start` to `start + ROWS` of one head into shared memory, zeros where there are none.
template <int ROWS, int WIDTH>
__device__ __forceinline__ void load_tile(bf16 *to, const bf16 *from, i64 stride, int start, int limit, int head_width) {
    constexpr int VECTORS = WIDTH / 8, PITCH = WIDTH + 8;
    for (int i = threadIdx.x; i < ROWS * VECTORS; i += ATTENTION_THREADS) {
        int row = i / VECTORS, column = i % VECTORS * 8;
        uint4 value = make_uint4(0, 0, 0, 0);
        if (start + row < limit && column < head_width) value = load_16(from + (i64)(start + row) * stride + column);
        *(uint4 *)(to + row * PITCH + column) = value;
    }
}

// The 16 x 16 of `tile` at (row, column) as the first factor.
template <int PITCH> __device__ __forceinline__ void load_left(u32 (&to)[4], const bf16 *tile, int row, int column) {
    int lane = threadIdx.x & 31;
    load_matrices(to, tile + (row + (lane & 15)) * PITCH + column + (lane >> 4) * 8);
}

// Rows `row` to `row + 16` of `tile`, columns `column` to `column + 16`, as a second factor whose columns are the tile's
// rows: to[0], to[1] for the first 8 of them, to[2], to[3] for the other 8.
template <int PITCH> __device__ __forceinline__ void load_right(u32 (&to)[4], const bf16 *tile, int row, int column) {
    int lane = threadIdx.x & 31;
    load_matrices(to, tile + (row + (lane & 7) + (lane >> 4) * 8) * PITCH + column + ((lane >> 3) & 1) * 8);
}

// The same as a second factor whose rows are the tile's rows: to[0], to[1] for columns 0 to 8, to[2], to[3] for the others.
template <int PITCH> __device__ __forceinline__ void load_right_by_row(u32 (&to)[4], const bf16 *tile, int row, int column) {
    int lane = threadIdx.x & 31;
    load_matrices_transposed(to, tile + (row + (lane & 15)) * PITCH + column + (lane >> 4) * 8);
}

// A sum of two neighbouring 16 x 8 tiles as the first factor of the next product.
__device__ __forceinline__ void as_left(u32 (&to)[4], const float (&low)[4], const float (&high)[4]) {
    to[0] = narrow_pair(low[0], low[1]);
    to[1] = narrow_pair(low[2], low[3]);
    to[2] = narrow_pair(high[0], high[1]);
    to[3] = narrow_pair(high[2], high[3]);
}

// sum[j] += left (16 x WIDTH, in registers) times rows 8 j to 8 j + 8 of `tile`, transposed.
template <int WIDTH, int COLUMNS>
__device__ __forceinline__ void multiply_transposed(float (&sum)[COLUMNS / 8][4], const u32 (&left)[WIDTH / 16][4],
                                                    const bf16 *tile) {
#pragma unroll
    for (int step = 0; step < WIDTH / 16; step++) {
#pragma unroll
        for (int pair = 0; pair < COLUMNS / 16; pair++) {
            u32 right[4];
            load_right<WIDTH + 8>(right, tile, pair * 16, step * 16);
            multiply_tiles(sum[2 * pair], left[step], right[0], right[1]);
            multiply_tiles(sum[2 * pair + 1], left[step], right[2], right[3]);
        }
    }
}

// sum += left (16 x ROWS, a sum of tiles) times `tile` (ROWS x WIDTH).
template <int WIDTH, int ROWS>
__device__ __forceinline__ void multiply_by_row(float (&sum)[WIDTH / 8][4], const float (&left)[ROWS / 8][4],
                                                const bf16 *tile) {
#pragma unroll
    for (int step = 0; step < ROWS / 16; step++) {
        u32 factor[4];
        as_left(factor, left[2 * step], left[2 * step + 1]);
#pragma unroll
        for (int pair = 0; pair < WIDTH / 16; pair++) {
            u32 right[4];
            load_right_by_row<WIDTH + 8>(right, tile, step * 16, pair * 16);
            multiply_tiles(sum[2 * pair], factor, right[0], right[1]);
            multiply_tiles(sum[2 * pair + 1], factor, right[2], right[3]);
        }
    }
}

// Writes a warp's 16 x WIDTH sum, times a factor for each of a lane's two rows, to rows of `stride` values.
template <int WIDTH>
__device__ __forceinline__ void store_rows(bf16 *to, i64 stride, const float (&sum)[WIDTH / 8][4], int row, int limit,
                                           int head_width, float first, float second) {
    int lane = threadIdx.x & 31, group = lane >> 2, pair = (lane & 3) * 2;
#pragma unroll
    for (int j = 0; j < WIDTH / 8; j++) {
        if (j * 8 < head_width) {
            bf16 *at = to + (i64)(row + group) * stride + j * 8 + pair;
            if (row + group < limit) *(u32 *)at = narrow_pair(sum[j][0] * first, sum[j][1] * first);
            if (row + group + 8 < limit) *(u32 *)(at + 8 * stride) = narrow_pair(sum[j][2] * second, sum[j][3] * second);
        }
    }
}

__device__ __forceinline__ int keys_that_count(const Attention &a, i64 batch) {
    int length = a.lengths ? (int)a.lengths[batch] : (int)a.keys;
    return length < (int)a.keys ? length : (int)a.keys;
}

template <int COUNT> __device__ __forceinline__ void zero(float (&sum)[COUNT][4]) {
#pragma unroll
    for (int j = 0; j < COUNT; j++) sum[j][0] = sum[j][1] = sum[j][2] = sum[j][3] = 0.0f;
}

template <int WIDTH> __device__ __forceinline__ void attend(const Attention &a, bf16 *out, float *logarithms) {
    constexpr int PITCH = WIDTH + 8;
    SHARED_BYTES(shared_bytes);
    bf16 *keys_tile = (bf16 *)shared_bytes, *values_tile = keys_tile + BLOCK_ROWS * PITCH;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, group = lane >> 2, pair = (lane & 3) * 2;
    int first = blockIdx.x * BLOCK_ROWS, row = first + warp * 16;
    i64 head = blockIdx.y, batch = blockIdx.z;
    int width = (int)a.head_width, queries = (int)a.queries, count = keys_that_count(a, batch);
    const bf16 *q = a.q + batch * a.queries * a.q_stride + head * width;
    const bf16 *k = a.k + batch * a.keys * a.kv_stride + head * width;
    const bf16 *v = a.v + batch * a.keys * a.kv_stride + head * width;
    u64 seed = a.seed ? seed_of(a.seed) : 0;
    float grown = a.seed ? 1.0f / (1.0f - a.share) : 1.0f, scale = a.scale * LOG2_E;

    u32 query[WIDTH / 16][4];
    load_tile<BLOCK_ROWS, WIDTH>(keys_tile, q, a.q_stride, first, queries, width);
    __syncthreads();
#pragma unroll
    for (int step = 0; step < WIDTH / 16; step++) load_left<PITCH>(query[step], keys_tile, warp * 16, step * 16);

    float sum[WIDTH / 8][4], top[2] = {-INFINITY_F, -INFINITY_F}, total[2] = {0.0f, 0.0f};
    zero(sum);
    int limit = a.causal && first + BLOCK_ROWS < count ? first + BLOCK_ROWS : count;
    for (int start = 0; start < limit; start += BLOCK_ROWS) {
        __syncthreads();
        load_tile<BLOCK_ROWS, WIDTH>(keys_tile, k, a.kv_stride, start, limit, width);
        load_tile<BLOCK_ROWS, WIDTH>(values_tile, v, a.kv_stride, start, limit, width);
        __syncthreads();
        float score[BLOCK_ROWS / 8][4], highest[2] = {top[0], top[1]};
        zero(score);
        multiply_transposed<WIDTH, BLOCK_ROWS>(score, query, keys_tile);
#pragma unroll
        for (int j = 0; j < BLOCK_ROWS / 8; j++) {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                int key = start + j * 8 + pair + (c & 1), asks = row + group + (c >> 1) * 8;
                bool reads = key < count && !(a.causal && key > asks);
                score[j][c] = reads ? score[j][c] * scale : -INFINITY_F;
                highest[c >> 1] = fmaxf(highest[c >> 1], score[j][c]);
            }
        }
        float factor[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            highest[r] = fmaxf(highest[r], warp_swap(highest[r], 1));
            highest[r] = fmaxf(highest[r], warp_swap(highest[r], 2));
            factor[r] = exp2f(top[r] - highest[r]);
            top[r] = highest[r];
            total[r] *= factor[r];
        }
#pragma unroll
        for (int j = 0; j < BLOCK_ROWS / 8; j++) {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                float share = exp2f(score[j][c] - top[c >> 1]);
                total[c >> 1] += share;
                if (a.seed) {
                    u64 place = place_of(a, batch, head, row + group + (c >> 1) * 8, start + j * 8 + pair + (c & 1));
                    share = keeps(seed, a.site, place, a.share) ? share * grown : 0.0f;
                }
                score[j][c] = share;
            }
        }
#pragma unroll
        for (int j = 0; j < WIDTH / 8; j++) {
#pragma unroll
            for (int c = 0; c < 4; c++) sum[j][c] *= factor[c >> 1];
        }
        multiply_by_row<WIDTH, BLOCK_ROWS>(sum, score, values_tile);
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        total[r] += warp_swap(total[r], 1);
        total[r] += warp_swap(total[r], 2);
        int asks = row + group + r * 8;
        if ((lane & 3) == 0 && asks < queries) {
            logarithms[(batch * a.heads + head) * a.queries + asks] = (top[r] + log2f(total[r])) * LN_2;
        }
    }
    i64 stride = a.heads * a.head_width;
    store_rows<WIDTH>(out + batch * a.queries * stride + head * width, stride, sum, row, queries, width, 1.0f / total[0],
                      1.0f / total[1]);
}

extern "C" __global__ void __launch_bounds__(128) attention_32(Attention a, bf16 *out, float *logarithms) {
    attend<32>(a, out, logarithms);
}

extern "C" __global__ void __launch_bounds__(128) attention_64(Attention a, bf16 *out, float *logarithms) {
    attend<64>(a, out, logarithms);
}

extern "C" __global__ void __launch_bounds__(128) attention_128(Attention a, bf16 *out, float *logarithms) {
    attend<128>(a, out, logarithms);
}
