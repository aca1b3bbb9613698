// The light of one image in shared memory, and the second half of its gradient.
#pragma once

#include "../shade.h"
#include "launch.h"

namespace facerender {

// Fills `light` for the whole block; every thread must come.
template <class T>
__device__ inline void load_light(const T* coefficients, const ShPreset& preset, ShLight<T>& light) {
  const T number = threadIdx.x < 27 ? coefficients[threadIdx.x] : T(0);
  __syncthreads();  // the light of the image before may still be in use
  // One round; as an `if` it would be prepared ahead of the caller's loop, and spill registers from sm_100 on.
  for (unsigned k = threadIdx.x; k < 27; k += blockDim.x) light.k[preset.index[k / 3]][k % 3] = number * T(preset.scale[k / 3]);
  __syncthreads();
}

// The same for one warp: `number` is coefficients[lane], if there is one.
template <class T>
__device__ inline void put_light_by_warp(T number, const ShPreset& preset, ShLight<T>& light) {
  const unsigned i = threadIdx.x % kWarp;
  if (i < 27) light.k[preset.index[i / 3]][i % 3] = number * T(preset.scale[i / 3]);
  __syncwarp();
}

// The same for one warp and gradients, by channels: one after the other, they take fewer registers.
template <class T>
struct alignas(16) ChannelLight {  // so that four numbers are loaded at a time
  T k[3][12];
  __device__ T at(int b, int c) const { return k[c][b]; }
  __device__ void load(const T* coefficients, const ShPreset& preset) {
    const unsigned i = unsigned(kept(int32_t(threadIdx.x % kWarp)));
    __syncwarp();
    if (i < 27) k[i % 3][preset.index[i / 3]] = coefficients[i] * T(preset.scale[i / 3]);
    __syncwarp();
  }
};

// The light's gradient over the pixels of a warp, in a fixed order: what it is made of in shared memory, a lane for each of its 27 numbers. That takes a third
// of the instructions of 27 products in each lane and warp_sums of them.
template <class T>
struct LightProducts {
  static constexpr int kRow = 36;  // a multiple of four, so that four pixels are loaded at a time
  alignas(16) T polynomial[9 * kRow];
  alignas(16) T gradient[3 * kRow];

  // Every lane must come, those that see no face with zeros, and after a __syncwarp if the memory was in use.
  __device__ T sum(const Vec3<T>& normal, const Vec3<T>& grad_shading) {
    const int32_t lane = kept(int32_t(threadIdx.x % kWarp));
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

constexpr unsigned kLightBlock = 1024;

// Sums of 27 numbers over `count` rows each, in a fixed order: from [rows,count,27] to `out` [rows,27], in the order and scale of the preset if that is asked for. Each
// warp adds up rows of its own, lane l those of number l.
template <class T>
__global__ void __launch_bounds__(kLightBlock) sum_light_gradients(const T* partial, int64_t count, const __grid_constant__ ShPreset preset, bool finished, T* out) {
  constexpr int kWarps = kLightBlock / kWarp, kAtOnce = 64 / sizeof(T);
  __shared__ T sums[kWarps][27];
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const T* from = partial + int64_t(blockIdx.x) * count * 27;
  let_next_start();
  wait_for_previous();
  if (lane < 27) {
    T sum[4] = {};
    UNROLL_NOT
    for (int64_t b = warp; b < count; b += kAtOnce * kWarps) {
      T row[kAtOnce];
      UNROLL
      for (int k = 0; k < kAtOnce; ++k) row[k] = b + k * kWarps < count ? from[(b + k * kWarps) * 27 + lane] : T(0);
      UNROLL
      for (int k = 0; k < kAtOnce; ++k) sum[k % 4] += row[k];
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

// partial [N,count,27] to d coefficients [N or 1,9,3].
template <class T>
void finish_light_gradients(const Device& device, const Tensor& partial, int64_t batch, int64_t count, const ShPreset& preset, const Tensor& out) {
  const bool shared = out.size(0) != batch;
  const Tensor of_images = shared ? empty(out, {batch, 27}, out.scalar_type()) : out;
  LAUNCH_AFTER((sum_light_gradients<T>), unsigned(batch), kLightBlock, device, data<T>(partial), count, preset, !shared, mutable_data<T>(of_images));
  if (shared) LAUNCH_AFTER((sum_light_gradients<T>), 1u, kLightBlock, device, data<T>(of_images), batch, preset, true, mutable_data<T>(out));
  device.launched();
}

}  // namespace facerender
