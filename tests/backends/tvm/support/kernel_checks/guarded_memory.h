/* Included before all else: what the runtime maps ends, to the byte but for alignment, at a page that nobody may touch,
   and begins behind one. */
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

static void *guarded_mmap(void *place, size_t bytes, int protection, int flags, int file, off_t offset) {
    if (file >= 0) return mmap(place, bytes, protection, flags, file, offset);
    size_t page = 4096, pages = (bytes + page - 1) / page * page, lines = (bytes + 63) / 64 * 64;
    uint8_t *start = mmap(NULL, pages + 2 * page, PROT_NONE, flags, -1, 0);
    if (start == MAP_FAILED || mprotect(start + page, pages, protection)) return MAP_FAILED;
    return start + page + (pages - lines);
}

#define mmap guarded_mmap
#define munmap(start, bytes) 0
