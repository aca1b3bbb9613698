// Sums of per-pixel gradients into vertices in global memory: by float atomics, or reproducibly in fixed point. Read by
// every backward kernel; warp_sums.cuh adds up within a warp first.
#pragma once

#include "launch.h"

namespace facerender {

// How a gradient is added to a vertex that many pixels share.
//   kAtomicAdd: float atomics. The order of a sum, and so its last bits, may differ between runs.
//   kFindMax, then kFixedPoint: the reproducible sum, in two launches. The first finds the largest contribution, the
//   second adds integers in units of 2^-38 of it (fewer bits for very many pixels). Integer sums do not depend on their
//   order. A contribution that is not finite makes its sum NaN.
enum SumMode { kAtomicAdd, kFindMax, kFixedPoint };

// The destination of one gradient.
template <class T>
struct VertexSums {
  T* values;                        // [vertices, width]
  unsigned long long* fixed;        // the same in fixed point
  unsigned* max_abs;                // bits of the largest |contribution|, as float32
  int bits;                         // the largest contribution is below 2^bits units, so that all sums fit 63 bits
  mutable unsigned thread_max = 0;  // like max_abs, of this thread; not yet published
};

// Units per 1: 2^bits over the power of two above the largest contribution.
template <class T>
__device__ inline double fixed_scale(const VertexSums<T>& s) {
  const int exponent = int(*s.max_abs >> 23 & 255) - 126;
  const uint64_t bits = uint64_t(1023 + s.bits - exponent) << 52;
  double scale;
  memcpy(&scale, &bits, 8);
  return scale;
}

template <class T, SumMode mode>
__device__ inline void add_to(const VertexSums<T>& s, int64_t i, T g) {
  if (mode == kAtomicAdd) {
    atomicAdd(s.values + i, g);
  } else if (mode == kFindMax) {
    const float size = fabsf(float(g)) * 1.0000002f;
    if (is_finite(size) && float_bits(size) > s.thread_max) s.thread_max = float_bits(size);
  } else if (!is_finite(g)) {
    s.values[i] = g - g;  // NaN, in any order
  } else if (g != T(0)) {
    atomicAdd(s.fixed + i, static_cast<unsigned long long>(static_cast<long long>(rint(double(g) * fixed_scale(s)))));
  }
}
template <class T, SumMode mode>
__device__ inline void add3(const VertexSums<T>& s, int32_t v, Vec3<T> g) {
  add_to<T, mode>(s, int64_t(v) * 3, g.x);
  add_to<T, mode>(s, int64_t(v) * 3 + 1, g.y);
  add_to<T, mode>(s, int64_t(v) * 3 + 2, g.z);
}
template <class T, SumMode mode>
__device__ inline void add4(const VertexSums<T>& s, int32_t v, Vec4<T> g) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if constexpr (mode == kAtomicAdd && sizeof(T) == 4) {  // one 16-byte reduction
    atomicAdd(reinterpret_cast<float4*>(s.values) + v, make_float4(g.x, g.y, g.z, g.w));
    return;
  }
#endif
  add_to<T, mode>(s, int64_t(v) * 4, g.x);
  add_to<T, mode>(s, int64_t(v) * 4 + 1, g.y);
  if (g.z != T(0)) add_to<T, mode>(s, int64_t(v) * 4 + 2, g.z);
  add_to<T, mode>(s, int64_t(v) * 4 + 3, g.w);
}

// After the last contribution of a thread: updates max_abs. publish_warp_max does it once for a whole warp.
template <class T, SumMode mode>
__device__ inline void publish_max(const VertexSums<T>& s) {
  if (mode == kFindMax && s.thread_max) atomicMax(s.max_abs, s.thread_max);
}
template <class T, SumMode mode>
__device__ inline void publish_warp_max(const VertexSums<T>& s) {
  if constexpr (mode == kFindMax) {
    for (unsigned step = kWarp / 2; step; step /= 2) {
      const unsigned other = __shfl_xor_sync(kAllLanes, s.thread_max, step);
      s.thread_max = other > s.thread_max ? other : s.thread_max;
    }
    if (threadIdx.x % kWarp == 0) publish_max<T, mode>(s);
  }
}

// From fixed point to values, which are 0 or NaN so far; four numbers per thread, and zeros are not written again.
constexpr int kSumsPerThread = 4;
template <class T>
__global__ void from_fixed(VertexSums<T> s, int64_t n) {
  const double unit = 1.0 / fixed_scale(s);  // a power of two
  const int64_t first = int64_t(blockIdx.x) * kBlock * kSumsPerThread + threadIdx.x;
  long long sums[kSumsPerThread];
  UNROLL
  for (int k = 0; k < kSumsPerThread; ++k) {
    const int64_t i = first + k * int64_t(kBlock);
    sums[k] = i < n ? static_cast<long long>(s.fixed[i]) : 0;
  }
  UNROLL
  for (int k = 0; k < kSumsPerThread; ++k) {
    const int64_t i = first + k * int64_t(kBlock);
    if (sums[k] && is_finite(s.values[i])) s.values[i] = T(double(sums[k]) * unit);
  }
}

// The buffers of one gradient, a sum over `fragments` pixels.
template <class T>
struct GradientBuffer {
  Tensor values, fixed;  // `fixed` only for reproducible sums; max_abs follows its last number
  int bits = 38;

  // The buffers must be filled with 0 by `fills` before use.
  GradientBuffer(FillList& fills, const Tensor& like, std::vector<int64_t> sizes, ScalarType dtype, bool wanted,
                 bool deterministic, int64_t fragments)
      : values(empty(like, wanted ? sizes : std::vector<int64_t>{0}, dtype)),
        fixed(empty(like, {wanted && deterministic ? values.numel() + 1 : 0}, ScalarType::Long)) {
    fills.add(mutable_data<T>(values), values.numel()), fills.add(mutable_data<int64_t>(fixed), fixed.numel());
    while (bits > 0 && (fragments >> (62 - bits)) > 0) --bits;
  }
  VertexSums<T> sums() const {
    unsigned long long* const integers = static_cast<unsigned long long*>(fixed.mutable_data_ptr());
    return {mutable_data<T>(values), integers, reinterpret_cast<unsigned*>(integers + values.numel()), bits};
  }
  void finish(const Device& device) const {
    if (fixed.numel() > 1) {
      LAUNCH((from_fixed<T>), grid_for((values.numel() + kSumsPerThread - 1) / kSumsPerThread, 1), kBlock,
             device.stream, sums(), values.numel());
      device.launched();
    }
  }
};
template <SumMode m>
struct SumModeTag {
  static constexpr SumMode mode = m;
};
// Calls run(mode), which launches the kernel: once, or twice for a reproducible sum.
template <class F>
void accumulate(bool deterministic, const F& run) {
  if (!deterministic) return run(SumModeTag<kAtomicAdd>{});
  run(SumModeTag<kFindMax>{});
  run(SumModeTag<kFixedPoint>{});
}

}  // namespace facerender
