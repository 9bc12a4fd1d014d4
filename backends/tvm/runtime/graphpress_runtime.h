/* What a compiled model stands on: memory, threads, and the order of its steps. C11; needs libc and pthreads alone. */
#ifndef GRAPHPRESS_RUNTIME_H
#define GRAPHPRESS_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#define GRAPHPRESS_ABI 1

enum {
    GRAPHPRESS_OK = 0,
    GRAPHPRESS_ARGUMENT = 1, /* a null pointer, a batch or a number of threads out of range */
    GRAPHPRESS_MEMORY = 2,   /* no memory */
    GRAPHPRESS_FILE = 3,     /* the file of weights cannot be read */
    GRAPHPRESS_WEIGHTS = 4,  /* the file of weights is not the one of this library */
    GRAPHPRESS_THREADS = 5,  /* no thread could be started */
    GRAPHPRESS_CPU = 6       /* this processor lacks instructions that the library uses */
};

typedef struct graphpress_instance graphpress_instance;

/* Computes tasks [first, last) of a step. */
typedef void (*graphpress_step_function)(const graphpress_instance *, int32_t first, int32_t last);

typedef struct {
    graphpress_step_function compute;
    int32_t tasks; /* of an image */
} graphpress_step;

typedef struct {
    size_t offset; /* in the arena, times the images that an instance takes at most */
    size_t bytes;  /* of an image */
    uint8_t fill;  /* what every byte holds before the first run: what padding reads */
} graphpress_buffer;

typedef struct {
    const graphpress_step *steps;
    const graphpress_buffer *buffers;
    size_t arena_bytes;   /* of an image */
    size_t weights_bytes; /* of the file, without its checksum */
    uint64_t weights_checksum;
    int32_t step_count, buffer_count, input_count, output_count;
    int (*processor_fits)(void);
} graphpress_model;

struct graphpress_instance {
    const uint8_t *weights;
    uint8_t *const *buffers;
    const void *const *inputs;
    void *const *outputs;
};

/* An instance runs one call at a time; different instances run side by side.
   threads: 1 starts none. max_images: the largest batch. */
int graphpress_create(const graphpress_model *model, const char *weights_path, int threads, int max_images,
                      graphpress_instance **created);
int graphpress_run(graphpress_instance *instance, int images, const void *const *inputs, void *const *outputs);
void graphpress_destroy(graphpress_instance *instance);

#endif
