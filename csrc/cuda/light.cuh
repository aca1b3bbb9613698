// The light of one image in shared memory, and the second half of its gradient.
#pragma once

#include "../shade.h"
#include "launch.h"

namespace facerender {

// Fills `light` for the whole block; every thread must come.
template <class T>
__device__ inline void load_light(const T* coefficients, const ShPreset& preset, ShLight<T>& light) {
  __syncthreads();  // the light of the image before may still be in use
  for (unsigned k = threadIdx.x; k < 27; k += blockDim.x) light.k[preset.index[k / 3]][k % 3] = coefficients[k] * T(preset.scale[k / 3]);
  __syncthreads();
}

// partial [N,blocks,27] to d coefficients [N or 1,9,3], in a fixed order. A block of eight warps sums the partial sums of an image, or of
// all images where they share the light; lane l those of number l.
template <class T>
__global__ void __launch_bounds__(kBlock) sum_light_gradients(const T* partial, int64_t count, const __grid_constant__ ShPreset preset, T* out) {
  __shared__ T sums[kBlock / kWarp][27];
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const T* from = partial + int64_t(blockIdx.x) * count * 27;
  if (lane < 27) {
    T sum[4] = {};
    int64_t b = warp;
    for (; b + 3 * int64_t(kBlock / kWarp) < count; b += 4 * int64_t(kBlock / kWarp))
      UNROLL
      for (int k = 0; k < 4; ++k) sum[k] += from[(b + k * int64_t(kBlock / kWarp)) * 27 + lane];  // four loads at a time
    for (; b < count; b += kBlock / kWarp) sum[0] += from[b * 27 + lane];
    sums[warp][lane] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
  __syncthreads();
  if (threadIdx.x >= 27) return;
  const unsigned k = threadIdx.x, from_k = unsigned(preset.index[k / 3]) * 3 + k % 3;
  T sum = T(0);
  for (unsigned w = 0; w < kBlock / kWarp; ++w) sum += sums[w][from_k];
  out[int64_t(blockIdx.x) * 27 + k] = sum * T(preset.scale[k / 3]);
}

template <class T>
void finish_light_gradients(const Device& device, const Tensor& partial, int64_t batch, int64_t blocks, const ShPreset& preset, const Tensor& out) {
  const int64_t lights = out.size(0), count = lights == batch ? blocks : batch * blocks;
  LAUNCH((sum_light_gradients<T>), unsigned(lights), kBlock, device.stream, data<T>(partial), count, preset, mutable_data<T>(out));
  device.launched();
}

}  // namespace facerender
