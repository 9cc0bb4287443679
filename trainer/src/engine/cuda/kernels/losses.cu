// Similarities and losses, in 32 bits.

template <typename T>
__device__ void normalize(const T *x, float *out, float *lengths, i64 rows, i64 width) {
    int lane = threadIdx.x & 31;
    i64 row = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    if (row >= rows) return;
    float squares = 0.0f;
    for (i64 c = lane; c < width; c += 32) squares += widen(x[row * width + c]) * widen(x[row * width + c]);
    float length = sqrtf(warp_sum(squares)), divisor = fmaxf(length, 1e-12f);
    for (i64 c = lane; c < width; c += 32) out[row * width + c] = widen(x[row * width + c]) / divisor;
    if (lane == 0) lengths[row] = length;
}

extern "C" __global__ void l2_normalize_bf16(const bf16 *x, float *out, float *lengths, i64 rows, i64 width) {
    normalize(x, out, lengths, rows, width);
}

extern "C" __global__ void l2_normalize_f32(const float *x, float *out, float *lengths, i64 rows, i64 width) {
    normalize(x, out, lengths, rows, width);
}

extern "C" __global__ void l2_normalize_gradient(const float *dy, const float *y, const float *lengths, float *dx, i64 rows,
                                                 i64 width) {
    int lane = threadIdx.x & 31;
    i64 row = (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    if (row >= rows) return;
    float product = 0.0f, length = lengths[row];
    for (i64 c = lane; c < width; c += 32) product += dy[row * width + c] * y[row * width + c];
    product = warp_sum(product);
    if (length <= 1e-12f) product = 0.0f;
    float divisor = fmaxf(length, 1e-12f);
    for (i64 c = lane; c < width; c += 32) dx[row * width + c] = (dy[row * width + c] - y[row * width + c] * product) / divisor;
}

// partial[block] = the block's share of the sum of a b.
extern "C" __global__ void dot_partials(const float *a, const float *b, float *partial, i64 count) {
    __shared__ float scratch[32];
    float sum = 0.0f;
    EACH(i, count) sum += a[i] * b[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// One block: into[0] -= (the sum of partial) / temperature[0].
extern "C" __global__ void temperature_gradient(const float *partial, const float *temperature, float *into, i64 count) {
    __shared__ float scratch[32];
    float sum = 0.0f;
    for (i64 i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) into[0] -= sum / temperature[0];
}

// One block: out[0] = factor * the sum of values.
extern "C" __global__ void sum_values(const float *values, float *out, i64 count, float factor) {
    __shared__ float scratch[32];
    float sum = 0.0f;
    for (i64 i = threadIdx.x; i < count; i += blockDim.x) sum += values[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) out[0] = sum * factor;
}

// The largest value of a row and the sum of exp(value - largest), by a block.
template <typename T> struct RowSum {
    float top, total;
    __device__ RowSum(const T *row, i64 width, float *scratch) {
        top = -INFINITY_F;
        for (i64 c = threadIdx.x; c < width; c += blockDim.x) top = fmaxf(top, widen(row[c]));
        top = block_max(top, scratch);
        total = 0.0f;
        for (i64 c = threadIdx.x; c < width; c += blockDim.x) total += expf(widen(row[c]) - top);
        total = block_sum(total, scratch);
    }
};

// A block has a row. `scalars[3]` is alpha.
extern "C" __global__ void soft_targets(const float *opinion, const float *scalars, const u32 *rows, const u32 *columns,
                                        float *out, i64 width) {
    __shared__ float scratch[32];
    i64 row = blockIdx.x;
    u32 name = rows[row];
    float alpha = scalars[3], same = 0.0f;
    RowSum<float> sum(opinion + row * width, width, scratch);
    for (i64 c = threadIdx.x; c < width; c += blockDim.x) same += columns[c] == name ? 1.0f : 0.0f;
    same = block_sum(same, scratch);
    for (i64 c = threadIdx.x; c < width; c += blockDim.x) {
        float share = expf(opinion[row * width + c] - sum.top) / sum.total;
        float truth = columns[c] == name ? 1.0f / same : 0.0f;
        out[row * width + c] = alpha * share + (1.0f - alpha) * truth;
    }
}

// saved: [2, rows], the logarithm of each softmax's sum and the sum of each row's targets.
extern "C" __global__ void soft_cross_entropy(const float *logits, const float *targets, float *losses, float *saved, i64 rows,
                                              i64 width) {
    __shared__ float scratch[32];
    i64 row = blockIdx.x;
    logits += row * width;
    targets += row * width;
    RowSum<float> sum(logits, width, scratch);
    float logarithm = sum.top + logf(sum.total), weight = 0.0f, product = 0.0f;
    for (i64 c = threadIdx.x; c < width; c += blockDim.x) {
        weight += targets[c];
        product += targets[c] * (logits[c] - logarithm);
    }
    weight = block_sum(weight, scratch);
    product = block_sum(product, scratch);
    if (threadIdx.x == 0) {
        losses[row] = -product;
        saved[row] = logarithm;
        saved[rows + row] = weight;
    }
}

extern "C" __global__ void soft_cross_entropy_gradient(const float *logits, const float *targets, const float *saved, float *out,
                                                       i64 rows, i64 width, float scale) {
    EACH(i, rows * width) {
        i64 row = i / width;
        out[i] = (expf(logits[i] - saved[row]) * saved[rows + row] - targets[i]) * scale / (float)rows;
    }
}

// losses[row] = weight * cross-entropy; saved[row]: the logarithm of the softmax's sum. A block has a row.
template <typename T>
__device__ void hard_cross_entropy(const T *logits, const u32 *labels, const float *weights, float *losses, float *saved,
                                   i64 width, float smoothing) {
    __shared__ float scratch[32];
    i64 row = blockIdx.x;
    float weight = weights[row];
    if (weight == 0.0f) {
        if (threadIdx.x == 0) losses[row] = saved[row] = 0.0f;
        return;
    }
    logits += row * width;
    RowSum<T> sum(logits, width, scratch);
    float logarithm = sum.top + logf(sum.total), all = 0.0f;
    if (smoothing > 0.0f) {
        for (i64 c = threadIdx.x; c < width; c += blockDim.x) all += logarithm - widen(logits[c]);
        all = block_sum(all, scratch);
    }
    if (threadIdx.x == 0) {
        float right = logarithm - widen(logits[labels[row]]);
        losses[row] = weight * ((1.0f - smoothing) * right + smoothing * all / (float)width);
        saved[row] = logarithm;
    }
}

extern "C" __global__ void cross_entropy_bf16(const bf16 *logits, const u32 *labels, const float *weights, float *losses,
                                              float *saved, i64 width, float smoothing) {
    hard_cross_entropy(logits, labels, weights, losses, saved, width, smoothing);
}

extern "C" __global__ void cross_entropy_f32(const float *logits, const u32 *labels, const float *weights, float *losses,
                                             float *saved, i64 width, float smoothing) {
    hard_cross_entropy(logits, labels, weights, losses, saved, width, smoothing);
}

// A block has a row.
template <typename T>
__device__ void hard_cross_entropy_gradient(const T *logits, const u32 *labels, const float *weights, const float *saved,
                                            bf16 *out, i64 width, float smoothing, float scale) {
    i64 row = blockIdx.x;
    float weight = weights[row] * scale, logarithm = saved[row], even = smoothing / (float)width;
    if (weight == 0.0f) {
        for (i64 c = threadIdx.x; c < width; c += blockDim.x) out[row * width + c] = 0;
        return;
    }
    i64 label = labels[row];
    for (i64 c = threadIdx.x; c < width; c += blockDim.x) {
        float target = even + (c == label ? 1.0f - smoothing : 0.0f);
        out[row * width + c] = narrow(weight * (expf(widen(logits[row * width + c]) - logarithm) - target));
    }
}

extern "C" __global__ void cross_entropy_gradient_bf16(const bf16 *logits, const u32 *labels, const float *weights,
                                                       const float *saved, bf16 *out, i64 width, float smoothing, float scale) {
    hard_cross_entropy_gradient(logits, labels, weights, saved, out, width, smoothing, scale);
}

extern "C" __global__ void cross_entropy_gradient_f32(const float *logits, const u32 *labels, const float *weights,
                                                      const float *saved, bf16 *out, i64 width, float smoothing, float scale) {
    hard_cross_entropy_gradient(logits, labels, weights, saved, out, width, smoothing, scale);
}

// A block has a row; its first thread draws, as engine::draw does, in 64 bits and in column order. `weights` is room for
// [rows, candidates].
extern "C" __global__ void draw_negatives(const float *similarity, const u32 *rows, const u32 *columns, const u32 *seed,
                                          float *weights, u32 *out, i64 width, i64 candidates, i64 first, i64 direction) {
    __shared__ float scratch[32];
    i64 row = blockIdx.x;
    u32 name = rows[row];
    similarity += row * width;
    weights += row * candidates;
    RowSum<float> sum(similarity, candidates, scratch);
    for (i64 c = threadIdx.x; c < candidates; c += blockDim.x) {
        weights[c] = columns[c] == name ? 0.0f : expf(similarity[c] - sum.top) / sum.total + 1e-4f;
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    u64 bits = random_bits(seed_of(seed), 2 * (u64)(first + row) + (u64)direction);
    double u = (double)(bits >> 40) / 16777216.0, total = 0.0, running = 0.0;
    for (i64 c = 0; c < candidates; c++) total += (double)weights[c];
    i64 drawn = first + row;
    for (i64 c = 0; c < candidates; c++) {
        if (weights[c] > 0.0f) {
            running += (double)weights[c];
            drawn = c;
            if (running > u * total) break;
        }
    }
    out[row] = (u32)drawn;
}
