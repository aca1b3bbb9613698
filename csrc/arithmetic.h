// Small vectors, loads and exact arithmetic that all ops share. Read by every header of this folder; free of torch, and
// compiled for the host, for CUDA devices and for the CPU's SIMD lanes.
//
// The forward passes of both back ends produce the same bits, so nothing here may be re-associated or contracted: the
// build passes -ffp-contract=off to the host compiler and --fmad=false to nvcc, and refuses fast-math. Gradients agree
// to a tolerance only; mul_add is for them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <type_traits>

#ifdef __FAST_MATH__
#error "facerender must not be compiled with -ffast-math: coverage decisions rely on IEEE arithmetic"
#endif
// HD: a function for host and device, always inlined. UNROLL and NO_UNROLL stand before a loop.
#ifdef __CUDACC__
#define HD __host__ __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")
#else
#define UNROLL
#define NO_UNROLL
#define HD inline __attribute__((always_inline))
#endif

// The CPU kernels of csrc/cpu/lanes are compiled once per instruction set. ISA names the inline namespace of each copy,
// so that the copies are different functions to the linker.
#ifdef ISA
#define ISA_NAMESPACE_BEGIN inline namespace ISA {
#define ISA_NAMESPACE_END }
#else
#define ISA_NAMESPACE_BEGIN
#define ISA_NAMESPACE_END
#endif

namespace facerender {
ISA_NAMESPACE_BEGIN

// a * b + c for gradients; a GPU rounds once.
template <class A, class B, class C>
HD auto mul_add(A a, B b, C c) {
#ifdef __CUDA_ARCH__
  using T = decltype(a * b + c);
  return fma(T(a), T(b), T(c));
#else
  return a * b + c;
#endif
}

template <class T>
struct Vec3 {
  T x, y, z;
};

template <class T>
HD Vec3<T> operator+(Vec3<T> a, Vec3<T> b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z};
}
template <class T>
HD Vec3<T> operator-(Vec3<T> a, Vec3<T> b) {
  return {a.x - b.x, a.y - b.y, a.z - b.z};
}
template <class T>
HD Vec3<T> operator*(Vec3<T> a, T s) {
  return {a.x * s, a.y * s, a.z * s};
}
template <class T>
HD T dot(Vec3<T> a, Vec3<T> b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}
template <class T>
HD T fused_dot(Vec3<T> a, Vec3<T> b) {
  return mul_add(a.z, b.z, mul_add(a.y, b.y, a.x * b.x));
}
template <class T>
HD Vec3<T> cross(Vec3<T> a, Vec3<T> b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
// Three consecutive numbers, converted to T.
template <class T, class S>
HD Vec3<T> load3(const S* p) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(S) == 4) {
    // Two loads instead of three: eight bytes where the address allows it, and four before or after them.
    struct alignas(8) Pair {
      S a, b;
    };
    const uint32_t odd = uint32_t(reinterpret_cast<uintptr_t>(p)) & 4;
    const bool single_first = odd != 0;
    const S* const q = reinterpret_cast<const S*>(reinterpret_cast<const char*>(p) + odd);
    const Pair pair = *reinterpret_cast<const Pair*>(q);
    const S single = single_first ? q[-1] : q[2];
    return {T(single_first ? single : pair.a), T(single_first ? pair.a : pair.b), T(single_first ? pair.b : single)};
  }
#endif
  return {T(p[0]), T(p[1]), T(p[2])};
}

// Three plain loads. They take more instructions than those of load3, but no selection between their results, which
// would wait for them: for numbers that are loaded ahead of their use or share an address computation.
template <class S>
HD Vec3<S> load3_plain(const S* p) {
  return {p[0], p[1], p[2]};
}
template <class T, class S>
HD Vec3<T> convert3(const Vec3<S>& v) {
  return {T(v.x), T(v.y), T(v.z)};
}

// load3 of record `i` in two steps: prefetch3 starts the loads, finish_prefetch3 waits for them. `i * 3` must fit 32
// bits, which saves instructions.
template <class S>
struct Prefetched3 {
  S a, b, c;
};
#ifdef __CUDACC__
// Keeps the compiler from sinking a load to the use of its result.
__device__ __forceinline__ void pin_load(float v) {
#ifdef __CUDA_ARCH__
  asm volatile("" ::"f"(v));
#endif
}
__device__ __forceinline__ void pin_load(int32_t v) {
#ifdef __CUDA_ARCH__
  asm volatile("" ::"r"(v));
#endif
}
#endif
template <class S>
HD int32_t starts_at_odd_word(const S* records, int32_t i) {
  return (int32_t(uint32_t(reinterpret_cast<uintptr_t>(records)) >> 2) ^ i) & 1;
}
template <class S>
HD Prefetched3<S> prefetch3(const S* records, int32_t i) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(S) == 4) {
    struct alignas(8) Pair {
      S a, b;
    };
    const int32_t odd = starts_at_odd_word(records, i), first = i * 3 + odd;
    const Pair pair = *reinterpret_cast<const Pair*>(records + first);
    const Prefetched3<S> loads{pair.a, pair.b, (records + (first - 3 * odd))[2]};
    pin_load(loads.a), pin_load(loads.b), pin_load(loads.c);
    return loads;
  }
#endif
  return {records[int64_t(i) * 3], records[int64_t(i) * 3 + 1], records[int64_t(i) * 3 + 2]};
}
template <class T, class S>
HD Vec3<T> finish_prefetch3(const Prefetched3<S>& r, const S* records, int32_t i) {
#ifdef __CUDA_ARCH__
  if (sizeof(S) == 4 && starts_at_odd_word(records, i)) return {T(r.c), T(r.a), T(r.b)};
#endif
  return {T(r.a), T(r.b), T(r.c)};
}

template <class T>
struct Vec4 {
  T x, y, z, w;
};
// Four consecutive numbers at an address that is a multiple of 16 (see aligned() in tensors.h).
template <class T>
HD Vec4<T> load4(const T* p) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) == 4) {
    const float4 v = __ldg(reinterpret_cast<const float4*>(p));
    return {v.x, v.y, v.z, v.w};
  } else {
    const double2 a = __ldg(reinterpret_cast<const double2*>(p)), b = __ldg(reinterpret_cast<const double2*>(p) + 1);
    return {a.x, a.y, b.x, b.y};
  }
#else
#ifdef FACERENDER_SHIM
  if (reinterpret_cast<uintptr_t>(p) % 16)
    throw std::runtime_error("load4: an address that is no multiple of 16 bytes");
#endif
  return {p[0], p[1], p[2], p[3]};
#endif
}

// The functions below also take SIMD vectors of sixteen lanes, whose comparisons yield masks; so they are branch-free.
template <class T>
HD T select(bool condition, T yes, T no) {
  return condition ? yes : no;
}
#ifndef __CUDACC__
template <class M, class T, class = std::enable_if_t<!std::is_arithmetic_v<M>>>
HD T select(M mask, T yes, T no) {
  return mask ? yes : no;
}
#endif

template <class T>
HD auto is_finite(T a) {
  return a - a == 0.0f;
}

template <class T>
HD T clamp01(T a) {
  const T zero = a - a, low = select(a < 0.0f, zero, a);  // NaN stays NaN
  return select(low > 1.0f, zero + 1.0f, low);
}

// T(a); both types may be SIMD vectors of equal length.
template <class T, class I>
HD T convert(I a) {
#ifdef __CUDACC__
  return T(a);
#else
  if constexpr (std::is_arithmetic_v<I>)
    return T(a);
  else
    return __builtin_convertvector(a, T);
#endif
}

// The nearest integer, ties to even, for |a| <= 2^22.
template <class I, class T>
HD I round_to_int(T a) {
  if constexpr (std::is_same_v<T, double>) {
    const double shift = 6755399441055744.0;  // 1.5 * 2^52
    return I((a + shift) - shift);
  } else {
    const float shift = 12582912.0f;  // 1.5 * 2^23
#ifdef __CUDA_ARCH__
    return __float_as_int(a + shift) - __float_as_int(shift);  // the low bits of the sum, without a conversion
#else
    return convert<I>((a + shift) - shift);
#endif
  }
}

// 1 / a, correctly rounded, for 1e-30 <= |a| <= 1e30: nvcc's division without its branch for other numbers.
template <class T>
HD T reciprocal(T a) {
#ifdef __CUDA_ARCH__
  if constexpr (std::is_same_v<T, float>) {
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(a));
    return __fmaf_rn(r, -__fmaf_rn(a, r, -1.f), r);
  }
#endif
  return 1.0f / a;
}

// Unqualified `sqrt` is that of double on the host, but that of T on the device.
template <class T>
HD T square_root(T a) {
  return std::sqrt(a);
}

HD uint32_t float_bits(float a) {
  uint32_t bits;
  memcpy(&bits, &a, 4);
  return bits;
}

// The vertex indices of a face. A face with an index out of range covers nothing; load_corners returns false for it.
struct Corners {
  int32_t v[3];
};
HD bool indices_valid(const Corners& f, int64_t num_vertices) {
  const uint64_t n = uint64_t(num_vertices);
  return uint64_t(uint32_t(f.v[0])) < n && uint64_t(uint32_t(f.v[1])) < n && uint64_t(uint32_t(f.v[2])) < n;
}
HD bool load_corners(const int32_t* faces, int64_t face, int64_t num_vertices, Corners& out) {
  const Vec3<int32_t> f = load3<int32_t>(faces + face * 3);
  out.v[0] = f.x, out.v[1] = f.y, out.v[2] = f.z;
  return indices_valid(out, num_vertices);
}

// The corners of the face that is visible at a pixel; false for background and for ids out of range.
HD bool visible_corners(const int32_t* faces, int32_t face, int64_t num_faces, int64_t num_vertices, Corners& out) {
  return face >= 0 && face < num_faces && load_corners(faces, face, num_vertices, out);
}

ISA_NAMESPACE_END
}  // namespace facerender
