/* A plugin for qemu that counts how often the guest runs each block of instructions, by thread.
 *
 *     cc -shared -fPIC -O2 -o count.so count.c
 *     qemu-aarch64 -plugin ./count.so,out=FILE[,enter=NAME][,lines=on] -d plugin PROGRAM
 *
 * FILE is for emulator.py, a word at a time; numbers are hexadecimal:
 *
 *     section SECTION              what follows ran before the next section began, the first one from the start
 *     ran BLOCK THREAD TIMES
 *     block BLOCK PLACE WORD...    where the block is in this process, and its instructions
 *     map LINE                     a line of this process's memory map
 *
 * A section begins each time that a function of the program begins whose name has NAME in it, and with `lines`, at each
 * write to standard output. At both, other threads are taken to be idle.
 *
 * Debian packages no header for plugins: what is used of the interface, version 1, is declared here as in
 * qemu-plugin.h of qemu 7.2. */

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned int, void *),
                                                 enum qemu_plugin_cb_flags, void *);
extern void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, unsigned int, int64_t, uint64_t,
                                                 uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *);
extern const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *);

EXPORT int qemu_plugin_version = 1;

/* Threads at most, over a program's whole life: qemu numbers them as they come. */
#define THREADS 64
/* write of aarch64 Linux, and its first argument. */
#define WRITE 64
#define STANDARD_OUTPUT 1

struct block {
    struct block *next;
    uint64_t number;
    void *place;
    int enters;
    size_t length;
    uint32_t *words;
    /* Each thread adds to its own, so that none waits. */
    uint64_t ran[THREADS];
    uint64_t told[THREADS];
};

static struct block *blocks;
static uint64_t block_count;
static uint64_t sections;
static FILE *out;
static char *entered;
/* The function's code, a block at a time: the first block of it that is met is where it begins. */
static void *entry;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Writes what ran since the last time. */
static void end_section(void) {
    pthread_mutex_lock(&lock);
    fprintf(out, "section %" PRIx64 "\n", sections++);
    for (struct block *block = blocks; block; block = block->next) {
        for (unsigned thread = 0; thread < THREADS; thread++) {
            uint64_t ran = block->ran[thread];
            if (ran != block->told[thread]) {
                fprintf(out, "ran %" PRIx64 " %x %" PRIx64 "\n", block->number, thread, ran - block->told[thread]);
                block->told[thread] = ran;
            }
        }
    }
    pthread_mutex_unlock(&lock);
}

/* A block of instructions runs from its start to its end. */
static void run_block(unsigned int thread, void *data) {
    struct block *block = data;
    if (thread >= THREADS) {
        fprintf(stderr, "count.c: a program of more than %d threads\n", THREADS);
        abort();
    }
    if (block->enters) end_section();
    block->ran[thread]++;
}

static void translate_block(qemu_plugin_id_t id, struct qemu_plugin_tb *translated) {
    size_t length = qemu_plugin_tb_n_insns(translated);
    struct block *block = calloc(1, sizeof *block);
    uint32_t *words = calloc(length, sizeof *words);
    (void)id;
    if (!block || !words) abort();
    for (size_t at = 0; at < length; at++)
        memcpy(&words[at], qemu_plugin_insn_data(qemu_plugin_tb_get_insn(translated, at)), sizeof *words);
    const struct qemu_plugin_insn *first = qemu_plugin_tb_get_insn(translated, 0);
    block->place = qemu_plugin_insn_haddr(first);
    block->length = length;
    block->words = words;
    pthread_mutex_lock(&lock);
    if (entered) {
        const char *symbol = qemu_plugin_insn_symbol(first);
        if (!entry && symbol && strstr(symbol, entered)) entry = block->place;
        block->enters = block->place == entry;
    }
    block->number = block_count++;
    block->next = blocks;
    blocks = block;
    pthread_mutex_unlock(&lock);
    qemu_plugin_register_vcpu_tb_exec_cb(translated, run_block, QEMU_PLUGIN_CB_NO_REGS, block);
}

static void call_system(qemu_plugin_id_t id, unsigned int thread, int64_t number, uint64_t file, uint64_t b, uint64_t c,
                        uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    (void)id, (void)thread, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == WRITE && file == STANDARD_OUTPUT) end_section();
}

static void report(qemu_plugin_id_t id, void *data) {
    char line[4096];
    (void)id;
    (void)data;
    end_section();
    for (struct block *block = blocks; block; block = block->next) {
        fprintf(out, "block %" PRIx64 " %" PRIxPTR, block->number, (uintptr_t)block->place);
        for (size_t at = 0; at < block->length; at++) fprintf(out, " %" PRIx32, block->words[at]);
        fputc('\n', out);
    }
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps)) fprintf(out, "map %s", line);
    if (fclose(out)) perror("count.c: writing the counts");
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv) {
    (void)info;
    for (int at = 0; at < argc; at++) {
        if (!strncmp(argv[at], "out=", 4)) out = fopen(argv[at] + 4, "w");
        if (!strncmp(argv[at], "enter=", 6)) entered = strdup(argv[at] + 6);
        if (!strcmp(argv[at], "lines=on")) qemu_plugin_register_vcpu_syscall_cb(id, call_system);
    }
    if (!out) {
        fprintf(stderr, "count.c: name a file that can be written, out=FILE\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate_block);
    qemu_plugin_register_atexit_cb(id, report, NULL);
    return 0;
}
