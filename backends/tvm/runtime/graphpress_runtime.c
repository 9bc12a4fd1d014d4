/* One parallel region per run and no barrier of threads: a step is done when its tasks are done, so that a worker which
   the scheduler took away holds nobody up unless it holds tasks. Each thread claims tasks of its own share first, whose
   inputs lie in its cache, then of the others'. A claim is a compare-and-swap on (run, next task): who comes late from
   an earlier run fails it and leaves. Workers sleep between runs. No memory is allocated while a run lasts. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "graphpress_runtime.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "graphpress_platform.h"
#include "graphpress_processor.h"

enum { GRAINS = 4, SPINS = 300, LINE = 64, PAGE = 4096, SUMMED = 16384 };

typedef struct {
    _Alignas(LINE) _Atomic uint64_t next; /* run << 32 | next task */
} claim;

typedef struct {
    _Alignas(LINE) _Atomic uint32_t done;
    _Atomic uint32_t waiting;
} progress;

/* Read once, by all instances that share them. */
typedef struct {
    const uint8_t *bytes;
    region memory; /* empty where the bytes are the caller's */
    _Atomic uint32_t users;
} shared_weights;

typedef struct instance instance;

/* Of a stage: rows [base, base + room) lie in memory, those before done are computed. */
typedef struct {
    int32_t base, done;
} kept_rows;

typedef struct {
    _Alignas(LINE) instance *owner;
    int number;
    system_thread thread;
    uint8_t *scratch;
    kept_rows kept[GRAPHPRESS_MAX_STAGES]; /* of the stripes that it computed last: a step of a run, up to a task */
    const graphpress_step *step;
    int64_t next;
    uint32_t run;
} worker;

/* Lies at the start of its own region, in front of its tables. */
struct instance {
    graphpress_instance view; /* first: a pointer to one is a pointer to the other */
    const graphpress_model *model;
    shared_weights *weights;
    region memory, arena, copies; /* copies: of tensors whose ends must not be passed, or whose extents are open */
    uint8_t **buffers;
    const void **inputs;
    void **outputs;
    int32_t *sizes, *extents; /* of this run */
    _Atomic int32_t *tasks;   /* [step]: of an image */
    worker *workers;    /* [thread]; the first is who calls */
    claim *claims;      /* [step][thread] */
    progress *progress; /* [step] */
    waiting_room room;
    uint64_t process;
    int thread_count, started, max_images;
    _Alignas(LINE) _Atomic uint32_t run; /* odd while the tables are being prepared */
    _Atomic uint32_t images, ends, busy;
};

/* -- tasks -------------------------------------------------------------------------------------------------------- */

static int64_t share(int64_t tasks, int thread, int threads) { return tasks * thread / threads; }

static void finish(instance *self, progress *step, uint32_t count, uint32_t tasks) {
    uint32_t done = atomic_fetch_add(&step->done, count) + count;
    if (done == tasks && atomic_load(&step->waiting)) wake(&self->room, &step->done);
}

/* -- stripes: tiles of rows of the last stage, and what they take of the stages before ------------------------------ */

typedef struct {
    int32_t first, last;
} row_range;

static int32_t tiles_of(const graphpress_stage *stage) { return (stage->height + stage->rows - 1) / stage->rows; }

/* Of an image. */
static int64_t stage_tasks(const graphpress_step *step, int number) {
    const graphpress_stage *stage = step->stages + number, *last = step->stages + step->stage_count - 1;
    return (int64_t)(step->tasks / tiles_of(last)) * tiles_of(stage) * stage->tasks;
}

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }
static int32_t greatest(int32_t a, int32_t b) { return a > b ? a : b; }

/* Which rows each stage computes for a tile, and which rows of it the next stage reads, now or later. */
static void find_rows(const graphpress_step *step, int32_t tile, const kept_rows *kept, int goes_on,
                      row_range *computed, row_range *read) {
    const graphpress_stage *stage = step->stages + step->stage_count - 1;
    row_range wanted = {tile * stage->rows, least((tile + 1) * stage->rows, stage->height)};
    for (int32_t number = step->stage_count - 1; number >= 0; number--, stage--) {
        int32_t begin = greatest(wanted.first, 0) / stage->rows * stage->rows;
        int32_t tiles = (greatest(wanted.last, 0) + stage->rows - 1) / stage->rows;
        read[number] = wanted;
        computed[number] = (row_range){goes_on ? kept[number].done : begin, least(tiles * stage->rows, stage->height)};
        wanted.first = computed[number].first * stage->stride - stage->before;
        wanted.last = (computed[number].last - 1) * stage->stride - stage->before + stage->span;
    }
}

static void fill_rows(const graphpress_stage *stage, uint8_t *memory, int32_t first, int32_t last) {
    if (first < last)
        memset(memory + (size_t)first * stage->row_bytes, stage->fill, (size_t)(last - first) * stage->row_bytes);
}

static void fill_sides(const graphpress_stage *stage, uint8_t *memory) {
    for (int32_t row = 0; row < stage->room; row++, memory += stage->row_bytes) {
        memset(memory, stage->fill, stage->left_bytes);
        memset(memory + stage->row_bytes - stage->right_bytes, stage->fill, stage->right_bytes);
    }
}

/* Make room for the rows of a stage that are computed and read next, and fill the padding among them. */
static void keep_rows(const graphpress_stage *stage, uint8_t *memory, kept_rows *kept, int goes_on, row_range computed,
                      row_range read) {
    int32_t last = greatest(computed.last, read.last);
    if (!goes_on) {
        kept->base = least(read.first, computed.first);
        fill_sides(stage, memory);
        fill_rows(stage, memory, 0, -kept->base);
    } else if (last - kept->base > stage->room) {
        int32_t base = least(read.first, kept->done);
        memmove(memory, memory + (size_t)(base - kept->base) * stage->row_bytes,
                (size_t)(kept->done - base) * stage->row_bytes);
        kept->base = base;
    }
    kept->done = computed.last;
    fill_rows(stage, memory, greatest(stage->height - kept->base, 0), read.last - kept->base);
}

static void compute_tile(worker *self, const graphpress_step *step, int32_t image, int32_t tile, int goes_on) {
    row_range computed[GRAPHPRESS_MAX_STAGES], read[GRAPHPRESS_MAX_STAGES];
    uint8_t *rows[GRAPHPRESS_MAX_STAGES];
    find_rows(step, tile, self->kept, goes_on, computed, read);
    for (int32_t number = 0; number < step->stage_count; number++) {
        const graphpress_stage *stage = step->stages + number;
        row_range of = computed[number];
        if (stage->room) {
            uint8_t *memory = self->scratch + stage->offset;
            keep_rows(stage, memory, self->kept + number, goes_on, of, read[number]);
            intptr_t before = (intptr_t)self->kept[number].base * (intptr_t)stage->row_bytes;
            before += (intptr_t)(stage->top_bytes + (size_t)image * stage->image_bytes);
            rows[number] = (uint8_t *)((intptr_t)memory - before);
        } else {
            self->kept[number].done = of.last;
        }
        if (of.first >= of.last) continue;
        int32_t first = image * tiles_of(stage) + of.first / stage->rows;
        int32_t last = image * tiles_of(stage) + (of.last + stage->rows - 1) / stage->rows;
        stage->compute(&self->owner->view, rows, first * stage->tasks, last * stage->tasks);
    }
}

/* Tasks [first, last) of a step by stripes: whoever goes on where he stopped has rows that the next tile reads again. */
static void compute_stripes(worker *self, const graphpress_step *step, uint32_t run, int32_t first, int32_t last) {
    int32_t tiles = tiles_of(step->stages + step->stage_count - 1);
    int goes_on = self->step == step && self->run == run && self->next == first;
    for (int32_t task = first; task < last; task++, goes_on = 1)
        compute_tile(self, step, task / tiles, task % tiles, goes_on && task % tiles);
    self->step = step;
    self->run = run;
    self->next = last;
}

/* -- shares ------------------------------------------------------------------------------------------------------- */

/* Compute what is left of one thread's share; 0 when the run is over. */
static int take(instance *self, int thread, int index, int owner, uint32_t run, int64_t tasks) {
    const graphpress_step *step = self->model->steps + index;
    _Atomic uint64_t *next = &self->claims[(size_t)index * (size_t)self->thread_count + owner].next;
    int64_t end = share(tasks, owner + 1, self->thread_count);
    int64_t grain = (end - share(tasks, owner, self->thread_count) + GRAINS - 1) / GRAINS;
    uint64_t current = atomic_load_explicit(next, memory_order_acquire);
    for (;;) {
        if ((uint32_t)(current >> 32) != run) return 0;
        int64_t first = (uint32_t)current, last = first + grain < end ? first + grain : end;
        if (first >= end) return 1;
        if (!atomic_compare_exchange_weak(next, &current, (uint64_t)run << 32 | (uint64_t)last)) continue;
        if (step->stages)
            compute_stripes(self->workers + thread, step, run, (int32_t)first, (int32_t)last);
        else
            step->compute(&self->view, (int32_t)first, (int32_t)last);
        finish(self, self->progress + index, (uint32_t)(last - first), (uint32_t)tasks);
        current = atomic_load_explicit(next, memory_order_acquire);
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
        if (done != tasks && atomic_load(&self->run) == run) sleep_while(&self->room, &step->done, done);
        atomic_fetch_sub(&step->waiting, 1);
    }
}

/* All steps of a run; says when each was done, to whoever asks. */
static void work(instance *self, int thread, uint32_t run, uint64_t *done_at) {
    /* Acquired: whoever sees the images of a later run sees its claims, too, and leaves. */
    int64_t images = atomic_load_explicit(&self->images, memory_order_acquire);
    for (int index = 0; index < self->model->step_count; index++) {
        int64_t tasks = images * self->tasks[index];
        for (int other = 0; other < self->thread_count; other++)
            if (!take(self, thread, index, (thread + other) % self->thread_count, run, tasks)) return;
        if (!await_step(self, index, run, (uint32_t)tasks)) return;
        if (done_at) done_at[index] = nanoseconds();
    }
}

static thread_result THREAD_CALL serve(void *argument) {
    const worker *self = argument;
    instance *owner = self->owner;
    uint32_t seen = 0;
    for (;;) {
        uint32_t run;
        int spins = 0;
        while ((run = atomic_load_explicit(&owner->run, memory_order_acquire)) == seen || run & 1) {
            if (atomic_load(&owner->ends)) return 0;
            if (++spins < SPINS)
                relax();
            else
                sleep_while(&owner->room, &owner->run, run);
        }
        seen = run;
        work(owner, self->number, run, NULL);
    }
}

static size_t room_of(const graphpress_input *input, int images) {
    return (input->bytes * (size_t)images + input->slack + LINE - 1) / LINE * LINE;
}

/* -- open sizes ---------------------------------------------------------------------------------------------------- */

/* Memory is laid out for the largest tensors: samples of others are copied row by row, for as long as rows are alike. */
static void copy_sample(uint8_t *room, uint8_t *dense, const graphpress_input *of, const int32_t *extents, int fills) {
    int inner = of->rank - 1;
    while (inner > 0 && extents[inner] == of->largest[inner]) inner--;
    size_t row = (size_t)of->element, apart = (size_t)of->element, rows = 1;
    for (int axis = inner; axis < of->rank; axis++) row *= (size_t)extents[axis], apart *= (size_t)of->largest[axis];
    for (int axis = 0; axis < inner; axis++) rows *= (size_t)extents[axis];
    for (size_t number = 0; number < rows; number++) {
        size_t rest = number, offset = 0, step = apart;
        for (int axis = inner - 1; axis >= 0; axis--) {
            offset += rest % (size_t)extents[axis] * step;
            rest /= (size_t)extents[axis];
            step *= (size_t)of->largest[axis];
        }
        if (fills)
            memcpy(room + offset, dense + number * row, row);
        else
            memcpy(dense + number * row, room + offset, row);
    }
}

/* All samples of a tensor, into the room of the largest or out of it. */
static void copy_samples(uint8_t *room, uint8_t *dense, const graphpress_input *of, const int32_t *extents, int images,
                         int fills) {
    size_t bytes = (size_t)of->element;
    for (int axis = 0; axis < of->rank; axis++) bytes *= (size_t)extents[axis];
    for (int image = 0; image < images; image++)
        copy_sample(room + (size_t)image * of->bytes, dense + (size_t)image * bytes, of, extents, fills);
}

/* Whoever sees the numbers of tasks of a later run sees that the claims of an earlier one are over, and takes nothing:
   the number of a run that is being prepared is odd, that of a worker's run never is. */
static void end_claims(instance *self, uint32_t preparing) {
    size_t count = (size_t)self->model->step_count * (size_t)self->thread_count;
    for (size_t number = 0; number < count; number++)
        atomic_store_explicit(&self->claims[number].next, (uint64_t)preparing << 32, memory_order_relaxed);
}

/* Take the sizes of a run: NULL for the largest. 0 if one is out of range. */
static int take_sizes(instance *self, const int32_t *sizes, uint32_t preparing) {
    const graphpress_model *model = self->model;
    for (int number = 0; number < model->size_count; number++) {
        const graphpress_size *limits = model->sizes + number;
        int32_t size = sizes ? sizes[number] : limits->largest;
        if (size < limits->smallest || size > limits->largest) return 0;
    }
    for (int number = 0; number < model->size_count; number++)
        self->sizes[number] = sizes ? sizes[number] : model->sizes[number].largest;
    if (model->measure) {
        end_claims(self, preparing);
        model->measure(self->sizes, self->tasks, self->extents); /* its stores release: they come behind the claims' */
    }
    return 1;
}

static void prepare(instance *self, uint32_t run, int images) {
    for (int index = 0; index < self->model->step_count; index++) {
        int64_t tasks = (int64_t)images * self->tasks[index];
        atomic_store_explicit(&self->progress[index].done, 0, memory_order_relaxed);
        for (int thread = 0; thread < self->thread_count; thread++)
            atomic_store_explicit(&self->claims[(size_t)index * (size_t)self->thread_count + thread].next,
                                  (uint64_t)run << 32 | (uint64_t)share(tasks, thread, self->thread_count),
                                  memory_order_relaxed);
    }
    atomic_store_explicit(&self->images, (uint32_t)images, memory_order_release);
}

/* What lies behind an input belongs to others: where its last page does not reach so far, a copy is read. */
static void take_tensors(instance *self, int images, const void *const *inputs, void *const *outputs) {
    uint8_t *copy = self->copies.start;
    const int32_t *extents = self->extents;
    for (int number = 0; number < self->model->input_count; number++) {
        const graphpress_input *input = self->model->inputs + number;
        size_t bytes = input->bytes * (size_t)images, beyond = ((uintptr_t)inputs[number] + bytes) % PAGE;
        self->inputs[number] = inputs[number];
        if (!input->slack && !input->largest) continue;
        if (input->largest) {
            self->inputs[number] = copy;
            copy_samples(copy, (uint8_t *)inputs[number], input, extents, images, 1);
            extents += input->rank;
        } else if (!beyond || beyond + input->slack > PAGE) self->inputs[number] = memcpy(copy, inputs[number], bytes);
        copy += room_of(input, self->max_images);
    }
    for (int number = 0; number < self->model->output_count; number++) {
        const graphpress_output *output = self->model->outputs + number;
        self->outputs[number] = output->largest ? (void *)copy : outputs[number];
        if (output->largest) copy += room_of(output, self->max_images);
    }
}

/* The outputs whose extents are open, to where the caller wants them. */
static void give_outputs(instance *self, int images, void *const *outputs) {
    const int32_t *extents = self->extents;
    for (int number = 0; number < self->model->input_count; number++)
        if (self->model->inputs[number].largest) extents += self->model->inputs[number].rank;
    for (int number = 0; number < self->model->output_count; number++) {
        const graphpress_output *output = self->model->outputs + number;
        if (!output->largest) continue;
        copy_samples(self->outputs[number], outputs[number], output, extents, images, 0);
        extents += output->rank;
    }
}

/* sizes: NULL for the largest. done_at: NULL, or where to write the time at which each step was done. */
static int graphpress_run_sized(graphpress_instance *view, int images, const int32_t *sizes, const void *const *inputs,
                                void *const *outputs, uint64_t *done_at) {
    instance *self = (instance *)view;
    if (!self || !inputs || !outputs || images < 1 || images > self->max_images) return GRAPHPRESS_ARGUMENT;
    if (atomic_exchange(&self->busy, 1)) return GRAPHPRESS_BUSY;
    uint32_t preparing = atomic_load(&self->run) + 1, run = preparing + 1;
    atomic_store(&self->run, preparing);
    if (!take_sizes(self, sizes, preparing)) {
        atomic_store(&self->run, run);
        atomic_store(&self->busy, 0);
        return GRAPHPRESS_SIZE;
    }
    take_tensors(self, images, inputs, outputs);
    view->inputs = self->inputs;
    view->outputs = self->model->size_count ? self->outputs : outputs;
    prepare(self, run, images);
    atomic_store(&self->run, run);
    if (self->started) wake(&self->room, &self->run);
    work(self, 0, run, done_at);
    give_outputs(self, images, outputs);
    atomic_store(&self->busy, 0);
    return GRAPHPRESS_OK;
}

static int graphpress_run(graphpress_instance *view, int images, const void *const *inputs, void *const *outputs,
                          uint64_t *done_at) {
    return graphpress_run_sized(view, images, NULL, inputs, outputs, done_at);
}

/* -- weights ------------------------------------------------------------------------------------------------------ */

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

static int read_whole(FILE *file, uint8_t *into, size_t bytes) {
    setvbuf(file, NULL, _IONBF, 0);
    if (fread(into, 1, bytes, file) == bytes && fgetc(file) == EOF && !ferror(file)) return GRAPHPRESS_OK;
    return ferror(file) ? GRAPHPRESS_FILE : GRAPHPRESS_WEIGHTS;
}

static int load_file(FILE *file, size_t bytes, region *loaded) {
    if (maps_files()) {
        *loaded = map_file(file, bytes);
        return loaded->start ? GRAPHPRESS_OK : GRAPHPRESS_WEIGHTS;
    }
    *loaded = reserve(bytes);
    return loaded->start ? read_whole(file, loaded->start, bytes) : GRAPHPRESS_MEMORY;
}

static void release_weights(shared_weights *weights) {
    if (!weights || atomic_fetch_sub(&weights->users, 1) > 1) return;
    release(weights->memory);
    free(weights);
}

/* path: of their file; NULL where the bytes are the caller's. */
static int load_weights(const graphpress_model *model, const char *path, const uint8_t *bytes,
                        shared_weights **loaded) {
    shared_weights *weights = calloc(1, sizeof *weights);
    if (!weights) return GRAPHPRESS_MEMORY;
    int result = GRAPHPRESS_OK;
    atomic_store(&weights->users, 1);
    weights->bytes = bytes;
    if (path) {
        FILE *file = open_file(path);
        result = file ? load_file(file, model->weights_bytes, &weights->memory) : GRAPHPRESS_FILE;
        if (file) fclose(file);
        weights->bytes = weights->memory.start;
    }
    if (!result && checksum(weights->bytes, model->weights_bytes) != model->weights_checksum)
        result = GRAPHPRESS_WEIGHTS;
    if (!result)
        *loaded = weights;
    else
        release_weights(weights);
    return result;
}

/* -- instances ---------------------------------------------------------------------------------------------------- */

static void graphpress_destroy(graphpress_instance *view) {
    instance *self = (instance *)view;
    if (!self) return;
    atomic_store(&self->ends, 1);
    atomic_fetch_add(&self->run, 1);
    wake(&self->room, &self->run);
    if (self->process == process_number()) /* a forked process has no workers */
        for (int number = 1; number <= self->started; number++) join_thread(self->workers[number].thread);
    close_room(&self->room);
    release_weights(self->weights);
    release(self->copies);
    release(self->arena);
    release(self->memory);
}

/* The next part of a region. */
static void *carve(uint8_t **rest, size_t count, size_t size) {
    void *part = *rest;
    *rest += (count * size + LINE - 1) / LINE * LINE;
    return part;
}

static instance *new_instance(const graphpress_model *model, int threads, int max_images) {
    size_t steps = (size_t)model->step_count, buffers = (size_t)model->buffer_count, workers = (size_t)threads;
    size_t inputs = (size_t)model->input_count, outputs = (size_t)model->output_count;
    size_t sizes = (size_t)model->size_count, extents = (size_t)model->extent_count;
    size_t tables = (buffers + inputs + outputs) * sizeof(void *) + workers * sizeof(worker) + steps * sizeof(progress) +
                    steps * workers * sizeof(claim) + (sizes + steps + extents) * sizeof(int32_t);
    region memory = reserve(sizeof(instance) + tables + 9 * LINE);
    instance *self = memory.start;
    if (!self) return NULL;
    uint8_t *rest = (uint8_t *)(self + 1);
    self->buffers = carve(&rest, buffers, sizeof *self->buffers);
    self->inputs = carve(&rest, inputs, sizeof *self->inputs);
    self->outputs = carve(&rest, outputs, sizeof *self->outputs);
    self->sizes = carve(&rest, sizes, sizeof *self->sizes);
    self->tasks = carve(&rest, steps, sizeof *self->tasks);
    self->extents = carve(&rest, extents, sizeof *self->extents);
    self->workers = carve(&rest, workers, sizeof *self->workers);
    self->progress = carve(&rest, steps, sizeof *self->progress);
    self->claims = carve(&rest, steps * workers, sizeof *self->claims);
    self->memory = memory;
    self->model = model;
    self->thread_count = threads;
    self->max_images = max_images;
    self->process = process_number();
    self->view.sizes = self->sizes;
    for (int index = 0; index < model->step_count; index++) self->tasks[index] = model->steps[index].tasks;
    open_room(&self->room);
    return self;
}

static int place_buffers(instance *self) {
    const graphpress_model *model = self->model;
    size_t images = (size_t)self->max_images;
    size_t copied = 0;
    for (int number = 0; number < model->input_count; number++)
        if (model->inputs[number].slack || model->inputs[number].largest)
            copied += room_of(model->inputs + number, self->max_images);
    for (int number = 0; number < model->output_count; number++)
        if (model->outputs[number].largest) copied += room_of(model->outputs + number, self->max_images);
    size_t scratch = model->scratch_bytes * (size_t)self->thread_count;
    self->arena = reserve(LINE + model->arena_bytes * images + scratch + GRAPHPRESS_SLACK);
    if (copied) self->copies = reserve(copied);
    if (!self->arena.start || (copied && !self->copies.start)) return GRAPHPRESS_MEMORY;
    for (int number = 0; number < model->buffer_count; number++) {
        const graphpress_buffer *buffer = model->buffers + number;
        self->buffers[number] = (uint8_t *)self->arena.start + LINE + buffer->offset * images;
        if (buffer->fill) memset(self->buffers[number], buffer->fill, buffer->bytes * images);
    }
    for (int number = 0; number < self->thread_count; number++) {
        worker *each = self->workers + number;
        each->owner = self;
        each->number = number;
        each->scratch = (uint8_t *)self->arena.start + LINE + model->arena_bytes * images +
                        model->scratch_bytes * (size_t)number;
    }
    return GRAPHPRESS_OK;
}

static int start_workers(instance *self) {
    for (int number = 1; number < self->thread_count; number++) {
        worker *started = self->workers + number;
        if (!start_thread(&started->thread, serve, started)) return GRAPHPRESS_THREADS;
        self->started = number;
    }
    return GRAPHPRESS_OK;
}

/* Whether numbers of tasks and bytes stay within their types. */
static int fits(const graphpress_model *model, int max_images) {
    size_t largest = model->arena_bytes;
    for (int number = 0; number < model->input_count; number++)
        if (model->inputs[number].bytes > largest) largest = model->inputs[number].bytes;
    for (int number = 0; number < model->output_count; number++)
        if (model->outputs[number].bytes > largest) largest = model->outputs[number].bytes;
    if (largest > SIZE_MAX / 1024 / (size_t)max_images) return 0;
    for (int index = 0; index < model->step_count; index++) {
        const graphpress_step *step = model->steps + index;
        if (step->tasks > INT32_MAX / max_images) return 0;
        for (int number = 0; number < step->stage_count; number++)
            if (stage_tasks(step, number) > INT32_MAX / max_images) return 0;
    }
    return 1;
}

/* The number-th feature that this processor lacks; NULL when there are no more. */
static const char *graphpress_missing_feature(const graphpress_model *model, int number) {
    for (const char *const *feature = model->features; *feature; feature++)
        if (!has_feature(*feature) && !number--) return *feature;
    return NULL;
}

/* Takes the weights over, also when it fails. */
static int create(const graphpress_model *model, shared_weights *weights, int threads, int max_images,
                  graphpress_instance **created) {
    instance *self = new_instance(model, threads, max_images);
    if (!self) {
        release_weights(weights);
        return GRAPHPRESS_MEMORY;
    }
    self->weights = weights;
    self->view.weights = weights->bytes;
    self->view.buffers = self->buffers;
    int result = place_buffers(self);
    if (!result) result = start_workers(self);
    if (!result)
        *created = &self->view;
    else
        graphpress_destroy(&self->view);
    return result;
}

static int in_range(const graphpress_model *model, int threads, int max_images) {
    return threads >= 1 && threads <= GRAPHPRESS_MAX_THREADS && max_images >= 1 && max_images <= model->largest_batch &&
           fits(model, max_images);
}

/* path: of the weights; NULL for bytes in memory, which stay the caller's, begin at a multiple of 64, and outlive all
   instances. threads: 1 starts none. max_images: the largest batch. */
static int graphpress_create(const graphpress_model *model, const char *path, const uint8_t *bytes, int threads,
                             int max_images, graphpress_instance **created) {
    shared_weights *weights = NULL;
    if (!created) return GRAPHPRESS_ARGUMENT;
    *created = NULL;
    if (!(path || bytes) || (uintptr_t)bytes % LINE) return GRAPHPRESS_ARGUMENT;
    if (!in_range(model, threads, max_images)) return GRAPHPRESS_ARGUMENT;
    if (graphpress_missing_feature(model, 0)) return GRAPHPRESS_CPU;
    int result = load_weights(model, path, bytes, &weights);
    return result ? result : create(model, weights, threads, max_images, created);
}

/* One more instance, with the weights of another. */
static int graphpress_share(graphpress_instance *other, int threads, int max_images, graphpress_instance **created) {
    const instance *self = (const instance *)other;
    if (!created) return GRAPHPRESS_ARGUMENT;
    *created = NULL;
    if (!self || !in_range(self->model, threads, max_images)) return GRAPHPRESS_ARGUMENT;
    atomic_fetch_add(&self->weights->users, 1);
    return create(self->model, self->weights, threads, max_images, created);
}

static const char *graphpress_error_text(int code) {
    static const char *const TEXTS[] = {
        "no error",
        "an argument is out of range, or a null pointer",
        "memory ran out",
        "the file of weights cannot be read",
        "the weights are damaged, or another model's",
        "no thread could be started",
        "the processor lacks instructions that the model uses",
        "the instance is running already",
        "a sequence is longer than the model was compiled for, or shorter than it takes",
    };
    return code >= 0 && code < (int)(sizeof TEXTS / sizeof *TEXTS) ? TEXTS[code] : "unknown error";
}
