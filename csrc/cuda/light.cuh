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

// partial [N,blocks,27] to d coefficients [N or 1,9,3], one thread for each of 27 sums, in order
template <class T>
__global__ void sum_light_gradients(const T* partial, int64_t batch, int64_t blocks, bool shared, const __grid_constant__ ShPreset preset, T* out) {
  const int64_t k = threadIdx.x;
  if (k >= 27) return;
  const int64_t first = shared ? 0 : int64_t(blockIdx.x), last = shared ? batch : first + 1;
  T sum = T(0);
  for (int64_t n = first; n < last; ++n)
    for (int64_t b = 0; b < blocks; ++b) sum += partial[(n * blocks + b) * 27 + preset.index[k / 3] * 3 + k % 3];
  out[first * 27 + k] = sum * T(preset.scale[k / 3]);
}

}  // namespace facerender
