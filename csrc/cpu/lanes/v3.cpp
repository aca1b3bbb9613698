// The SIMD kernels for x86-64-v3 (AVX2).
#if defined(__x86_64__) && defined(__GNUC__) && !defined(FACERENDER_SANITIZE)
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "kernels.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt"))), apply_to = function)
#else
#pragma GCC target("arch=x86-64-v3")
#endif
#define ISA v3
#define LANES_AVX2
#define KERNEL_TABLE kLanesV3
#include "table.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
