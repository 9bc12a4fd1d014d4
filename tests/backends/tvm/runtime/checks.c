/* The runtime with a model whose kernels are C, so that sanitizers see what they read and write. Each check is named on
   the command line; exits with 0 when it holds. */
#define _GNU_SOURCE
#include "graphpress_runtime.c"

#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { STEPS = 12, WIDTH = 96, MAX_IMAGES = 3, WEIGHTS = 4096 };

#define CHECK(condition)                                                       \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "line %d: %s does not hold\n", __LINE__, #condition); \
            _exit(1);                                                          \
        }                                                                      \
    } while (0)

/* -- a model: each step mixes numbers from all over what the step before wrote --------------------------------------- */

static const int32_t TASKS[STEPS] = {1, 2, 3, 96, 7, 1, 48, 5, 32, 2, 96, 4};

static int32_t mixed(const int32_t *row, const uint32_t *weights, int step, int place) {
    uint32_t sum = (uint32_t)row[place] * 3u + (uint32_t)row[(place * 7 + step) % WIDTH];
    return (int32_t)(sum + (uint32_t)row[WIDTH - 1 - place] + weights[(step * WIDTH + place) % (WEIGHTS / 4)]);
}

static void mix(const graphpress_instance *m, int step, int32_t first, int32_t last) {
    const int32_t *source = step ? (const int32_t *)m->buffers[(step - 1) % 2] : m->inputs[0];
    int32_t *result = step < STEPS - 1 ? (int32_t *)m->buffers[step % 2] : m->outputs[0];
    for (int32_t task = first; task < last; task++) {
        int tasks = TASKS[step], image = task / tasks, part = task % tasks;
        if ((task + step) % 7 == 0) sched_yield(); /* let others go ahead */
        for (int place = WIDTH * part / tasks; place < WIDTH * (part + 1) / tasks; place++)
            result[image * WIDTH + place] =
                mixed(source + image * WIDTH, (const uint32_t *)(const void *)m->weights, step, place);
    }
}

#define STEP(number)                                                                        \
    static void step_##number(const graphpress_instance *m, int32_t first, int32_t last) { \
        mix(m, number, first, last);                                                        \
    }
STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11)

#define ROW(number, tasks) {step_##number, tasks, NULL, 0}
static const graphpress_step TABLE[STEPS] = {
    ROW(0, 1), ROW(1, 2), ROW(2, 3), ROW(3, 96), ROW(4, 7),   ROW(5, 1),
    ROW(6, 48), ROW(7, 5), ROW(8, 32), ROW(9, 2), ROW(10, 96), ROW(11, 4),
};
static const graphpress_buffer BUFFERS[] = {{0, WIDTH * 4, 0}, {WIDTH * 4, WIDTH * 4, 7}};
static const graphpress_input INPUTS[] = {{.bytes = WIDTH * 4, .slack = 64}};
static const char *const NO_FEATURES[] = {NULL};
static _Alignas(64) uint32_t weights[WEIGHTS / 4];

static graphpress_model model(void) {
    for (uint32_t place = 0; place < WEIGHTS / 4; place++) weights[place] = place * 2654435761u;
    return (graphpress_model){
        .steps = TABLE,
        .buffers = BUFFERS,
        .inputs = INPUTS,
        .features = NO_FEATURES,
        .arena_bytes = 2 * WIDTH * 4,
        .weights_bytes = WEIGHTS,
        .weights_checksum = checksum((const uint8_t *)weights, WEIGHTS),
        .step_count = STEPS,
        .buffer_count = 2,
        .input_count = 1,
        .largest_batch = INT32_MAX,
    };
}

static graphpress_instance *make(const graphpress_model *of, int threads) {
    graphpress_instance *made;
    CHECK(graphpress_create(of, NULL, (const uint8_t *)weights, threads, MAX_IMAGES, &made) == GRAPHPRESS_OK);
    return made;
}

/* Runs on numbers of one's own, and compares with what one thread computes in order. */
static void run(graphpress_instance *instance, int images, uint32_t seed) {
    int32_t input[MAX_IMAGES * WIDTH], output[MAX_IMAGES * WIDTH], rows[2][WIDTH];
    for (int place = 0; place < images * WIDTH; place++) input[place] = (int32_t)(seed += 2654435769u);
    memset(output, 0, sizeof output);
    CHECK(graphpress_run(instance, images, (const void *[]){input}, (void *[]){output}, NULL) == GRAPHPRESS_OK);
    for (int image = 0; image < images; image++) {
        memcpy(rows[1], input + image * WIDTH, sizeof *rows);
        for (int step = 0; step < STEPS; step++)
            for (int place = 0; place < WIDTH; place++)
                rows[step % 2][place] = mixed(rows[(step + 1) % 2], weights, step, place);
        CHECK(!memcmp(rows[(STEPS - 1) % 2], output + image * WIDTH, sizeof *rows));
    }
}

/* -- checks --------------------------------------------------------------------------------------------------------- */

enum { INSTANCES = 8, RUNS = 50, THREADS = 8 };

static void *run_often(void *instance) {
    for (uint32_t number = 0; number < RUNS; number++) run(instance, 1 + (int)(number % MAX_IMAGES), number);
    return NULL;
}

/* Instances of two models, some with the weights of others, each with threads of its own, side by side. */
static void instances(void) {
    graphpress_model first = model(), second = model();
    graphpress_instance *made[INSTANCES];
    pthread_t callers[INSTANCES];
    for (int number = 0; number < INSTANCES; number++) {
        if (number < 4)
            made[number] = make(number % 2 ? &first : &second, THREADS);
        else
            CHECK(!graphpress_share(made[number - 4], THREADS, MAX_IMAGES, made + number));
    }
    for (int number = 0; number < INSTANCES; number++)
        CHECK(!pthread_create(callers + number, NULL, run_often, made[number]));
    for (int number = 0; number < INSTANCES; number++) pthread_join(callers[number], NULL);
    for (int number = 0; number < INSTANCES; number++) graphpress_destroy(made[number]);
}

/* The number of the run goes round. */
static void wrap(void) {
    graphpress_model of = model();
    for (int threads = 1; threads < 4; threads++) {
        graphpress_instance *made = make(&of, threads);
        atomic_store(&((instance *)made)->run, UINT32_MAX - 19);
        for (uint32_t number = 0; number < 30; number++) run(made, 1 + (int)(number % MAX_IMAGES), number);
        graphpress_destroy(made);
    }
}

/* Ends while its workers wake, wait, or have just been started. */
static void destroy(void) {
    graphpress_model of = model();
    for (int number = 0; number < 60; number++) {
        graphpress_instance *made = make(&of, 1 + number % 5);
        for (int runs = 0; runs < number % 3; runs++) run(made, 1, (uint32_t)runs);
        if (number % 4 == 3) nanosleep(&(struct timespec){0, 200000}, NULL); /* asleep by then */
        graphpress_destroy(made);
    }
    graphpress_destroy(NULL);
}

/* A forked process has the instance but not its workers. */
static void forked(void) {
    graphpress_model of = model();
    graphpress_instance *made = make(&of, 4);
    int status;
    run(made, 2, 1);
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        run(made, 3, 2);
        graphpress_destroy(made);
        _exit(0);
    }
    run(made, 3, 2);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    graphpress_destroy(made);
}

static void read_over(const graphpress_instance *m, int32_t first, int32_t last) {
    volatile uint8_t sum = 0;
    for (int byte = 0; byte < 64; byte++) sum = (uint8_t)(sum + ((const uint8_t *)m->inputs[0])[WIDTH * 4 + byte]);
    mix(m, 0, first, last);
}

/* Kernels may read behind an input, wherever it lies. */
static void slack(void) {
    graphpress_model of = model();
    graphpress_step steps[STEPS];
    memcpy(steps, TABLE, sizeof steps);
    steps[0].compute = read_over;
    of.steps = steps;
    graphpress_instance *made = make(&of, 2);
    uint8_t *pages_of = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(!mprotect(pages_of + PAGE, PAGE, PROT_NONE));
    for (int back = 0; back < 80; back += 4) {
        int32_t output[WIDTH];
        const void *input = pages_of + PAGE - WIDTH * 4 - back;
        CHECK(!graphpress_run(made, 1, &input, (void *[]){output}, NULL));
    }
    graphpress_destroy(made);
}

static graphpress_instance *running;
static int answer;

static void run_again(const graphpress_instance *m, int32_t first, int32_t last) {
    answer = graphpress_run(running, 1, (const void *[]){NULL}, (void *[]){NULL}, NULL);
    mix(m, 0, first, last);
}

/* Who calls an instance that is running is told so. */
static void busy(void) {
    graphpress_model of = model();
    graphpress_step steps[STEPS];
    memcpy(steps, TABLE, sizeof steps);
    steps[0].compute = run_again;
    of.steps = steps;
    running = make(&of, 2);
    run(running, 1, 0);
    CHECK(answer == GRAPHPRESS_BUSY);
    graphpress_destroy(running);
}

static void write_file(const char *path, size_t bytes, int damaged) {
    FILE *file = fopen(path, "wb");
    uint32_t extra = 0;
    CHECK(file && fwrite(weights, 1, bytes < WEIGHTS ? bytes : WEIGHTS, file));
    if (bytes > WEIGHTS) CHECK(fwrite(&extra, 1, bytes - WEIGHTS, file));
    if (damaged) CHECK(!fseek(file, 100, SEEK_SET) && fputc(1, file) != EOF);
    fclose(file);
}

static int created(const graphpress_model *of, const char *path, const void *bytes, int threads, int images) {
    graphpress_instance *made = (graphpress_instance *)weights;
    int code = graphpress_create(of, path, bytes, threads, images, &made);
    CHECK((code == GRAPHPRESS_OK) == (made != NULL));
    if (made) run(made, 1, 3);
    graphpress_destroy(made);
    return code;
}

/* Everything that can be wrong has a code, and leaves nothing behind. */
static void errors(void) {
    static const char *const ABSENT[] = {"no such feature", "nor this", NULL};
    graphpress_model of = model(), lacking = of, fixed = of;
    graphpress_instance *made = make(&of, 1), *other;
    const uint8_t *bytes = (const uint8_t *)weights;
    for (int threads = -1; threads < 2; threads++)
        for (int images = -1; images < 2; images++)
            CHECK(!created(&of, NULL, bytes, threads, images) == (threads == 1 && images == 1));
    CHECK(created(&of, NULL, bytes, GRAPHPRESS_MAX_THREADS + 1, 1) == GRAPHPRESS_ARGUMENT);
    CHECK(created(&of, NULL, bytes, 1, INT32_MAX) == GRAPHPRESS_ARGUMENT);
    CHECK(created(&of, NULL, bytes + 4, 1, 1) == GRAPHPRESS_ARGUMENT);
    CHECK(created(&of, NULL, NULL, 1, 1) == GRAPHPRESS_ARGUMENT);
    CHECK(graphpress_create(&of, NULL, bytes, 1, 1, NULL) == GRAPHPRESS_ARGUMENT);
    CHECK(graphpress_share(NULL, 1, 1, &other) == GRAPHPRESS_ARGUMENT && !other);
    CHECK(graphpress_run(NULL, 1, NULL, NULL, NULL) == GRAPHPRESS_ARGUMENT);
    CHECK(graphpress_run(made, MAX_IMAGES + 1, (const void *[]){weights}, (void *[]){weights}, NULL) ==
          GRAPHPRESS_ARGUMENT);
    fixed.largest_batch = 1;
    CHECK(!created(&fixed, NULL, bytes, 1, 1) && created(&fixed, NULL, bytes, 1, 2) == GRAPHPRESS_ARGUMENT);
    lacking.features = ABSENT;
    CHECK(created(&lacking, NULL, bytes, 1, 1) == GRAPHPRESS_CPU);
    CHECK(!strcmp(graphpress_missing_feature(&lacking, 1), "nor this") && !graphpress_missing_feature(&lacking, 2));
    CHECK(created(&of, "absent", NULL, 1, 1) == GRAPHPRESS_FILE);
    CHECK(created(&of, ".", NULL, 1, 1) != GRAPHPRESS_OK);
    write_file("file", WEIGHTS, 0);
    CHECK(created(&of, "file", NULL, 2, 2) == GRAPHPRESS_OK);
    write_file("file", WEIGHTS, 1);
    CHECK(created(&of, "file", NULL, 1, 1) == GRAPHPRESS_WEIGHTS);
    write_file("file", WEIGHTS - 4, 0);
    CHECK(created(&of, "file", NULL, 1, 1) == GRAPHPRESS_WEIGHTS);
    write_file("file", WEIGHTS + 1, 0);
    CHECK(created(&of, "file", NULL, 1, 1) == GRAPHPRESS_WEIGHTS);
    graphpress_destroy(made);
}

/* A mapped file gives the same numbers as one that was read. */
static void files(void) {
    region mapped, copied = reserve(WEIGHTS);
    (void)model();
    write_file("file", WEIGHTS, 0);
    FILE *file = open_file("file");
    mapped = map_file(file, WEIGHTS);
    CHECK(!read_whole(file, copied.start, WEIGHTS));
    CHECK(!memcmp(mapped.start, weights, WEIGHTS) && !memcmp(copied.start, weights, WEIGHTS));
    CHECK(!map_file(file, WEIGHTS + 4).start);
    fclose(file);
    release(mapped);
    release(copied);
}

/* -- chains of stages of all sorts, each value a sum over the rows that it reads ------------------------------------- */

enum { STAGES = 4, MOST_ROWS = 26, ACROSS = 5, FILL = 0x07070707 };

static graphpress_stage chain[STAGES];

static int32_t at(const uint8_t *rows, const graphpress_stage *of, int image, int y, int x) {
    int32_t value;
    memcpy(&value, rows + image * (int64_t)of->image_bytes + (y + 1) * (int64_t)of->row_bytes + (x + 1) * 4, 4);
    return value;
}

/* source: of whole images where before is NULL. */
static int32_t summed(int number, int image, int y, int x, const int32_t *source, const uint8_t *before) {
    const graphpress_stage *stage = chain + number;
    uint32_t sum = (uint32_t)(y * 31 + number);
    for (int tap = 0; tap < stage->span; tap++) {
        int row = y * stage->stride - stage->before + tap, column = x + tap % 3 - 1;
        int out = row < 0 || row >= (number ? chain[number - 1].height : MOST_ROWS) || column < 0 || column >= ACROSS;
        int32_t value = before ? at(before, chain + number - 1, image, row, column)
                        : out  ? FILL
                               : source[(image * MOST_ROWS + row) * ACROSS + column];
        sum = sum * 3u + (uint32_t)value;
    }
    return (int32_t)sum;
}

static void sum_rows(const graphpress_instance *m, uint8_t *const *rows, int number, int32_t first, int32_t last) {
    const graphpress_stage *stage = chain + number;
    for (int32_t task = first; task < last; task++) {
        int tasks = tiles_of(stage) * stage->tasks, image = task / tasks, inside = task % tasks;
        int top = inside / stage->tasks * stage->rows, part = inside % stage->tasks;
        for (int y = top; y < least(top + stage->rows, stage->height); y++)
            for (int x = ACROSS * part / stage->tasks; x < ACROSS * (part + 1) / stage->tasks; x++) {
                int32_t value = summed(number, image, y, x, m->inputs[0], number ? rows[number - 1] : NULL);
                if (number == STAGES - 1)
                    ((int32_t *)m->outputs[0])[(image * MOST_ROWS + y) * ACROSS + x] = value;
                else
                    memcpy(rows[number] + image * (int64_t)stage->image_bytes + (y + 1) * (int64_t)stage->row_bytes +
                               (x + 1) * 4,
                           &value, 4);
            }
    }
}

#define STAGE(number)                                                                                              \
    static void stage_##number(const graphpress_instance *m, uint8_t *const *rows, int32_t first, int32_t last) { \
        sum_rows(m, rows, number, first, last);                                                                    \
    }
STAGE(0) STAGE(1) STAGE(2) STAGE(3)

static int below(uint32_t *seed, int bound) {
    *seed = *seed * 1664525u + 1013904223u;
    return (int)((*seed >> 16) % (uint32_t)bound);
}

/* As many rows as a tile needs at most, for a thread that begins with it or goes on to it. */
static void make_room_for_tiles(graphpress_step *step) {
    row_range computed[STAGES], read[STAGES];
    kept_rows kept[STAGES];
    for (int tile = 0; tile < step->tasks; tile++) {
        for (int goes_on = tile > 0; goes_on >= 0; goes_on--) {
            find_rows(step, tile, kept, goes_on, computed, read);
            for (int number = 0; number < STAGES - 1; number++) {
                int32_t first = least(computed[number].first, read[number].first);
                int32_t last = greatest(computed[number].last, read[number].last);
                chain[number].room = greatest(chain[number].room, last - first);
            }
        }
        for (int number = 0; number < STAGES; number++) kept[number].done = computed[number].last;
    }
}

static size_t random_chain(graphpress_step *step, uint32_t *seed) {
    static const graphpress_stage_function FUNCTIONS[STAGES] = {stage_0, stage_1, stage_2, stage_3};
    size_t offset = 0;
    for (int number = 0; number < STAGES; number++) {
        graphpress_stage stage = {.compute = FUNCTIONS[number], .fill = FILL & 255};
        stage.height = 1 + below(seed, MOST_ROWS - 1);
        stage.rows = 1 + below(seed, 3);
        stage.tasks = 1 + below(seed, 2);
        stage.stride = 1 + below(seed, 3);
        stage.before = below(seed, 3);
        stage.span = 1 + below(seed, 4);
        stage.row_bytes = stage.top_bytes = (ACROSS + 2) * 4;
        stage.left_bytes = stage.right_bytes = 4;
        stage.image_bytes = stage.row_bytes * (size_t)(stage.height + 1);
        chain[number] = stage;
    }
    *step = (graphpress_step){NULL, tiles_of(chain + STAGES - 1), chain, STAGES};
    make_room_for_tiles(step);
    for (int number = 0; number < STAGES; number++) {
        chain[number].offset = offset;
        offset += (size_t)chain[number].room * chain[number].row_bytes;
    }
    return (offset + LINE - 1) / LINE * LINE;
}

/* Stripes compute what whole stages one after another do. */
static void stripes(void) {
    enum { VALUES = MAX_IMAGES * MOST_ROWS * ACROSS };
    static int32_t input[VALUES], output[VALUES], whole[2][VALUES];
    uint32_t seed = 1;
    for (int place = 0; place < VALUES; place++) input[place] = below(&seed, 1000);
    for (int number = 0; number < 120; number++) {
        graphpress_model of = model();
        graphpress_step step;
        of.scratch_bytes = random_chain(&step, &seed);
        of.steps = &step;
        of.step_count = 1;
        of.inputs = &(graphpress_input){.bytes = sizeof input / MAX_IMAGES};
        graphpress_instance *made = make(&of, 1 + number % 4);
        for (int images = 1; images <= MAX_IMAGES; images++) {
            CHECK(!graphpress_run(made, images, (const void *[]){input}, (void *[]){output}, NULL));
            for (int stage = 0; stage < STAGES; stage++)
                for (int image = 0; image < images; image++)
                    for (int y = 0; y < chain[stage].height; y++)
                        for (int x = 0; x < ACROSS; x++) {
                            int place = (image * MOST_ROWS + y) * ACROSS + x;
                            const int32_t *source = stage ? whole[(stage + 1) % 2] : input;
                            whole[stage % 2][place] = summed(stage, image, y, x, source, NULL);
                            if (stage == STAGES - 1) CHECK(whole[stage % 2][place] == output[place]);
                        }
        }
        graphpress_destroy(made);
    }
}

static long pages(void) {
    long count = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%ld", &count) == 1);
    fclose(file);
    return count;
}

/* Memory that runs out, for the arena or for the stack of a thread, is a code, and what was taken is given back. */
static void memory(void) {
    graphpress_model of = model();
    struct rlimit limit;
    long before = pages();
    CHECK(created(&of, NULL, weights, 4, 100000) == GRAPHPRESS_OK);
    CHECK(pages() <= before + 3 * (STACK >> 12) + 64); /* the C library keeps stacks */
    before = pages();
    limit.rlim_cur = limit.rlim_max = (size_t)(before + 2048) << 12;
    CHECK(!setrlimit(RLIMIT_AS, &limit));
    for (int number = 0; number < 20; number++) {
        CHECK(created(&of, NULL, weights, 1, 20000) == GRAPHPRESS_MEMORY);
        CHECK(created(&of, NULL, weights, 64, 1) == GRAPHPRESS_THREADS);
        CHECK(pages() <= before + 2048);
    }
    CHECK(created(&of, NULL, weights, 1, 1) == GRAPHPRESS_OK);
}

/* Linked with --wrap, these count what the runtime asks for. */
static atomic_int asked;
void *__real_malloc(size_t), *__real_calloc(size_t, size_t), *__real_mmap(void *, size_t, int, int, int, off_t);
void *__wrap_malloc(size_t bytes) { return atomic_fetch_add(&asked, 1), __real_malloc(bytes); }
void *__wrap_calloc(size_t count, size_t bytes) { return atomic_fetch_add(&asked, 1), __real_calloc(count, bytes); }
void *__wrap_mmap(void *start, size_t bytes, int protection, int flags, int file, off_t offset) {
    return atomic_fetch_add(&asked, 1), __real_mmap(start, bytes, protection, flags, file, offset);
}

/* Memory is allocated when an instance is created, and never afterwards. */
static void allocations(void) {
    graphpress_model of = model();
    graphpress_instance *made = make(&of, 3);
    int before = atomic_load(&asked);
    long held = pages();
    CHECK(before > 2);
    for (uint32_t number = 0; number < RUNS; number++) run(made, 1 + (int)(number % MAX_IMAGES), number);
    CHECK(atomic_load(&asked) == before && pages() == held);
    graphpress_destroy(made);
}

/* -- a model of any width: one is added to each number -------------------------------------------------------------- */

enum { HEIGHT = 3, WIDEST = 5 };

static void add_one(const graphpress_instance *m, int32_t first, int32_t last) {
    for (int32_t row = first; row < last; row++)
        for (int32_t place = 0; place < m->sizes[0]; place++)
            ((int32_t *)m->outputs[0])[row * WIDEST + place] = ((const int32_t *)m->inputs[0])[row * WIDEST + place] + 1;
}

static void measure(const int32_t *sizes, _Atomic int32_t *tasks, int32_t *extents) {
    tasks[0] = HEIGHT;
    extents[0] = extents[2] = HEIGHT;
    extents[1] = extents[3] = sizes[0];
}

static int run_of_width(graphpress_instance *made, int images, int32_t width) {
    int32_t input[MAX_IMAGES * HEIGHT * WIDEST], output[MAX_IMAGES * HEIGHT * WIDEST + 1];
    int count = images * HEIGHT * width;
    for (int place = 0; place < count; place++) input[place] = place * place;
    output[count] = 77;
    int code = graphpress_run_sized(made, images, &width, (const void *[]){input}, (void *[]){output}, NULL);
    CHECK(output[count] == 77);
    for (int place = 0; !code && place < count; place++) CHECK(output[place] == place * place + 1);
    return code;
}

/* Tensors of a run's own sizes, which the model sees as it is laid out: without gaps only where they are the largest. */
static void sizes(void) {
    static const int32_t LARGEST[] = {HEIGHT, WIDEST};
    static const graphpress_step STEP[] = {{.compute = add_one, .tasks = HEIGHT}};
    static const graphpress_input TENSOR[] = {{HEIGHT * WIDEST * 4, 0, LARGEST, 2, 4}};
    static const graphpress_size LIMITS[] = {{1, WIDEST}};
    graphpress_model of = model();
    of.steps = STEP, of.inputs = of.outputs = TENSOR, of.step_count = of.output_count = of.size_count = 1;
    of.sizes = LIMITS, of.measure = measure, of.extent_count = 4;
    graphpress_instance *made = make(&of, 3);
    for (int number = 0; number < 200; number++)
        CHECK(run_of_width(made, 1 + number % MAX_IMAGES, 1 + number % WIDEST) == GRAPHPRESS_OK);
    CHECK(run_of_width(made, 1, 0) == GRAPHPRESS_SIZE && run_of_width(made, 1, WIDEST + 1) == GRAPHPRESS_SIZE);
    CHECK(run_of_width(made, 1, 2) == GRAPHPRESS_OK);
    graphpress_destroy(made);
}

/* -- sizes that grow: workers that are late from the run before take nothing of the next ----------------------------- */

enum { LATE_STEPS = 40, LATE_TASKS = 64 };

static _Atomic int measuring, computed_meanwhile;

static void compute_late(const graphpress_instance *m, int32_t first, int32_t last) {
    (void)m, (void)first, (void)last;
    if (atomic_load(&measuring)) atomic_store(&computed_meanwhile, 1);
}

static void measure_late(const int32_t *sizes, _Atomic int32_t *tasks, int32_t *extents) {
    (void)extents;
    atomic_store(&measuring, 1);
    for (int step = 0; step < LATE_STEPS; step++) tasks[step] = sizes[0];
    usleep(200);
    atomic_store(&measuring, 0);
}

static void late(void) {
    static graphpress_step steps[LATE_STEPS];
    static const graphpress_size LIMITS[] = {{1, LATE_TASKS}};
    for (int step = 0; step < LATE_STEPS; step++)
        steps[step] = (graphpress_step){.compute = compute_late, .tasks = LATE_TASKS};
    graphpress_model of = model();
    of.steps = steps, of.step_count = LATE_STEPS, of.input_count = of.output_count = 0, of.size_count = 1;
    of.sizes = LIMITS, of.measure = measure_late, of.extent_count = 0;
    graphpress_instance *made = make(&of, 6);
    for (int number = 0; number < 600; number++) {
        int32_t size = number % 2 ? LATE_TASKS : 1;
        CHECK(graphpress_run_sized(made, 1, &size, (const void *[]){NULL}, (void *[]){NULL}, NULL) == GRAPHPRESS_OK);
    }
    CHECK(!computed_meanwhile);
    graphpress_destroy(made);
}

int main(int count, char **names) {
    static const struct {
        const char *name;
        void (*check)(void);
    } CHECKS[] = {
        {"instances", instances}, {"wrap", wrap},   {"destroy", destroy}, {"forked", forked},          {"busy", busy},
        {"slack", slack},         {"sizes", sizes}, {"stripes", stripes},
        {"late", late},
        {"errors", errors},       {"files", files}, {"memory", memory},   {"allocations", allocations},
    };
    for (int number = 1; number < count; number++)
        for (size_t check = 0; check < sizeof CHECKS / sizeof *CHECKS; check++)
            if (!strcmp(CHECKS[check].name, names[number])) CHECKS[check].check();
    return 0;
}
