/* What differs between systems: memory, files, threads, sleeping, clocks. Linux is what is tested; macOS and Windows
   compile. `_GNU_SOURCE` stands before it. */
#ifndef GRAPHPRESS_PLATFORM_H
#define GRAPHPRESS_PLATFORM_H

#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { HUGE_PAGE = 2 << 20, STACK = 4 << 20 };

/* Pages of the system's. */
typedef struct {
    void *start;
    size_t bytes;
} region;

#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

typedef HANDLE system_thread;
typedef DWORD thread_result;
#define THREAD_CALL WINAPI
typedef char waiting_room; /* not needed here */

static region reserve(size_t bytes) {
    void *start = VirtualAlloc(NULL, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    return (region){start, start ? bytes : 0};
}

static void release(region memory) {
    if (memory.start) VirtualFree(memory.start, 0, MEM_RELEASE);
}

static int start_thread(system_thread *started, thread_result(THREAD_CALL *serve)(void *), void *argument) {
    *started = CreateThread(NULL, STACK, serve, argument, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    return *started != NULL;
}

static void join_thread(system_thread started) {
    WaitForSingleObject(started, INFINITE);
    CloseHandle(started);
}

static uint64_t process_number(void) { return GetCurrentProcessId(); }

static void open_room(waiting_room *room) { (void)room; }
static void close_room(waiting_room *room) { (void)room; }

static void sleep_while(waiting_room *room, _Atomic uint32_t *word, uint32_t value) {
    (void)room;
    WaitOnAddress((volatile VOID *)word, &value, sizeof value, INFINITE);
}

static void wake(waiting_room *room, _Atomic uint32_t *word) {
    (void)room;
    WakeByAddressAll((PVOID)word);
}

static uint64_t nanoseconds(void) {
    LARGE_INTEGER now, frequency;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&frequency);
    return (uint64_t)((double)now.QuadPart * 1e9 / (double)frequency.QuadPart);
}

static FILE *open_file(const char *path) {
    wchar_t wide[MAX_PATH];
    return MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, MAX_PATH) ? _wfopen(wide, L"rb") : NULL;
}

static int maps_files(void) { return 0; }

static region map_file(FILE *file, size_t bytes) {
    (void)file, (void)bytes;
    return (region){NULL, 0};
}

#else

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef pthread_t system_thread;
typedef void *thread_result;
#define THREAD_CALL

/* Starts at a huge page where it holds one: the system then gives huge pages if it gives any. */
static region reserve(size_t bytes) {
    size_t reserved = bytes < HUGE_PAGE ? bytes : bytes + HUGE_PAGE;
    uint8_t *start = mmap(NULL, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return (region){NULL, 0};
    if (bytes < HUGE_PAGE) return (region){start, bytes};
    size_t before = (HUGE_PAGE - (uintptr_t)start % HUGE_PAGE) % HUGE_PAGE;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), kept = (bytes + page - 1) / page * page;
    if (before) munmap(start, before);
    if (reserved > before + kept) munmap(start + before + kept, reserved - before - kept);
#ifdef MADV_HUGEPAGE
    madvise(start + before, kept, MADV_HUGEPAGE);
#endif
    return (region){start + before, kept};
}

static void release(region memory) {
    if (memory.start) munmap(memory.start, memory.bytes);
}

/* Signals are for the threads of the program. */
static int start_thread(system_thread *started, thread_result (*serve)(void *), void *argument) {
    sigset_t all, before;
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes)) return 0;
    pthread_attr_setstacksize(&attributes, STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(started, &attributes, serve, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return !failed;
}

static void join_thread(system_thread started) { pthread_join(started, NULL); }

static uint64_t process_number(void) { return (uint64_t)getpid(); }

static uint64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static FILE *open_file(const char *path) { return fopen(path, "rbe"); }

/* Huge pages are read faster than small ones, and files are not in huge pages; where there are none, a mapped file
   costs no memory of its own, and processes share it. */
static int maps_files(void) {
    char choices[64] = "";
    FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
    if (!file) return 1;
    int given = fgets(choices, sizeof choices, file) && !strstr(choices, "[never]");
    fclose(file);
    return !given;
}

/* Nothing where the file is of another size. */
static region map_file(FILE *file, size_t bytes) {
    struct stat status;
    if (fstat(fileno(file), &status) || (uint64_t)status.st_size != bytes) return (region){NULL, 0};
    void *start = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fileno(file), 0);
    return start == MAP_FAILED ? (region){NULL, 0} : (region){start, bytes};
}

#ifdef __linux__

#include <linux/futex.h>
#include <sys/syscall.h>

typedef char waiting_room; /* not needed here */

static void open_room(waiting_room *room) { (void)room; }
static void close_room(waiting_room *room) { (void)room; }

static void sleep_while(waiting_room *room, _Atomic uint32_t *word, uint32_t value) {
    (void)room;
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(waiting_room *room, _Atomic uint32_t *word) {
    (void)room;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

#else

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
} waiting_room;

static void open_room(waiting_room *room) {
    pthread_mutex_init(&room->mutex, NULL);
    pthread_cond_init(&room->changed, NULL);
}

static void close_room(waiting_room *room) {
    pthread_cond_destroy(&room->changed);
    pthread_mutex_destroy(&room->mutex);
}

static void sleep_while(waiting_room *room, _Atomic uint32_t *word, uint32_t value) {
    pthread_mutex_lock(&room->mutex);
    if (atomic_load(word) == value) pthread_cond_wait(&room->changed, &room->mutex);
    pthread_mutex_unlock(&room->mutex);
}

static void wake(waiting_room *room, _Atomic uint32_t *word) {
    (void)word;
    pthread_mutex_lock(&room->mutex);
    pthread_cond_broadcast(&room->changed);
    pthread_mutex_unlock(&room->mutex);
}

#endif
#endif

/* Tell the processor that this thread does nothing but wait. */
static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
