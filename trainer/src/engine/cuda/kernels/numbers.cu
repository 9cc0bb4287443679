// What every kernel file begins with: numbers, vectors of eight, sums over a warp, and the random bits of engine.rs.
//
// No CUDA header is included, so that NVRTC alone compiles it. Where EMULATED is defined, a C++ compiler does, for a test
// without a GPU: then `emulation.h` defines what is PTX here.
//
// Every allocation is a multiple of 256 bytes: a kernel may read and write whole vectors up to the end of the last one.

#define INFINITY_F __int_as_float(0x7f800000)

typedef unsigned short bf16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#ifndef EMULATED

#define SHARED_BYTES(name) extern __shared__ __align__(16) unsigned char name[]

__device__ __forceinline__ float warp_swap(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }

// 16 bytes, aligned.
__device__ __forceinline__ uint4 load_16(const void *from) { return *(const uint4 *)from; }

// Rounds to nearest, ties to even, as `half::bf16::from_f32` does.
__device__ __forceinline__ bf16 narrow(float value) {
    bf16 result;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result) : "f"(value));
    return result;
}

// Two at once; `low` is the one at the smaller address.
__device__ __forceinline__ u32 narrow_pair(float low, float high) {
    u32 result;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
    return result;
}

// Four 8 x 8 matrices of 16-bit values. Lane l gives the address of row l % 8 of matrix l / 8, and receives of each
// matrix row l / 4, columns 2 (l % 4) and the next. Source: PTX ISA, "ldmatrix".
__device__ __forceinline__ void load_matrices(u32 (&to)[4], const bf16 *row) {
    u32 address = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(address) : "memory");
}

// The same, and each matrix is transposed on the way: lane l receives rows 2 (l % 4) and the next of column l / 4.
__device__ __forceinline__ void load_matrices_transposed(u32 (&to)[4], const bf16 *row) {
    u32 address = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(address) : "memory");
}

// sum += a b, with a 16 x 16 by row, b 16 x 8 by column, sum 16 x 8. With g = lane / 4 and t = 2 (lane % 4):
// a[0] is (g, t), a[1] (g + 8, t), a[2] (g, t + 8), a[3] (g + 8, t + 8), each with the next column;
// b0 is rows t and t + 1 of column g, b1 rows t + 8 and t + 9;
// sum[0], sum[1] are (g, t) and (g, t + 1), sum[2], sum[3] the same of row g + 8. Source: PTX ISA, "mma.m16n8k16".
__device__ __forceinline__ void multiply_tiles(float (&sum)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif

__device__ __forceinline__ float widen(bf16 value) { return __uint_as_float((u32)value << 16); }
__device__ __forceinline__ float widen(float value) { return value; }
__device__ __forceinline__ void put(bf16 *at, float value) { *at = narrow(value); }
__device__ __forceinline__ void put(float *at, float value) { *at = value; }

__device__ __forceinline__ void load_8(const bf16 *from, float (&to)[8]) {
    uint4 raw = load_16(from);
    u32 words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        to[2 * i] = __uint_as_float(words[i] << 16);
        to[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}

__device__ __forceinline__ void store_8(bf16 *to, const float (&from)[8]) {
    uint4 raw;
    raw.x = narrow_pair(from[0], from[1]);
    raw.y = narrow_pair(from[2], from[3]);
    raw.z = narrow_pair(from[4], from[5]);
    raw.w = narrow_pair(from[6], from[7]);
    *(uint4 *)to = raw;
}

__device__ __forceinline__ void load_8(const float *from, float (&to)[8]) {
#pragma unroll
    for (int i = 0; i < 8; i++) to[i] = from[i];
}

__device__ __forceinline__ void store_8(float *to, const float (&from)[8]) {
#pragma unroll
    for (int i = 0; i < 8; i++) to[i] = from[i];
}

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int mask = 16; mask > 0; mask >>= 1) value += warp_swap(value, mask);
    return value;
}

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
    for (int mask = 16; mask > 0; mask >>= 1) value = fmaxf(value, warp_swap(value, mask));
    return value;
}

// Sums over a block of at most 1024 threads, a multiple of 32; every thread receives the sum. `scratch`: 32 values.
__device__ __forceinline__ float block_sum(float value, float *scratch) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    value = warp_sum(value);
    __syncthreads();
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    return warp_sum(lane < warps ? scratch[lane] : 0.0f);
}

__device__ __forceinline__ float block_max(float value, float *scratch) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    value = warp_max(value);
    __syncthreads();
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    return warp_max(lane < warps ? scratch[lane] : -INFINITY_F);
}

// engine::random_bits: splitmix64 of the seed and a counter.
__device__ __forceinline__ u64 random_bits(u64 seed, u64 counter) {
    u64 z = (seed ^ counter) + 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

// engine::keeps.
__device__ __forceinline__ bool keeps(u64 seed, u32 site, u64 index, float share) {
    u64 bits = random_bits(seed, ((u64)site << 40) | index);
    return (float)(bits >> 40) * (1.0f / 16777216.0f) >= share;
}

__device__ __forceinline__ u64 seed_of(const u32 *words) { return (u64)words[0] | ((u64)words[1] << 32); }

#define FIRST ((i64)blockIdx.x * blockDim.x + threadIdx.x)
#define STRIDE ((i64)gridDim.x * blockDim.x)
#define EACH(i, n) for (i64 i = FIRST; i < (n); i += STRIDE)
