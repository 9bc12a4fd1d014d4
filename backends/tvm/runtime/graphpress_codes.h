#ifndef GRAPHPRESS_CODES
#define GRAPHPRESS_CODES
enum {
    GRAPHPRESS_OK = 0,
    GRAPHPRESS_ARGUMENT = 1, /* a null pointer, or a number that is out of range */
    GRAPHPRESS_MEMORY = 2,   /* memory ran out */
    GRAPHPRESS_FILE = 3,     /* the file of weights cannot be read */
    GRAPHPRESS_WEIGHTS = 4,  /* the weights are damaged, or another model's */
    GRAPHPRESS_THREADS = 5,  /* no thread could be started */
    GRAPHPRESS_CPU = 6,      /* the processor lacks instructions that the model uses */
    GRAPHPRESS_BUSY = 7,     /* the instance is running already */
    GRAPHPRESS_SIZE = 8      /* a sequence is longer than the model was compiled for, or shorter than it takes */
};
#endif
