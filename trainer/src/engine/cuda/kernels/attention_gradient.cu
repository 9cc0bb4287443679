// The backward of attention.cu, which stands before this file when it is compiled.
//
// With p the probabilities, d the dropout and delta the sum of dy times the output: dp = dy vT d, ds = p (dp - delta),
// dq = ds k, dk = dsT q, dv = (p d)T dy. Source: Dao, arXiv 2307.08691, algorithm 2.

struct AttentionGradient {
    const bf16 *dy;
    const float *logarithms, *delta;
    bf16 *dq, *dk, *dv;
    i64 dq_stride, dkv_stride;
};

// delta[batch, head, query]; a warp has one.
extern "C" __global__ void attention_delta(const bf16 *dy, const bf16 *out, float *delta, i64 batch, i64 heads, i64 head_width,
                                           i64 queries) {
    int lane = threadIdx.x & 31;
    i64 place = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    if (place >= batch * heads * queries) return;
    i64 query = place % queries, head = place / queries % heads, sequence = place / queries / heads;
    i64 start = (sequence * queries + query) * heads * head_width + head * head_width;
    float sum = 0.0f;
    for (i64 c = lane; c < head_width; c += 32) sum += widen(dy[start + c]) * widen(out[start + c]);
    sum = warp_sum(sum);
    if (lane == 0) delta[place] = sum;
}

template <int WIDTH, int TILE>
__device__ __forceinline__ void attend_queries_gradient(const Attention &a, const AttentionGradient &g) {
    constexpr int PITCH = WIDTH + 8;
    SHARED_BYTES(shared_bytes);
    bf16 *keys_tile = (bf16 *)shared_bytes, *values_tile = keys_tile + BLOCK_ROWS * PITCH;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, group = lane >> 2, pair = (lane & 3) * 2;
    int first = blockIdx.x * BLOCK_ROWS, row = first + warp * 16;
    i64 head = blockIdx.y, batch = blockIdx.z, stride = a.heads * a.head_width;
    int width = (int)a.head_width, queries = (int)a.queries, count = keys_that_count(a, batch);
    const bf16 *q = a.q + batch * a.queries * a.q_stride + head * width;
    const bf16 *k = a.k + batch * a.keys * a.kv_stride + head * width;
    const bf16 *v = a.v + batch * a.keys * a.kv_stride + head * width;
    const bf16 *dy = g.dy + batch * a.queries * stride + head * width;
    u64 seed = a.seed ? seed_of(a.seed) : 0;
    float grown = a.seed ? 1.0f / (1.0f - a.share) : 1.0f, scale = a.scale * LOG2_E;

    u32 query[WIDTH / 16][4], slope[WIDTH / 16][4];
    load_tile<BLOCK_ROWS, WIDTH>(keys_tile, q, a.q_stride, first, queries, width);
    load_tile<BLOCK_ROWS, WIDTH>(values_tile, dy, stride, first, queries, width);
    __syncthreads();
#pragma unroll
    for (int step = 0; step < WIDTH / 16; step++) {
        load_left<PITCH>(query[step], keys_tile, warp * 16, step * 16);
        load_left<PITCH>(slope[step], values_tile, warp * 16, step * 16);
    }
    float logarithm[2], delta[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        i64 place = (batch * a.heads + head) * a.queries + row + group + r * 8;
        bool there = row + group + r * 8 < queries;
        logarithm[r] = there ? g.logarithms[place] * LOG2_E : INFINITY_F;
        delta[r] = there ? g.delta[place] : 0.0f;
    }

    float sum[WIDTH / 8][4];
    zero(sum);
    int limit = a.causal && first + BLOCK_ROWS < count ? first + BLOCK_ROWS : count;
    for (int start = 0; start < limit; start += TILE) {
        __syncthreads();
        load_tile<TILE, WIDTH>(keys_tile, k, a.kv_stride, start, limit, width);
        load_tile<TILE, WIDTH>(values_tile, v, a.kv_stride, start, limit, width);
        __syncthreads();
        float score[TILE / 8][4], change[TILE / 8][4];
        zero(score);
        zero(change);
        multiply_transposed<WIDTH, TILE>(score, query, keys_tile);
        multiply_transposed<WIDTH, TILE>(change, slope, values_tile);
#pragma unroll
        for (int j = 0; j < TILE / 8; j++) {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                int key = start + j * 8 + pair + (c & 1), asks = row + group + (c >> 1) * 8;
                bool reads = key < count && !(a.causal && key > asks);
                float share = reads ? exp2f(score[j][c] * scale - logarithm[c >> 1]) : 0.0f;
                float dp = change[j][c];
                if (a.seed) dp = keeps(seed, a.site, place_of(a, batch, head, asks, key), a.share) ? dp * grown : 0.0f;
                score[j][c] = share * (dp - delta[c >> 1]);
            }
        }
        multiply_by_row<WIDTH, TILE>(sum, score, keys_tile);
    }
    store_rows<WIDTH>(g.dq + batch * a.queries * g.dq_stride + head * width, g.dq_stride, sum, row, queries, width, a.scale,
                      a.scale);
}

template <int WIDTH, int TILE>
__device__ __forceinline__ void attend_keys_gradient(const Attention &a, const AttentionGradient &g) {
    constexpr int PITCH = WIDTH + 8;
    SHARED_BYTES(shared_bytes);
    bf16 *keys_tile = (bf16 *)shared_bytes, *values_tile = keys_tile + BLOCK_ROWS * PITCH;
    bf16 *queries_tile = values_tile + BLOCK_ROWS * PITCH, *slopes_tile = queries_tile + TILE * PITCH;
    float *logarithms = (float *)(slopes_tile + TILE * PITCH), *deltas = logarithms + TILE;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, group = lane >> 2, pair = (lane & 3) * 2;
    int first = blockIdx.x * BLOCK_ROWS, row = first + warp * 16;
    i64 head = blockIdx.y, batch = blockIdx.z, stride = a.heads * a.head_width;
    int width = (int)a.head_width, queries = (int)a.queries, keys = (int)a.keys, count = keys_that_count(a, batch);
    const bf16 *q = a.q + batch * a.queries * a.q_stride + head * width;
    const bf16 *k = a.k + batch * a.keys * a.kv_stride + head * width;
    const bf16 *v = a.v + batch * a.keys * a.kv_stride + head * width;
    const bf16 *dy = g.dy + batch * a.queries * stride + head * width;
    u64 seed = a.seed ? seed_of(a.seed) : 0;
    float grown = a.seed ? 1.0f / (1.0f - a.share) : 1.0f, scale = a.scale * LOG2_E;

    load_tile<BLOCK_ROWS, WIDTH>(keys_tile, k, a.kv_stride, first, keys, width);
    load_tile<BLOCK_ROWS, WIDTH>(values_tile, v, a.kv_stride, first, keys, width);
    float keys_sum[WIDTH / 8][4], values_sum[WIDTH / 8][4];
    zero(keys_sum);
    zero(values_sum);
    int begin = a.causal ? first / TILE * TILE : 0, end = first < count ? queries : 0;
    for (int start = begin; start < end; start += TILE) {
        __syncthreads();
        load_tile<TILE, WIDTH>(queries_tile, q, a.q_stride, start, queries, width);
        load_tile<TILE, WIDTH>(slopes_tile, dy, stride, start, queries, width);
        for (int i = threadIdx.x; i < TILE; i += ATTENTION_THREADS) {
            i64 place = (batch * a.heads + head) * a.queries + start + i;
            logarithms[i] = start + i < queries ? g.logarithms[place] * LOG2_E : INFINITY_F;
            deltas[i] = start + i < queries ? g.delta[place] : 0.0f;
        }
        __syncthreads();
        float score[TILE / 8][4], change[TILE / 8][4];
        zero(score);
        zero(change);
#pragma unroll
        for (int step = 0; step < WIDTH / 16; step++) {
            u32 key_left[4], value_left[4];
            load_left<PITCH>(key_left, keys_tile, warp * 16, step * 16);
            load_left<PITCH>(value_left, values_tile, warp * 16, step * 16);
#pragma unroll
            for (int j = 0; j < TILE / 16; j++) {
                u32 right[4];
                load_right<PITCH>(right, queries_tile, j * 16, step * 16);
                multiply_tiles(score[2 * j], key_left, right[0], right[1]);
                multiply_tiles(score[2 * j + 1], key_left, right[2], right[3]);
                load_right<PITCH>(right, slopes_tile, j * 16, step * 16);
                multiply_tiles(change[2 * j], value_left, right[0], right[1]);
                multiply_tiles(change[2 * j + 1], value_left, right[2], right[3]);
            }
        }
#pragma unroll
        for (int j = 0; j < TILE / 8; j++) {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                int key = row + group + (c >> 1) * 8, within = j * 8 + pair + (c & 1), asks = start + within;
                bool reads = key < count && !(a.causal && key > asks);
                float share = reads ? exp2f(score[j][c] * scale - logarithms[within]) : 0.0f;
                float kept = 1.0f;
                if (a.seed) kept = keeps(seed, a.site, place_of(a, batch, head, asks, key), a.share) ? grown : 0.0f;
                score[j][c] = share * kept;
                change[j][c] = share * (change[j][c] * kept - deltas[within]);
            }
        }
        multiply_by_row<WIDTH, TILE>(values_sum, score, slopes_tile);
        multiply_by_row<WIDTH, TILE>(keys_sum, change, queries_tile);
    }
    i64 place = batch * a.keys * g.dkv_stride + head * width;
    store_rows<WIDTH>(g.dk + place, g.dkv_stride, keys_sum, row, keys, width, a.scale, a.scale);
    store_rows<WIDTH>(g.dv + place, g.dkv_stride, values_sum, row, keys, width, 1.0f, 1.0f);
}

extern "C" __global__ void __launch_bounds__(128) attention_queries_gradient_32(Attention a, AttentionGradient g) {
    attend_queries_gradient<32, 64>(a, g);
}

extern "C" __global__ void __launch_bounds__(128) attention_queries_gradient_64(Attention a, AttentionGradient g) {
    attend_queries_gradient<64, 64>(a, g);
}

extern "C" __global__ void __launch_bounds__(128) attention_queries_gradient_128(Attention a, AttentionGradient g) {
    attend_queries_gradient<128, 32>(a, g);
}

extern "C" __global__ void __launch_bounds__(128) attention_keys_gradient_32(Attention a, AttentionGradient g) {
    attend_keys_gradient<32, 64>(a, g);
}

extern "C" __global__ void __launch_bounds__(128) attention_keys_gradient_64(Attention a, AttentionGradient g) {
    attend_keys_gradient<64, 64>(a, g);
}

extern "C" __global__ void __launch_bounds__(128) attention_keys_gradient_128(Attention a, AttentionGradient g) {
    attend_keys_gradient<128, 32>(a, g);
}
