// Attention for the head widths that attention.cu does not take: one thread a value, probabilities in memory. It stands after
// attention.cu and attention_gradient.cu when it is compiled.

// Scores times the scale, -infinity where the query may not read: [batch, heads, queries, keys].
extern "C" __global__ void attention_plain_scores(Attention a, float *scores) {
    EACH(i, a.batch * a.heads * a.queries * a.keys) {
        i64 key = i % a.keys, query = i / a.keys % a.queries, head = i / a.keys / a.queries % a.heads;
        i64 batch = i / a.keys / a.queries / a.heads;
        const bf16 *q = a.q + (batch * a.queries + query) * a.q_stride + head * a.head_width;
        const bf16 *k = a.k + (batch * a.keys + key) * a.kv_stride + head * a.head_width;
        float sum = 0.0f;
        for (i64 c = 0; c < a.head_width; c++) sum += widen(q[c]) * widen(k[c]);
        bool reads = key < keys_that_count(a, batch) && !(a.causal && key > query);
        scores[i] = reads ? sum * a.scale : -INFINITY_F;
    }
}

// Scores to probabilities in place, and the logarithm of each sum; a warp has a row.
extern "C" __global__ void attention_plain_softmax(float *scores, float *logarithms, i64 rows, i64 keys) {
    int lane = threadIdx.x & 31;
    i64 row = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    if (row >= rows) return;
    scores += row * keys;
    float top = -INFINITY_F, total = 0.0f;
    for (i64 c = lane; c < keys; c += 32) top = fmaxf(top, scores[c]);
    top = warp_max(top);
    for (i64 c = lane; c < keys; c += 32) total += expf(scores[c] - top);
    total = warp_sum(total);
    for (i64 c = lane; c < keys; c += 32) scores[c] = expf(scores[c] - top) / total;
    if (lane == 0) logarithms[row] = top + logf(total);
}

__device__ __forceinline__ float kept_share(const Attention &a, u64 place) {
    if (!a.seed) return 1.0f;
    return keeps(seed_of(a.seed), a.site, place, a.share) ? 1.0f / (1.0f - a.share) : 0.0f;
}

extern "C" __global__ void attention_plain_output(Attention a, const float *probabilities, bf16 *out) {
    i64 width = a.heads * a.head_width;
    EACH(i, a.batch * a.queries * width) {
        i64 column = i % width, head = column / a.head_width, query = i / width % a.queries, batch = i / width / a.queries;
        u64 place = place_of(a, batch, head, query, 0);
        float sum = 0.0f;
        for (i64 key = 0; key < a.keys; key++) {
            float share = probabilities[place + key] * kept_share(a, place + key);
            sum += share * widen(a.v[(batch * a.keys + key) * a.kv_stride + column]);
        }
        out[i] = narrow(sum);
    }
}

// From scores: `probabilities` after dropout, and in place of the scores ds times the scale.
extern "C" __global__ void attention_plain_slopes(Attention a, AttentionGradient g, float *scores, float *probabilities) {
    i64 width = a.heads * a.head_width;
    EACH(i, a.batch * a.heads * a.queries * a.keys) {
        i64 key = i % a.keys, row = i / a.keys, query = row % a.queries, head = row / a.queries % a.heads;
        i64 batch = row / a.queries / a.heads;
        float share = expf(scores[i] - g.logarithms[row]), kept = kept_share(a, (u64)i), sum = 0.0f;
        const bf16 *dy = g.dy + (batch * a.queries + query) * width + head * a.head_width;
        const bf16 *v = a.v + (batch * a.keys + key) * a.kv_stride + head * a.head_width;
        for (i64 c = 0; c < a.head_width; c++) sum += widen(dy[c]) * widen(v[c]);
        probabilities[i] = share * kept;
        scores[i] = share * (sum * kept - g.delta[row]) * a.scale;
    }
}

extern "C" __global__ void attention_plain_queries_gradient(Attention a, AttentionGradient g, const float *slopes) {
    i64 width = a.heads * a.head_width;
    EACH(i, a.batch * a.queries * width) {
        i64 column = i % width, head = column / a.head_width, query = i / width % a.queries, batch = i / width / a.queries;
        u64 place = place_of(a, batch, head, query, 0);
        float sum = 0.0f;
        for (i64 key = 0; key < a.keys; key++) {
            sum += slopes[place + key] * widen(a.k[(batch * a.keys + key) * a.kv_stride + column]);
        }
        g.dq[(batch * a.queries + query) * g.dq_stride + column] = narrow(sum);
    }
}

extern "C" __global__ void attention_plain_keys_gradient(Attention a, AttentionGradient g, const float *slopes,
                                                         const float *probabilities) {
    i64 width = a.heads * a.head_width;
    EACH(i, a.batch * a.keys * width) {
        i64 column = i % width, head = column / a.head_width, key = i / width % a.keys, batch = i / width / a.keys;
        float key_sum = 0.0f, value_sum = 0.0f;
        for (i64 query = 0; query < a.queries; query++) {
            u64 place = place_of(a, batch, head, query, key);
            key_sum += slopes[place] * widen(a.q[(batch * a.queries + query) * a.q_stride + column]);
            value_sum += probabilities[place] * widen(g.dy[(batch * a.queries + query) * width + column]);
        }
        g.dk[(batch * a.keys + key) * g.dkv_stride + column] = narrow(key_sum);
        g.dv[(batch * a.keys + key) * g.dkv_stride + column] = narrow(value_sum);
    }
}
