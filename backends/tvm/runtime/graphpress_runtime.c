/* One parallel region per run and no barrier of threads: a step is done when its tasks are done, so that a worker which
   the scheduler took away holds nobody up unless it holds tasks. Each thread claims tasks of its own share first, whose
   inputs lie in its cache, then of the others'. A claim is a compare-and-swap on (run, next task): who comes late from
   an earlier run fails it and leaves. Workers sleep between runs. */
#define _GNU_SOURCE
#include "graphpress_runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#endif

enum { MAX_THREADS = 64, GRAINS = 4, SPINS = 300, LINE = 64, HUGE_PAGE = 2 << 20, SUMMED = 16384 };

typedef struct {
    _Alignas(LINE) _Atomic uint64_t next; /* run << 32 | next task */
} claim;

typedef struct {
    _Alignas(LINE) _Atomic uint32_t done;
    _Atomic uint32_t waiting;
} progress;

typedef struct {
    graphpress_instance public; /* first: a pointer to one is a pointer to the other */
    const graphpress_model *model;
    uint8_t *arena, *weights;
    size_t arena_bytes, weights_bytes;
    uint8_t **buffers;
    claim *claims;      /* [step][thread] */
    progress *progress; /* [step] */
    pthread_t threads[MAX_THREADS];
    int thread_count, started, max_images;
    _Atomic uint32_t run; /* odd while the tables are being prepared */
    _Atomic uint32_t images;
    _Atomic uint32_t ends;
} instance;

typedef struct {
    instance *self;
    int number;
} worker;

/* -- waiting -------------------------------------------------------------------------------------------------------- */

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#ifdef __linux__
static void sleep_while(_Atomic uint32_t *word, uint32_t value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(_Atomic uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0); }
#else
#include <sched.h>
static void sleep_while(_Atomic uint32_t *word, uint32_t value) {
    if (atomic_load(word) == value) sched_yield();
}

static void wake(_Atomic uint32_t *word) { (void)word; }
#endif

/* -- tasks ---------------------------------------------------------------------------------------------------------- */

static int64_t share(int64_t tasks, int thread, int threads) { return tasks * thread / threads; }

static void finish(progress *step, uint32_t count, uint32_t tasks) {
    uint32_t done = atomic_fetch_add(&step->done, count) + count;
    if (done == tasks && atomic_load(&step->waiting)) wake(&step->done);
}

/* Compute what is left of one thread's share; 0 when the run is over. */
static int take(instance *self, int index, int owner, uint32_t run, int64_t tasks) {
    const graphpress_step *step = self->model->steps + index;
    claim *claim = self->claims + (size_t)index * self->thread_count + owner;
    int64_t end = share(tasks, owner + 1, self->thread_count);
    int64_t grain = (end - share(tasks, owner, self->thread_count) + GRAINS - 1) / GRAINS;
    uint64_t current = atomic_load_explicit(&claim->next, memory_order_acquire);
    for (;;) {
        if ((uint32_t)(current >> 32) != run) return 0;
        int64_t first = (uint32_t)current, last = first + grain < end ? first + grain : end;
        if (first >= end) return 1;
        if (!atomic_compare_exchange_weak(&claim->next, &current, (uint64_t)run << 32 | (uint64_t)last)) continue;
        step->compute(&self->public, (int32_t)first, (int32_t)last);
        finish(self->progress + index, (uint32_t)(last - first), (uint32_t)tasks);
        current = atomic_load_explicit(&claim->next, memory_order_acquire);
    }
}

/* Wait until the others have done their tasks of a step; 0 when the run is over. */
static int await_step(instance *self, int index, uint32_t run, uint32_t tasks) {
    progress *step = self->progress + index;
    for (int spins = 0;; spins++) {
        uint32_t done = atomic_load_explicit(&step->done, memory_order_acquire);
        if (done == tasks) return 1;
        if (atomic_load_explicit(&self->run, memory_order_acquire) != run) return 0;
        if (spins < SPINS) {
            relax();
            continue;
        }
        atomic_fetch_add(&step->waiting, 1);
        done = atomic_load(&step->done);
        if (done != tasks && atomic_load(&self->run) == run) sleep_while(&step->done, done);
        atomic_fetch_sub(&step->waiting, 1);
    }
}

static void work(instance *self, int thread, uint32_t run) {
    int64_t images = atomic_load_explicit(&self->images, memory_order_relaxed);
    for (int index = 0; index < self->model->step_count; index++) {
        int64_t tasks = images * self->model->steps[index].tasks;
        for (int other = 0; other < self->thread_count; other++)
            if (!take(self, index, (thread + other) % self->thread_count, run, tasks)) return;
        if (!await_step(self, index, run, (uint32_t)tasks)) return;
    }
}

static void *serve(void *argument) {
    worker *self = argument;
    instance *owner = self->self;
    int number = self->number;
    uint32_t seen = 0;
    free(self);
    for (;;) {
        uint32_t run;
        int spins = 0;
        while ((run = atomic_load_explicit(&owner->run, memory_order_acquire)) == seen || run & 1) {
            if (atomic_load(&owner->ends)) return NULL;
            if (++spins < SPINS)
                relax();
            else
                sleep_while(&owner->run, run);
        }
        seen = run;
        work(owner, number, run);
    }
}

/* -- instances ------------------------------------------------------------------------------------------------------ */

static uint8_t *reserve(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
    if (bytes >= HUGE_PAGE) madvise(memory, bytes, MADV_HUGEPAGE); /* where the system gives none, small ones do */
#endif
    return memory;
}

/* Fletcher's sum over 32-bit words: finds a truncated, exchanged or damaged file; no defense against forgery. */
static uint64_t checksum(const uint8_t *bytes, size_t count) {
    uint64_t low = 0, high = 0;
    for (size_t start = 0; start + 4 <= count; start += 4 * SUMMED) {
        for (size_t place = start; place + 4 <= count && place < start + 4 * SUMMED; place += 4) {
            uint32_t word;
            memcpy(&word, bytes + place, sizeof word);
            low += word;
            high += low;
        }
        low %= UINT32_MAX;
        high %= UINT32_MAX;
    }
    return high << 32 | low;
}

static int read_all(int file, uint8_t *bytes, size_t count) {
    while (count) {
        ssize_t got = read(file, bytes, count);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return GRAPHPRESS_FILE;
        bytes += got;
        count -= (size_t)got;
    }
    return GRAPHPRESS_OK;
}

static int load_weights(instance *self, const char *path) {
    const graphpress_model *model = self->model;
    struct stat status;
    int file = open(path, O_RDONLY), result = GRAPHPRESS_FILE;
    if (file < 0) return GRAPHPRESS_FILE;
    if (!fstat(file, &status))
        result = (size_t)status.st_size == model->weights_bytes ? GRAPHPRESS_OK : GRAPHPRESS_WEIGHTS;
    if (!result) result = read_all(file, self->weights, model->weights_bytes);
    close(file);
    if (!result && checksum(self->weights, model->weights_bytes) != model->weights_checksum) result = GRAPHPRESS_WEIGHTS;
    return result;
}

static int allocate(instance *self) {
    const graphpress_model *model = self->model;
    size_t steps = (size_t)model->step_count, buffers = (size_t)model->buffer_count;
    self->arena_bytes = model->arena_bytes * (size_t)self->max_images + HUGE_PAGE;
    self->weights_bytes = model->weights_bytes + HUGE_PAGE; /* vectors may read behind the end */
    self->arena = reserve(self->arena_bytes);
    self->weights = reserve(self->weights_bytes);
    self->buffers = calloc(buffers + 1, sizeof *self->buffers);
    self->claims = aligned_alloc(LINE, (steps * (size_t)self->thread_count + 1) * sizeof *self->claims);
    self->progress = aligned_alloc(LINE, (steps + 1) * sizeof *self->progress);
    if (!self->arena || !self->weights || !self->buffers || !self->claims || !self->progress) return GRAPHPRESS_MEMORY;
    memset(self->claims, 0, steps * (size_t)self->thread_count * sizeof *self->claims);
    memset(self->progress, 0, steps * sizeof *self->progress);
    for (size_t number = 0; number < buffers; number++) {
        const graphpress_buffer *buffer = model->buffers + number;
        self->buffers[number] = self->arena + LINE + buffer->offset * (size_t)self->max_images;
        if (buffer->fill) memset(self->buffers[number], buffer->fill, buffer->bytes * (size_t)self->max_images);
    }
    return GRAPHPRESS_OK;
}

static int start_threads(instance *self) {
    for (int number = 1; number < self->thread_count; number++) {
        worker *started = malloc(sizeof *started);
        if (!started) return GRAPHPRESS_MEMORY;
        *started = (worker){self, number};
        if (pthread_create(self->threads + number, NULL, serve, started)) {
            free(started);
            return GRAPHPRESS_THREADS;
        }
        self->started = number;
    }
    return GRAPHPRESS_OK;
}

int graphpress_create(const graphpress_model *model, const char *weights_path, int threads, int max_images,
                      graphpress_instance **created) {
    if (!model || !weights_path || !created || threads < 1 || threads > MAX_THREADS || max_images < 1)
        return GRAPHPRESS_ARGUMENT;
    *created = NULL;
    if (!model->processor_fits()) return GRAPHPRESS_CPU;
    instance *self = calloc(1, sizeof *self);
    if (!self) return GRAPHPRESS_MEMORY;
    self->model = model;
    self->thread_count = threads;
    self->max_images = max_images;
    int result = allocate(self);
    if (!result) result = load_weights(self, weights_path);
    if (!result) result = start_threads(self);
    if (result) {
        graphpress_destroy(&self->public);
        return result;
    }
    self->public.weights = self->weights;
    self->public.buffers = self->buffers;
    *created = &self->public;
    return GRAPHPRESS_OK;
}

int graphpress_run(graphpress_instance *public, int images, const void *const *inputs, void *const *outputs) {
    instance *self = (instance *)public;
    if (!self || !inputs || !outputs || images < 1 || images > self->max_images) return GRAPHPRESS_ARGUMENT;
    uint32_t preparing = atomic_load(&self->run) + 1, run = preparing + 1;
    atomic_store(&self->run, preparing);
    for (int index = 0; index < self->model->step_count; index++) {
        int64_t tasks = (int64_t)images * self->model->steps[index].tasks;
        atomic_store_explicit(&self->progress[index].done, 0, memory_order_relaxed);
        for (int thread = 0; thread < self->thread_count; thread++)
            atomic_store_explicit(&self->claims[(size_t)index * self->thread_count + thread].next,
                                  (uint64_t)run << 32 | (uint64_t)share(tasks, thread, self->thread_count),
                                  memory_order_relaxed);
    }
    public->inputs = inputs;
    public->outputs = outputs;
    atomic_store_explicit(&self->images, (uint32_t)images, memory_order_relaxed);
    atomic_store(&self->run, run);
    if (self->started) wake(&self->run);
    work(self, 0, run);
    return GRAPHPRESS_OK;
}

void graphpress_destroy(graphpress_instance *public) {
    instance *self = (instance *)public;
    if (!self) return;
    atomic_store(&self->ends, 1);
    atomic_fetch_add(&self->run, 1);
    wake(&self->run);
    for (int number = 1; number <= self->started; number++) pthread_join(self->threads[number], NULL);
    if (self->arena) munmap(self->arena, self->arena_bytes);
    if (self->weights) munmap(self->weights, self->weights_bytes);
    free(self->buffers);
    free(self->claims);
    free(self->progress);
    free(self);
}
