/* What a compiled model stands on: memory, threads, and the order of its steps. C11; needs libc and pthreads alone.

   A model's C file includes graphpress_runtime.c, all of which is static: each model has a runtime of its own, so that
   models which different versions compiled live in one program. */
#ifndef GRAPHPRESS_RUNTIME_H
#define GRAPHPRESS_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#include "graphpress_codes.h"

enum {
    GRAPHPRESS_MAX_THREADS = 256,
    GRAPHPRESS_MAX_STAGES = 16, /* of a step that is computed by stripes */
    GRAPHPRESS_SLACK = 4096 /* bytes that kernels may read behind the last buffer and the last constant */
};

/* What the steps of a run see. */
typedef struct {
    const uint8_t *weights;
    uint8_t *const *buffers;
    const void *const *inputs;
    void *const *outputs;
    const int32_t *sizes; /* of this run */
} graphpress_instance;

/* Computes tasks [first, last) of a step. */
typedef void (*graphpress_step_function)(const graphpress_instance *, int32_t first, int32_t last);

/* The same of a stage of a step. rows: for each stage, where row 0 of the first image of its result would lie. */
typedef void (*graphpress_stage_function)(const graphpress_instance *, uint8_t *const *rows, int32_t first,
                                          int32_t last);

/* Row y of its result takes rows [y * stride - before, y * stride - before + span) of the stage before. */
typedef struct {
    graphpress_stage_function compute;
    int32_t height, rows, tasks; /* rows of its result, and of a tile of them; tasks of a tile */
    int32_t stride, before, span;
    int32_t room;                              /* rows of its result that a thread keeps; 0 of the last stage */
    size_t offset, row_bytes, image_bytes;     /* in the thread's scratch; from a row, an image, to the next */
    size_t top_bytes, left_bytes, right_bytes; /* of the halo: above the first row, and of each row */
    uint8_t fill;                              /* what every byte of the halo holds */
} graphpress_stage;

typedef struct {
    graphpress_step_function compute; /* NULL where stages are computed: then a task is a tile of the last */
    int32_t tasks;                    /* of an image; of the largest, where sizes are open */
    const graphpress_stage *stages;
    int32_t stage_count;
} graphpress_step;

typedef struct {
    size_t offset; /* in the arena, times the images that an instance takes at most */
    size_t bytes;  /* of an image */
    uint8_t fill;  /* what every byte holds before the first run: what padding reads */
} graphpress_buffer;

typedef struct {
    size_t bytes;           /* of a sample; of the largest, where sizes are open */
    size_t slack;           /* that kernels may read behind its end; the caller's memory has none */
    const int32_t *largest; /* extents of the largest sample; NULL where none is open */
    int32_t rank, element;  /* how many; bytes of an element */
} graphpress_input, graphpress_output;

typedef struct {
    int32_t smallest, largest;
} graphpress_size;

/* Numbers of tasks of steps, and the extents of all tensors with open ones, in this run. Workers that are late from an
   earlier run may look at the numbers meanwhile, whose stores release: the claims of their run are over before. */
typedef void (*graphpress_measure)(const int32_t *sizes, _Atomic int32_t *tasks, int32_t *extents);

typedef struct {
    const graphpress_step *steps;
    const graphpress_buffer *buffers;
    const graphpress_input *inputs;
    const char *const *features; /* that the processor must have; NULL ends them */
    size_t arena_bytes;          /* of an image */
    size_t scratch_bytes;        /* of a thread */
    size_t weights_bytes;        /* with the slack behind them */
    uint64_t weights_checksum;
    int32_t step_count, buffer_count, input_count;
    int32_t largest_batch; /* 1 where the number of samples is fixed */
    /* all zero, where no size is open: */
    const graphpress_output *outputs;
    const graphpress_size *sizes;
    graphpress_measure measure;
    int32_t output_count, size_count, extent_count;
} graphpress_model;

#endif
