// Arithmetic that every op shares. Free of torch; the CPU loops and the CUDA kernels both include it.
//
// Both back ends promise the same bits, so nothing here may be re-associated or contracted: the build passes
// -ffp-contract=off to the host compiler and --fmad=false to nvcc, and refuses fast-math. Gradients are promised to a tolerance
// only: mul_add is for them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <type_traits>

#ifdef __FAST_MATH__
#error "facerender must not be compiled with -ffast-math: coverage decisions rely on IEEE arithmetic"
#endif

#ifdef __CUDACC__
#define HD __host__ __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define UNROLL_NOT _Pragma("unroll 1")
#else
#define UNROLL
#define UNROLL_NOT
#define HD inline __attribute__((always_inline))
#endif

// The CPU compiles this once more for each instruction set (csrc/cpu/lanes), in an inline namespace named after it.
#ifdef LEVEL
#define LEVEL_BEGIN inline namespace LEVEL {
#define LEVEL_END }
#else
#define LEVEL_BEGIN
#define LEVEL_END
#endif

namespace facerender {
LEVEL_BEGIN

// a * b + c for gradients; a GPU rounds it once.
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
template <class T, class S>
HD Vec3<T> load3(const S* p) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(S) == 4) {
    // Two loads in place of three: eight bytes where the address allows it, and four before or after them.
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

// The same in two steps, for record `i` of many, whose numbers 32 bits count: what the first returns is still under way until the second looks at it. Fewer instructions than load3.
template <class S>
struct Loading3 {
  S a, b, c;
};
#ifdef __CUDACC__
// Keeps the compiler from moving a load to where its value is used.
__device__ __forceinline__ void begun(float v) {
#ifdef __CUDA_ARCH__
  asm volatile("" ::"f"(v));
#endif
}
__device__ __forceinline__ void begun(int32_t v) {
#ifdef __CUDA_ARCH__
  asm volatile("" ::"r"(v));
#endif
}
#endif
template <class S>
HD int32_t begins_odd(const S* records, int32_t i) {
  return (int32_t(uint32_t(reinterpret_cast<uintptr_t>(records)) >> 2) ^ i) & 1;
}
template <class S>
HD Loading3<S> begin_load3(const S* records, int32_t i) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(S) == 4) {
    struct alignas(8) Pair {
      S a, b;
    };
    const int32_t odd = begins_odd(records, i), first = i * 3 + odd;
    const Pair pair = *reinterpret_cast<const Pair*>(records + first);
    const Loading3<S> loading{pair.a, pair.b, (records + (first - 3 * odd))[2]};
    begun(loading.a), begun(loading.b), begun(loading.c);
    return loading;
  }
#endif
  return {records[int64_t(i) * 3], records[int64_t(i) * 3 + 1], records[int64_t(i) * 3 + 2]};
}
template <class T, class S>
HD Vec3<T> end_load3(const Loading3<S>& r, const S* records, int32_t i) {
#ifdef __CUDA_ARCH__
  if (sizeof(S) == 4 && begins_odd(records, i)) return {T(r.c), T(r.a), T(r.b)};
#endif
  return {T(r.a), T(r.b), T(r.c)};
}

template <class T>
struct Vec4 {
  T x, y, z, w;
};
// `p` is aligned to 16 bytes (aligned() in tensors.h sees to it).
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
  if (reinterpret_cast<uintptr_t>(p) % 16) throw std::runtime_error("load4: an address that is no multiple of 16 bytes");
#endif
  return {p[0], p[1], p[2], p[3]};
#endif
}

// The functions below also take vectors of sixteen lanes, whose comparisons give masks; so they are written without branches.
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

// T(a), where T and the type of `a` may also be vectors of equal length.
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

// Nearest integer, ties to even; |a| <= 2^22.
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

// 1 / a, correctly rounded, for 1e-30 <= |a| <= 1e30: nvcc's own division without its branch for what lies outside.
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

// `sqrt` without std is the double one on the host, and that of T on the device.
template <class T>
HD T square_root(T a) {
  return std::sqrt(a);
}

HD uint32_t float_bits(float a) {
  uint32_t bits;
  memcpy(&bits, &a, 4);
  return bits;
}

// The three vertices of a face, or false where an index is out of range: such a face covers nothing.
struct Corners {
  int32_t v[3];
};
HD bool sound(const Corners& f, int64_t num_vertices) {
  const uint64_t n = uint64_t(num_vertices);
  return uint64_t(uint32_t(f.v[0])) < n && uint64_t(uint32_t(f.v[1])) < n && uint64_t(uint32_t(f.v[2])) < n;
}
HD bool load_corners(const int32_t* faces, int64_t face, int64_t num_vertices, Corners& out) {
  const Vec3<int32_t> f = load3<int32_t>(faces + face * 3);
  out.v[0] = f.x, out.v[1] = f.y, out.v[2] = f.z;
  return sound(out, num_vertices);
}

// The corners of the face that a pixel sees, or false for background and for ids that no face has.
HD bool seen_corners(const int32_t* faces, int32_t face, int64_t num_faces, int64_t num_vertices, Corners& out) {
  return face >= 0 && face < num_faces && load_corners(faces, face, num_vertices, out);
}

LEVEL_END
}  // namespace facerender
