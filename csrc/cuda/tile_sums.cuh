// Sums into vertices, a block's in shared memory before they go to global memory.
//
// An atomic of every pixel for every number of its three vertices is what a backward pass of small triangles takes most of its time for, and
// where triangles are large, thousands of pixels wait for each other at one address. A tile of 16 by 16 pixels names each of its vertices
// twice where triangles are smaller than a pixel, and hundreds of times where they are large. So each pixel's numbers go to shared memory, and the corners
// that name a vertex are linked in a list; then a thread for each number of each vertex walks the list and adds the sum to global memory, side by
// side with those that add the vertex's other numbers. The order of a list, and so the last bits of a sum, may differ between runs.
#pragma once

#include "launch.h"

namespace facerender {

template <int kValues>
struct TileSums {
  static constexpr int kCorners = 3 * kBlock, kSlots = 1024;
  static constexpr int kStride = kCorners + 1;  // numbers of one vertex lie in different banks

  float values[kValues * kStride];  // [number][corner]; corner i of thread t is i * kBlock + t
  int32_t vertex[kSlots], last[kSlots];  // a table with open addressing: a vertex, and the last corner in its list
  int32_t before[kCorners];              // the corner before one in its list, or -1
  uint16_t used[kCorners];               // slots
  int32_t vertices;

  // Every thread must come to these.
  __device__ void clear() {
    for (unsigned s = threadIdx.x; s < kSlots; s += kBlock) vertex[s] = -1, last[s] = -1;
    if (threadIdx.x == 0) vertices = 0;
    __syncthreads();
  }
  __device__ void enter(bool seen, const Corners& f) {
    UNROLL
    for (int i = 0; i < 3; ++i) {
      const int32_t corner = i * int32_t(kBlock) + int32_t(threadIdx.x);
      int32_t slot = f.v[i] & (kSlots - 1);
      bool first = false;
      if (seen) {
        for (;; slot = (slot + 1) & (kSlots - 1)) {
          const int32_t held = atomicCAS(&vertex[slot], -1, f.v[i]);
          first = held == -1;
          if (first || held == f.v[i]) break;
        }
        before[corner] = atomicExch(&last[slot], corner);
      }
      const int32_t number = take_numbers<1>(first ? 0 : -1, &vertices);
      if (first) used[number] = uint16_t(slot);
    }
  }
  __device__ void put(int i, int number, float value) { values[number * kStride + i * int32_t(kBlock) + int32_t(threadIdx.x)] = value; }
  // Calls add(vertex, number, sum).
  template <class F>
  __device__ void finish(const F& add) {
    __syncthreads();
    for (int32_t k = int32_t(threadIdx.x); k < vertices * kValues; k += kBlock) {
      const int32_t slot = used[k / kValues], number = k % kValues;
      float sum = 0.f;
      for (int32_t corner = last[slot]; corner >= 0; corner = before[corner]) sum += values[number * kStride + corner];
      if (sum != 0.f) add(vertex[slot], number, sum);  // NaN is not 0
    }
    __syncthreads();
  }
};

// run(mode, tiles): in shared memory where that can be done, and pixel by pixel for float64 and for sums that must not depend on order.
template <class T, class F>
void sum_by_tiles(bool deterministic, const F& run) {
  if constexpr (std::is_same_v<T, float>)
    if (!deterministic) return run(ModeTag<kAdd>{}, std::true_type{});
  accumulate(deterministic, [&](auto mode) { run(mode, std::false_type{}); });
}

}  // namespace facerender
