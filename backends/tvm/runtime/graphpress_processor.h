/* Which instructions this processor has, by the names that Linux gives them. Compiled for the oldest processor of its
   family: it runs before anything else does. */
#ifndef GRAPHPRESS_PROCESSOR_H
#define GRAPHPRESS_PROCESSOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)

#include <cpuid.h>

enum { EAX, EBX, ECX, EDX, SSE_STATE = 0, AVX_STATE = 0x6, AVX512_STATE = 0xE6 };

/* Where CPUID tells of a feature, and which registers the system must save for it (Intel SDM, volume 1, 13-15). */
typedef struct {
    const char *name;
    uint32_t leaf;
    uint8_t subleaf, place, bit, state;
} processor_feature;

static const processor_feature FEATURES[] = {
    {"ssse3", 1, 0, ECX, 9, SSE_STATE},
    {"sse4_1", 1, 0, ECX, 19, SSE_STATE},
    {"sse4_2", 1, 0, ECX, 20, SSE_STATE},
    {"movbe", 1, 0, ECX, 22, SSE_STATE},
    {"popcnt", 1, 0, ECX, 23, SSE_STATE},
    {"fma", 1, 0, ECX, 12, AVX_STATE},
    {"avx", 1, 0, ECX, 28, AVX_STATE},
    {"f16c", 1, 0, ECX, 29, AVX_STATE},
    {"abm", 0x80000001, 0, ECX, 5, SSE_STATE},
    {"bmi1", 7, 0, EBX, 3, SSE_STATE},
    {"avx2", 7, 0, EBX, 5, AVX_STATE},
    {"bmi2", 7, 0, EBX, 8, SSE_STATE},
    {"avx512f", 7, 0, EBX, 16, AVX512_STATE},
    {"avx512dq", 7, 0, EBX, 17, AVX512_STATE},
    {"avx512ifma", 7, 0, EBX, 21, AVX512_STATE},
    {"avx512cd", 7, 0, EBX, 28, AVX512_STATE},
    {"avx512bw", 7, 0, EBX, 30, AVX512_STATE},
    {"avx512vl", 7, 0, EBX, 31, AVX512_STATE},
    {"avx512vbmi", 7, 0, ECX, 1, AVX512_STATE},
    {"avx512_vbmi2", 7, 0, ECX, 6, AVX512_STATE},
    {"gfni", 7, 0, ECX, 8, SSE_STATE},
    {"vaes", 7, 0, ECX, 9, AVX_STATE},
    {"vpclmulqdq", 7, 0, ECX, 10, AVX_STATE},
    {"avx512_vnni", 7, 0, ECX, 11, AVX512_STATE},
    {"avx512_bitalg", 7, 0, ECX, 12, AVX512_STATE},
    {"avx512_vpopcntdq", 7, 0, ECX, 14, AVX512_STATE},
    {"avx512_fp16", 7, 0, EDX, 23, AVX512_STATE},
    {"avx_vnni", 7, 1, EAX, 4, AVX_STATE},
    {"avx512_bf16", 7, 1, EAX, 5, AVX512_STATE},
};

/* Which registers the system saves; none where it does not say. */
static uint64_t saved_state(void) {
    uint32_t eax, ebx, ecx, edx, low, high;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx >> 27 & 1)) return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static int has_feature(const char *name) {
    for (size_t number = 0; number < sizeof FEATURES / sizeof *FEATURES; number++) {
        const processor_feature *feature = FEATURES + number;
        uint32_t values[4];
        if (strcmp(feature->name, name)) continue;
        if (!__get_cpuid_count(feature->leaf, feature->subleaf, values, values + 1, values + 2, values + 3)) return 0;
        return (values[feature->place] >> feature->bit & 1) && (saved_state() & feature->state) == feature->state;
    }
    return 0; /* unknown: better refused than killed */
}

#elif defined(__aarch64__) && defined(__linux__)

#include <sys/auxv.h>

/* Bits of the kernel's <asm/hwcap.h>. */
static int has_feature(const char *name) {
    unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
    if (!strcmp(name, "asimd")) return first >> 1 & 1;
    if (!strcmp(name, "atomics")) return first >> 8 & 1;
    if (!strcmp(name, "fphp")) return first >> 9 & 1;
    if (!strcmp(name, "asimdhp")) return first >> 10 & 1;
    if (!strcmp(name, "asimdrdm")) return first >> 12 & 1;
    if (!strcmp(name, "asimddp")) return first >> 20 & 1;
    if (!strcmp(name, "sve")) return first >> 22 & 1;
    if (!strcmp(name, "i8mm")) return second >> 13 & 1;
    if (!strcmp(name, "bf16")) return second >> 14 & 1;
    return 0; /* unknown: better refused than killed */
}

#elif defined(__aarch64__) && defined(__APPLE__)

#include <sys/sysctl.h>

static int has_feature(const char *name) {
    static const char *const NAMES[][2] = {
        {"asimd", "hw.optional.neon"},
        {"atomics", "hw.optional.arm.FEAT_LSE"},
        {"fphp", "hw.optional.arm.FEAT_FP16"},
        {"asimdhp", "hw.optional.arm.FEAT_FP16"},
        {"asimdrdm", "hw.optional.arm.FEAT_RDM"},
        {"asimddp", "hw.optional.arm.FEAT_DotProd"},
        {"i8mm", "hw.optional.arm.FEAT_I8MM"},
        {"bf16", "hw.optional.arm.FEAT_BF16"},
    };
    for (size_t number = 0; number < sizeof NAMES / sizeof *NAMES; number++) {
        int has = 0;
        size_t size = sizeof has;
        if (!strcmp(NAMES[number][0], name)) return !sysctlbyname(NAMES[number][1], &has, &size, NULL, 0) && has;
    }
    return 0; /* unknown: better refused than killed */
}

#else

static int has_feature(const char *name) {
    (void)name;
    return 0; /* nobody to ask: better refused than killed */
}

#endif
#endif
