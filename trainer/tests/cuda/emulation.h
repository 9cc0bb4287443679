// Runs CUDA kernels as C++ on the host: each thread of a block is a fiber, blocks run one after the other, and what
// `numbers.cu` writes in PTX is done here by the PTX manual's words. Slow, and exact about who receives what: a kernel that
// reads the wrong lane, row or address gives a wrong answer here too.
//
// Shared memory ends at a page that may not be touched. Between barriers, threads run in rising order in some blocks and in
// falling order in others, so that what needs a barrier and has none gives another answer.

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct Place {
    unsigned x, y, z;
};

static Place threadIdx, blockIdx, blockDim, gridDim;

// A fiber begins by its context and goes on by its jump, which, unlike a change of contexts, asks nothing of the kernel.
struct Fiber {
    ucontext_t context;
    jmp_buf jump;
    std::vector<char> stack;
    bool begun, done;
};

struct Barrier {
    unsigned arrived = 0, turn = 0, expected = 0;
};

static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static unsigned current;
static Barrier block_barrier, warp_barriers[32];
static unsigned char *emulated_shared;
static void (*emulated_body)(void **);
static void **emulated_arguments;
static int any_of_block;
static unsigned blocks_run;

static void give_way() {
    if (_setjmp(fibers[current].jump) == 0) _longjmp(scheduler, 1);
}

static void go_on(unsigned thread) {
    current = thread;
    threadIdx = {thread, 0, 0};
    if (_setjmp(scheduler) != 0) return;
    Fiber &fiber = fibers[thread];
    if (fiber.begun) _longjmp(fiber.jump, 1);
    fiber.begun = true;
    setcontext(&fiber.context);
}

static void wait_at(Barrier &barrier) {
    unsigned turn = barrier.turn;
    if (++barrier.arrived == barrier.expected) {
        barrier.arrived = 0;
        barrier.turn++;
        return;
    }
    while (barrier.turn == turn) give_way();
}

static void leave(Barrier &barrier) {
    barrier.expected--;
    if (barrier.expected > 0 && barrier.arrived == barrier.expected) {
        barrier.arrived = 0;
        barrier.turn++;
    }
}

static void fiber_body() {
    unsigned me = current;
    emulated_body(emulated_arguments);
    fibers[me].done = true;
    leave(block_barrier);
    leave(warp_barriers[me / 32]);
    give_way();
}

static void run_block(unsigned threads) {
    if (fibers.size() < threads) fibers.resize(threads);
    block_barrier = Barrier();
    block_barrier.expected = threads;
    any_of_block = 0;
    for (unsigned w = 0; w < 32; w++) {
        warp_barriers[w] = Barrier();
        warp_barriers[w].expected = threads > 32 * w ? (threads - 32 * w < 32 ? threads - 32 * w : 32) : 0;
    }
    for (unsigned t = 0; t < threads; t++) {
        Fiber &fiber = fibers[t];
        if (fiber.stack.empty()) fiber.stack.resize(128 << 10);
        fiber.begun = fiber.done = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, fiber_body, 0);
    }
    bool falling = blocks_run++ * 2654435769u >> 31;
    for (unsigned left = threads; left > 0;) {
        for (unsigned place = 0; place < threads; place++) {
            unsigned t = falling ? threads - 1 - place : place;
            if (fibers[t].done) continue;
            go_on(t);
            if (fibers[t].done) left--;
        }
    }
}

static void __syncthreads() { wait_at(block_barrier); }

static int __syncthreads_or(int value) {
    any_of_block |= value;
    wait_at(block_barrier);
    int any = any_of_block;
    wait_at(block_barrier);
    any_of_block = 0;
    wait_at(block_barrier);
    return any != 0;
}

static void warp_wait() {
    if (warp_barriers[current / 32].expected != 32) {
        fprintf(stderr, "an operation of a whole warp in a warp with %u threads\n", warp_barriers[current / 32].expected);
        abort();
    }
    wait_at(warp_barriers[current / 32]);
}

static float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static float __int_as_float(int bits) { return __uint_as_float((unsigned)bits); }
static float rsqrtf(float value) { return 1.0f / sqrtf(value); }
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return uint4{x, y, z, w}; }

#define SHARED_BYTES(name) unsigned char *name = emulated_shared

static void aligned_to_16(const void *address) {
    if ((uintptr_t)address % 16 != 0) {
        fprintf(stderr, "16 bytes at an address that is not a multiple of 16\n");
        abort();
    }
}

static uint4 load_16(const void *from) {
    aligned_to_16(from);
    return *(const uint4 *)from;
}

static float swapped[32][32];

static float warp_swap(float value, int mask) {
    unsigned lane = current % 32, warp = current / 32;
    swapped[warp][lane] = value;
    warp_wait();
    float other = swapped[warp][lane ^ mask];
    warp_wait();
    return other;
}

static unsigned short narrow(float value) {
    unsigned bits;
    memcpy(&bits, &value, 4);
    if (value != value) return 0x7fff;
    return (unsigned short)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static unsigned narrow_pair(float low, float high) { return narrow(low) | (unsigned)narrow(high) << 16; }

static const unsigned short *matrix_rows[32][32];

static void load_matrices(unsigned (&to)[4], const unsigned short *row) {
    unsigned lane = current % 32, warp = current / 32;
    aligned_to_16(row);
    matrix_rows[warp][lane] = row;
    warp_wait();
    for (unsigned i = 0; i < 4; i++) {
        const unsigned short *mine = matrix_rows[warp][8 * i + lane / 4] + 2 * (lane % 4);
        to[i] = mine[0] | (unsigned)mine[1] << 16;
    }
    warp_wait();
}

static void load_matrices_transposed(unsigned (&to)[4], const unsigned short *row) {
    unsigned lane = current % 32, warp = current / 32;
    aligned_to_16(row);
    matrix_rows[warp][lane] = row;
    warp_wait();
    for (unsigned i = 0; i < 4; i++) {
        unsigned first = 8 * i + 2 * (lane % 4), column = lane / 4;
        to[i] = matrix_rows[warp][first][column] | (unsigned)matrix_rows[warp][first + 1][column] << 16;
    }
    warp_wait();
}

struct Factors {
    unsigned a[4], b[2];
};
static Factors factors[32][32];

static float half_of(unsigned pair, unsigned which) { return __uint_as_float(which ? pair & 0xffff0000u : pair << 16); }

static void multiply_tiles(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    unsigned lane = current % 32, warp = current / 32;
    factors[warp][lane] = Factors{{a[0], a[1], a[2], a[3]}, {b0, b1}};
    warp_wait();
    for (unsigned c = 0; c < 4; c++) {
        unsigned row = lane / 4 + 8 * (c / 2), column = 2 * (lane % 4) + c % 2;
        for (unsigned k = 0; k < 16; k++) {
            const Factors &left = factors[warp][row % 8 * 4 + k % 8 / 2], &right = factors[warp][column * 4 + k % 8 / 2];
            sum[c] += half_of(left.a[(row >= 8) + 2 * (k >= 8)], k % 2) * half_of(right.b[k >= 8], k % 2);
        }
    }
    warp_wait();
}

template <typename T> constexpr char kind_of() {
    if (std::is_pointer<T>::value) return 'p';
    if (std::is_same<T, float>::value) return 'f';
    if (std::is_same<T, long long>::value) return 'i';
    if (std::is_same<T, unsigned>::value) return 'u';
    return (char)('0' + sizeof(T) / 8);
}

template <typename F, F body> struct Kernel;

template <typename... A, void (*body)(A...)> struct Kernel<void (*)(A...), body> {
    template <size_t... I> static void unpacked(void **arguments, std::index_sequence<I...>) {
        body(*(typename std::remove_cv<A>::type *)arguments[I]...);
    }
    static void call(void **arguments) { unpacked(arguments, std::index_sequence_for<A...>()); }
    static const char *kinds() {
        static const char kinds[] = {kind_of<A>()..., 0};
        return kinds;
    }
};

struct Known {
    const char *name, *kinds;
    void (*call)(void **);
};

#define KNOWN(name) {#name, Kernel<decltype(&name), &name>::kinds(), Kernel<decltype(&name), &name>::call}

static const std::vector<Known> &known_kernels();

// Kinds of a kernel's arguments, a letter each: p pointer, i 64-bit, u 32-bit, f float, and for a structure the character that
// is its words above '0'. Null where there is no such kernel.
extern "C" const char *kinds_of(const char *name) {
    for (const Known &known : known_kernels()) {
        if (strcmp(known.name, name) == 0) return known.kinds;
    }
    return nullptr;
}

extern "C" void emulate(const char *name, const unsigned *blocks, unsigned threads, unsigned shared, void **arguments) {
    const size_t page = 4096, room = (shared + page) / page * page;
    char *pages = (char *)mmap(nullptr, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages + room, page, PROT_NONE);
    memset(pages, 0xff, room);
    emulated_shared = (unsigned char *)(pages + room - (shared + 15) / 16 * 16);
    for (const Known &known : known_kernels()) {
        if (strcmp(known.name, name) == 0) emulated_body = known.call;
    }
    emulated_arguments = arguments;
    gridDim = {blocks[0], blocks[1], blocks[2]};
    blockDim = {threads, 1, 1};
    for (unsigned z = 0; z < blocks[2]; z++) {
        for (unsigned y = 0; y < blocks[1]; y++) {
            for (unsigned x = 0; x < blocks[0]; x++) {
                blockIdx = {x, y, z};
                run_block(threads);
            }
        }
    }
    munmap(pages, room + page);
}
