// Long vectors: 32-bit values, and where a product reads them also a copy in bf16, the shadow, which may be null.

// partial[block] = the block's share of the sum of squares.
extern "C" __global__ void squares_partials(const float *values, float *partial, i64 count) {
    __shared__ float scratch[32];
    float sum = 0.0f;
    EACH(i, count) sum += values[i] * values[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__device__ __forceinline__ void refresh(bf16 *shadow, i64 i, float value) {
    if (shadow) shadow[i] = narrow(value);
}

// Source: Loshchilov and Hutter, arXiv 1711.05101, algorithm 2, in the order of PyTorch's `torch.optim.AdamW`; the clip is
// `torch.nn.utils.clip_grad_norm_`. `scalars`: engine::scalars.
extern "C" __global__ void adamw(float *weights, bf16 *shadow, const float *gradients, float *first, float *second,
                                 const float *squared_norm, const float *scalars, i64 count, float beta1, float beta2,
                                 float epsilon, float weight_decay, float max_norm) {
    float rate = scalars[0], first_correction = scalars[1], second_correction = sqrtf(scalars[2]);
    float clip = max_norm < INFINITY_F ? fminf(1.0f, max_norm / (sqrtf(squared_norm[0]) + 1e-6f)) : 1.0f;
    EACH(i, count) {
        float gradient = gradients[i] * clip;
        float mean = beta1 * first[i] + (1.0f - beta1) * gradient;
        float square = beta2 * second[i] + (1.0f - beta2) * gradient * gradient;
        float deviation = sqrtf(square) / second_correction + epsilon;
        float weight = weights[i] * (1.0f - rate * weight_decay) - rate / first_correction * mean / deviation;
        first[i] = mean;
        second[i] = square;
        weights[i] = weight;
        refresh(shadow, i, weight);
    }
}

// Momentum is scalars[4].
extern "C" __global__ void moving_average(float *average, bf16 *shadow, const float *values, const float *scalars, i64 count) {
    float momentum = scalars[4];
    EACH(i, count) {
        float value = momentum * average[i] + (1.0f - momentum) * values[i];
        average[i] = value;
        refresh(shadow, i, value);
    }
}

extern "C" __global__ void clamp(float *values, bf16 *shadow, i64 at, float low, float high) {
    float value = fminf(fmaxf(values[at], low), high);
    values[at] = value;
    refresh(shadow, at, value);
}

template <typename T>
__device__ void write_values(float *flat, bf16 *shadow, i64 start, const u32 *at, const T *values, i64 count) {
    EACH(i, count) {
        float value = widen(values[i]);
        flat[start + at[0] + i] = value;
        refresh(shadow, start + at[0] + i, value);
    }
}

extern "C" __global__ void write_flat_bf16(float *flat, bf16 *shadow, i64 start, const u32 *at, const bf16 *values, i64 count) {
    write_values(flat, shadow, start, at, values, count);
}

extern "C" __global__ void write_flat_f32(float *flat, bf16 *shadow, i64 start, const u32 *at, const float *values, i64 count) {
    write_values(flat, shadow, start, at, values, count);
}

extern "C" __global__ void scale_flat(float *values, bf16 *shadow, i64 count, float factor) {
    EACH(i, count) {
        float value = values[i] * factor;
        values[i] = value;
        refresh(shadow, i, value);
    }
}
