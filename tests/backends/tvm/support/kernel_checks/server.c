/* Calls kernels of shared libraries with operands from standard input, and writes the last operand to standard output:
   what ctypes does, for a processor that an emulator has. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 64, SLACK = 4096, MOST = 12 };

typedef struct {
    int32_t library, symbol, operands, first, last; /* lengths of names, count, tasks */
} request;

static void get(void *bytes, size_t count) {
    if (fread(bytes, 1, count, stdin) != count) exit(0);
}

static char *name(int32_t length) {
    char *text = calloc(1, (size_t)length + 1);
    get(text, (size_t)length);
    return text;
}

static void call(void *kernel, int count, void **p, int32_t first, int32_t last) {
    switch (count) {
#define CASE(n, ...) \
    case n: ((void (*)())kernel)(__VA_ARGS__, first, last); break
        CASE(2, p[0], p[1]);
        CASE(3, p[0], p[1], p[2]);
        CASE(4, p[0], p[1], p[2], p[3]);
        CASE(5, p[0], p[1], p[2], p[3], p[4]);
        CASE(6, p[0], p[1], p[2], p[3], p[4], p[5]);
        CASE(7, p[0], p[1], p[2], p[3], p[4], p[5], p[6]);
        CASE(8, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]);
    default:
        fprintf(stderr, "%d operands\n", count);
        exit(1);
    }
}

int main(void) {
    for (;;) {
        request r;
        int64_t sizes[MOST];
        void *operands[MOST];
        get(&r, sizeof r);
        char *path = name(r.library), *symbol = name(r.symbol);
        void *library = dlopen(path, RTLD_NOW), *kernel = library ? dlsym(library, symbol) : NULL;
        if (!kernel) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
        get(sizes, (size_t)r.operands * sizeof *sizes);
        for (int number = 0; number < r.operands; number++) {
            size_t room = ((size_t)sizes[number] + SLACK + LINE - 1) / LINE * LINE;
            operands[number] = aligned_alloc(LINE, room);
            memset(operands[number], 0, room);
            get(operands[number], (size_t)sizes[number]);
        }
        call(kernel, r.operands, operands, r.first, r.last);
        fwrite(operands[r.operands - 1], 1, (size_t)sizes[r.operands - 1], stdout);
        fflush(stdout);
        for (int number = 0; number < r.operands; number++) free(operands[number]);
        free(path);
        free(symbol);
    }
}
