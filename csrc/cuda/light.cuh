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

constexpr unsigned kLightBlock = 1024;

// Sums of 27 numbers over `count` rows each, in a fixed order: from [rows,count,27] to `out` [rows,27], in the order and scale of the preset if that is asked for. Each
// warp adds up rows of its own, lane l those of number l.
template <class T>
__global__ void __launch_bounds__(kLightBlock) sum_light_gradients(const T* partial, int64_t count, const __grid_constant__ ShPreset preset, bool finished, T* out) {
  constexpr int kWarps = kLightBlock / kWarp;
  __shared__ T sums[kWarps][27];
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const T* from = partial + int64_t(blockIdx.x) * count * 27;
  if (lane < 27) {
    T sum[4] = {};
    int64_t b = warp;
    for (; b + 3 * kWarps < count; b += 4 * kWarps)
      UNROLL
      for (int k = 0; k < 4; ++k) sum[k] += from[(b + k * kWarps) * 27 + lane];  // four loads at a time
    for (; b < count; b += kWarps) sum[0] += from[b * 27 + lane];
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
  LAUNCH((sum_light_gradients<T>), unsigned(batch), kLightBlock, device.stream, data<T>(partial), count, preset, !shared, mutable_data<T>(of_images));
  if (shared) LAUNCH((sum_light_gradients<T>), 1u, kLightBlock, device.stream, data<T>(of_images), batch, preset, true, mutable_data<T>(out));
  device.launched();
}

}  // namespace facerender
