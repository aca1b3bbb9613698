// The light of one image in shared memory, and the parallel part of its gradient. Read by shading_cuda.cu and
// fused_cuda.cu; the shading itself is in ../shade.h.
#pragma once

#include "../shade.h"
#include "launch.h"

namespace facerender {

// Loads the light for a whole block; every thread of it must call this.
template <class T>
__device__ inline void load_light(const T* coefficients, const ShPreset& preset, ShLight<T>& light) {
  const T number = threadIdx.x < 27 ? coefficients[threadIdx.x] : T(0);
  __syncthreads();  // the light of the previous image may still be in use
  // A single iteration; an `if` would be hoisted out of the caller's loop, and spill registers from sm_100 on.
  for (unsigned k = threadIdx.x; k < 27; k += blockDim.x)
    light.k[preset.index[k / 3]][k % 3] = number * T(preset.scale[k / 3]);
  __syncthreads();
}

// The same for one warp; `number` is coefficients[lane] for lanes below 27.
template <class T>
__device__ inline void store_light_by_warp(T number, const ShPreset& preset, ShLight<T>& light) {
  const unsigned i = threadIdx.x % kWarp;
  if (i < 27) light.k[preset.index[i / 3]][i % 3] = number * T(preset.scale[i / 3]);
  __syncwarp();
}

// The light of one warp for gradients, by channels, because computing channel after channel takes fewer registers.
template <class T>
struct alignas(16) ChannelLight {  // aligned for loads of four numbers
  T k[3][12];
  __device__ T at(int b, int c) const { return k[c][b]; }
  __device__ void load(const T* coefficients, const ShPreset& preset) {
    const unsigned i = unsigned(launder(int32_t(threadIdx.x % kWarp)));
    __syncwarp();
    if (i < 27) k[i % 3][preset.index[i / 3]] = coefficients[i] * T(preset.scale[i / 3]);
    __syncwarp();
  }
};

// The gradient of the light over the pixels of a warp, in a fixed order: the factors of its 27 products are staged in
// shared memory, and one lane sums each product over the pixels. This takes a third of the instructions of 27 products
// per lane and a reduction.
template <class T>
struct WarpLightGradient {
  static constexpr int kRow = 36;  // a multiple of four, for loads of four numbers
  alignas(16) T polynomial[9 * kRow];
  alignas(16) T gradient[3 * kRow];

  // Every lane must call it, with zeros if it has no visible face, and after a __syncwarp if the memory was in use.
  __device__ T sum(const Vec3<T>& normal, const Vec3<T>& grad_shading) {
    const int32_t lane = launder(int32_t(threadIdx.x % kWarp));
    T p[9];
    sh_polynomials(normal, p);
    UNROLL
    for (int b = 0; b < 9; ++b) polynomial[b * kRow + lane] = p[b];
    gradient[lane] = grad_shading.x, gradient[kRow + lane] = grad_shading.y, gradient[2 * kRow + lane] = grad_shading.z;
    __syncwarp();
    const int32_t number = lane < 27 ? lane : 0;
    const T *const a = polynomial + number / 3 * kRow, *const b = gradient + number % 3 * kRow;
    T sums[4] = {T(0), T(0), T(0), T(0)};
    UNROLL
    for (int k = 0; k < int(kWarp); k += 4) {
      const Vec4<T> four = load4_shared(a + k), other = load4_shared(b + k);
      sums[0] = mul_add(four.x, other.x, sums[0]), sums[1] = mul_add(four.y, other.y, sums[1]);
      sums[2] = mul_add(four.z, other.z, sums[2]), sums[3] = mul_add(four.w, other.w, sums[3]);
    }
    __syncwarp();
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }

 private:
  __device__ static Vec4<T> load4_shared(const T* p) {
#ifdef __CUDA_ARCH__
    if constexpr (sizeof(T) == 4) {
      const float4 v = *reinterpret_cast<const float4*>(p);
      return {v.x, v.y, v.z, v.w};
    }
#endif
    return {p[0], p[1], p[2], p[3]};
  }
};

// Transposing reduction over a warp: of 32 numbers per lane, lane l gets the sum of number l. The lanes exchange half
// of their numbers in every step, which takes 31 shuffles instead of 160.
template <class T, int kHalf = 16>
__device__ inline T warp_reduce32(T (&v)[32]) {
  const bool upper = threadIdx.x & kHalf;
  UNROLL
  for (int k = 0; k < kHalf; ++k) {
    const T mine = upper ? v[k + kHalf] : v[k], theirs = upper ? v[k] : v[k + kHalf];
    v[k] = mine + __shfl_xor_sync(kAllLanes, theirs, kHalf);
  }
  if constexpr (kHalf > 1)
    return warp_reduce32<T, kHalf / 2>(v);
  else
    return v[0];
}

// Adds up the first 27 numbers of every thread of a block in a fixed order, and writes the sums to `out`. Every thread
// of the block must call it.
template <class T>
__device__ inline void block_reduce27(T (&v)[32], T* out) {
  __shared__ T sums[kBlock / kWarp][kWarp];
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  sums[warp][lane] = warp_reduce32(v);
  __syncthreads();
  if (threadIdx.x < 27) {
    T sum = T(0);
    for (unsigned w = 0; w < kBlock / kWarp; ++w) sum += sums[w][threadIdx.x];
    out[threadIdx.x] = sum;
  }
  __syncthreads();
}

constexpr unsigned kLightBlock = 1024;

// Sums rows of 27 numbers in a fixed order: from [rows,count,27] to `out` [rows,27], if `finished` in the order and
// scale of the preset. Each warp adds up rows of its own, lane l number l.
template <class T>
__global__ void __launch_bounds__(kLightBlock)
    sum_light_gradients(const T* partial, int64_t count, const __grid_constant__ ShPreset preset, bool finished,
                        T* out) {
  constexpr int kWarps = kLightBlock / kWarp, kInFlight = 64 / sizeof(T);
  __shared__ T sums[kWarps][27];
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const T* from = partial + int64_t(blockIdx.x) * count * 27;
  pdl_trigger();
  pdl_wait();
  if (lane < 27) {
    T sum[4] = {};
    NO_UNROLL
    for (int64_t b = warp; b < count; b += kInFlight * kWarps) {
      T row[kInFlight];
      UNROLL
      for (int k = 0; k < kInFlight; ++k) row[k] = b + k * kWarps < count ? from[(b + k * kWarps) * 27 + lane] : T(0);
      UNROLL
      for (int k = 0; k < kInFlight; ++k) sum[k % 4] += row[k];
    }
    sums[warp][lane] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
  __syncthreads();
  if (threadIdx.x >= 27) return;
  const unsigned k = threadIdx.x, number = finished ? unsigned(preset.index[k / 3]) * 3 + k % 3 : k;
  T sum = T(0);
  for (int w = 0; w < kWarps; ++w) sum += sums[w][number];
  out[int64_t(blockIdx.x) * 27 + k] = finished ? sum * T(preset.scale[k / 3]) : sum;
}

// From partial [N,count,27] to d coefficients [N or 1,9,3].
template <class T>
void finish_light_gradients(const Device& device, const Tensor& partial, int64_t batch, int64_t count,
                            const ShPreset& preset, const Tensor& out) {
  const bool shared = out.size(0) != batch;
  const Tensor of_images = shared ? empty(out, {batch, 27}, out.scalar_type()) : out;
  LAUNCH_PDL((sum_light_gradients<T>), unsigned(batch), kLightBlock, device, data<T>(partial), count, preset, !shared,
             mutable_data<T>(of_images));
  if (shared)
    LAUNCH_PDL((sum_light_gradients<T>), 1u, kLightBlock, device, data<T>(of_images), batch, preset, true,
               mutable_data<T>(out));
  device.launched();
}

}  // namespace facerender
