// In and out of sequences: embeddings, patches, rows.

extern "C" __global__ void embedding(const u32 *ids, const float *words, const float *positions, bf16 *out, i64 batch,
                                     i64 tokens, i64 width) {
    EACH(i, batch * tokens * width) {
        i64 column = i % width, token = i / width;
        out[i] = narrow(words[(i64)ids[token] * width + column] + positions[token % tokens * width + column]);
    }
}

// A block for each token. The first token with a word adds the gradients of all that have it, in their order.
extern "C" __global__ void embedding_words_gradient(const bf16 *dy, const u32 *ids, float *into, i64 tokens, i64 width) {
    __shared__ u32 same[256];
    i64 first = blockIdx.x;
    u32 word = ids[first];
    int seen = 0;
    for (i64 i = threadIdx.x; i < first; i += blockDim.x) seen |= ids[i] == word;
    if (__syncthreads_or(seen)) return;
    for (i64 start = first; start < tokens; start += blockDim.x) {
        i64 mine = start + threadIdx.x;
        int hit = mine < tokens && ids[mine] == word;
        same[threadIdx.x] = hit;
        if (__syncthreads_or(hit)) {
            i64 end = tokens - start < (i64)blockDim.x ? tokens - start : (i64)blockDim.x;
            for (i64 column = threadIdx.x; column < width; column += blockDim.x) {
                float sum = into[(i64)word * width + column];
                for (i64 i = 0; i < end; i++) {
                    if (same[i]) sum += widen(dy[(start + i) * width + column]);
                }
                into[(i64)word * width + column] = sum;
            }
        }
        __syncthreads();
    }
}

// into[token] += the sum over sequences of dy[sequence, token]; a block has a token.
extern "C" __global__ void embedding_positions_gradient(const bf16 *dy, float *into, i64 batch, i64 tokens, i64 width) {
    i64 token = blockIdx.x;
    for (i64 column = threadIdx.x; column < width; column += blockDim.x) {
        float sum = 0.0f;
        for (i64 sequence = 0; sequence < batch; sequence++) sum += widen(dy[(sequence * tokens + token) * width + column]);
        into[token * width + column] += sum;
    }
}

extern "C" __global__ void patches(const float *pixels, bf16 *out, i64 batch, i64 side, i64 patch) {
    i64 across = side / patch, width = 3 * patch * patch;
    EACH(i, batch * across * across * width) {
        i64 column = i % width, place = i / width;
        i64 x = column % patch, y = column / patch % patch, channel = column / patch / patch;
        i64 left = place % across, top = place / across % across, picture = place / across / across;
        out[i] = narrow(pixels[((picture * 3 + channel) * side + top * patch + y) * side + left * patch + x]);
    }
}

extern "C" __global__ void vision_tokens(const bf16 *patches, const float *first, const float *positions, bf16 *out, i64 batch,
                                         i64 tokens, i64 width) {
    EACH(i, batch * tokens * width) {
        i64 column = i % width, token = i / width % tokens, picture = i / width / tokens;
        float value = token == 0 ? first[column] : widen(patches[(picture * (tokens - 1) + token - 1) * width + column]);
        out[i] = narrow(value + positions[token * width + column]);
    }
}

// A block has a token.
extern "C" __global__ void vision_tokens_gradient(const bf16 *dy, bf16 *patches, float *first, float *positions, i64 batch,
                                                  i64 tokens, i64 width) {
    i64 token = blockIdx.x;
    for (i64 column = threadIdx.x; column < width; column += blockDim.x) {
        float sum = 0.0f;
        for (i64 picture = 0; picture < batch; picture++) {
            bf16 slope = dy[(picture * tokens + token) * width + column];
            sum += widen(slope);
            if (token > 0) patches[(picture * (tokens - 1) + token - 1) * width + column] = slope;
        }
        positions[token * width + column] += sum;
        if (token == 0) first[column] += sum;
    }
}

// Rows of `bytes` bytes, an even number, `from_stride` and `to_stride` bytes apart.
extern "C" __global__ void copy_rows(const bf16 *from, bf16 *to, i64 rows, i64 bytes, i64 from_stride, i64 to_stride) {
    i64 units = bytes / 2;
    EACH(i, rows * units) to[i / units * (to_stride / 2) + i % units] = from[i / units * (from_stride / 2) + i % units];
}

template <typename T> __device__ void gather(const T *from, const u32 *rows, T *to, i64 count, i64 width) {
    EACH(i, count * width) to[i] = from[(i64)rows[i / width] * width + i % width];
}

extern "C" __global__ void gather_16_bit(const bf16 *from, const u32 *rows, bf16 *to, i64 count, i64 width) {
    gather(from, rows, to, count, width);
}

extern "C" __global__ void gather_32_bit(const u32 *from, const u32 *rows, u32 *to, i64 count, i64 width) {
    gather(from, rows, to, count, width);
}

// A row of the result is row rows[i] of `from`, `before` values, and then row i of `more`, `added` values.
template <typename T>
__device__ void append(const T *from, const T *more, const u32 *rows, T *to, i64 count, i64 before, i64 added) {
    i64 width = before + added;
    EACH(i, count * width) {
        i64 row = i / width, column = i % width;
        to[i] = column < before ? from[(i64)rows[row] * before + column] : more[row * added + column - before];
    }
}

extern "C" __global__ void append_16_bit(const bf16 *from, const bf16 *more, const u32 *rows, bf16 *to, i64 count,
                                         i64 before, i64 added) {
    append(from, more, rows, to, count, before, added);
}

extern "C" __global__ void append_32_bit(const u32 *from, const u32 *more, const u32 *rows, u32 *to, i64 count,
                                         i64 before, i64 added) {
    append(from, more, rows, to, count, before, added);
}

// A block has a row of the result, which is the sum of the rows of dy that were read from it, in their order.
template <typename T>
__device__ void gather_gradient(const T *dy, const u32 *rows, T *out, i64 count, i64 width) {
    __shared__ u32 same[256];
    i64 row = blockIdx.x, chunk = blockIdx.y, chunks = gridDim.y;
    for (i64 left = chunk * 256; left < width; left += chunks * 256) {
        i64 column = left + threadIdx.x;
        float sum = 0.0f;
        for (i64 start = 0; start < count; start += 256) {
            i64 mine = start + threadIdx.x;
            int hit = mine < count && (i64)rows[mine] == row;
            same[threadIdx.x] = hit;
            if (__syncthreads_or(hit) && column < width) {
                i64 end = count - start < 256 ? count - start : 256;
                for (i64 i = 0; i < end; i++) {
                    if (same[i]) sum += widen(dy[(start + i) * width + column]);
                }
            }
            __syncthreads();
        }
        if (column < width) put(out + row * width + column, sum);
    }
}

extern "C" __global__ void gather_gradient_bf16(const bf16 *dy, const u32 *rows, bf16 *out, i64 count, i64 width) {
    gather_gradient(dy, rows, out, count, width);
}

extern "C" __global__ void gather_gradient_f32(const float *dy, const u32 *rows, float *out, i64 count, i64 width) {
    gather_gradient(dy, rows, out, count, width);
}
