// The SIMD kernels for x86-64-v4 (AVX-512).
#if defined(__x86_64__) && defined(__GNUC__) && !defined(FACERENDER_SANITIZE)
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "kernels.h"

#ifdef __clang__
#pragma clang attribute push(                                                                          \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,bmi,bmi2,lzcnt,popcnt"))), \
    apply_to = function)
#else
#pragma GCC target("arch=x86-64-v4")
#endif
#define ISA v4
#define LANES_AVX512
#define KERNEL_TABLE kLanesV4
#include "table.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
