// Sums into vertices, a block's in shared memory before they go to global memory.
//
// An atomic of every pixel for every number of its three vertices is what a backward pass of small triangles takes most of its time for, and
// where triangles are large, thousands of pixels wait for each other at one address. A tile of 16 by 16 pixels names each of its vertices
// twice where triangles are smaller than a pixel, and hundreds of times where they are large. So each pixel's numbers go to shared memory, and
// the corners that name a vertex are linked in a list; then a thread for each vertex walks its list, and the sums are added to global memory, those
// of a vertex side by side. The order of a list, and so the last bits of a sum, may differ between runs.
#pragma once

#include "launch.h"

namespace facerender {

// kValues: room for so many numbers of a vertex.
template <int kValues>
struct TileSums {
  static constexpr int kCorners = 3 * kBlock, kSlotBits = 10, kSlots = 1 << kSlotBits;
  static constexpr int kStride = kCorners + 1;  // numbers of one vertex lie in different banks

  float values[kValues * kStride];       // [number][corner]; corner i of thread t is i * kBlock + t
  int32_t vertex[kSlots], last[kSlots];  // a table with open addressing: a vertex, and the last corner in its list
  int32_t before[kCorners];              // the corner before one in its list, or -1
  uint16_t used[kCorners];               // slots
  int32_t vertices;

  // Every thread must come to these, in this order; between `enter` and `add_up` each that has seen a face puts its numbers.
  __device__ void clear() {
    for (unsigned s = threadIdx.x; s < kSlots; s += kBlock) vertex[s] = -1, last[s] = -1;
    if (threadIdx.x == 0) vertices = 0;
    __syncthreads();
  }
  // Returns the lanes of the warp if all that see a face see the same one: their numbers are added up first, and one of them enters.
  __device__ uint32_t enter(bool seen, int32_t face, const Corners& f) {
    const uint32_t lanes = __ballot_sync(kAllLanes, seen);
    const int32_t leader = lanes ? __ffs(int(lanes)) - 1 : 0, theirs = __shfl_sync(kAllLanes, face, leader);
    const bool same = !__ballot_sync(kAllLanes, seen && face != theirs) && (lanes & (lanes - 1));
    const bool enters = seen && (!same || int32_t(threadIdx.x % kWarp) == leader);
    UNROLL
    for (int i = 0; i < 3; ++i) {
      const int32_t corner = i * int32_t(kBlock) + int32_t(threadIdx.x);
      int32_t slot = 0;
      bool first = false;
      if (enters) {
        slot = int32_t(uint32_t(f.v[i]) * 2654435769u >> (32 - kSlotBits));  // grids, whose vertices differ by multiples, spread too
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
    return same ? lanes : 0;
  }
  __device__ void put(int i, int number, float value) { values[number * kStride + i * int32_t(kBlock) + int32_t(threadIdx.x)] = value; }
  // Of the first `numbers`. Afterwards a vertex's sums lie at the last corner of its list.
  __device__ void add_up(uint32_t same_face, int numbers) {
    if (same_face) {
      __syncwarp();
      const int32_t lane = int32_t(threadIdx.x % kWarp), leader = __ffs(int(same_face)) - 1;
      for (int32_t k = lane; k < 3 * numbers; k += kWarp) {
        float* const row = values + k / 3 * kStride + k % 3 * int32_t(kBlock) + (int32_t(threadIdx.x) - lane);
        float sum = 0.f;
        for (uint32_t lanes = same_face; lanes; lanes &= lanes - 1) sum += row[__ffs(int(lanes)) - 1];
        row[leader] = sum;
      }
    }
    __syncthreads();
    for (int32_t u = int32_t(threadIdx.x); u < vertices; u += kBlock) {
      const int32_t head = last[used[u]];
      int32_t corner = before[head];
      if (corner < 0) continue;
      float sums[kValues];
      UNROLL
      for (int c = 0; c < kValues; ++c) sums[c] = c < numbers ? values[c * kStride + head] : 0.f;
      for (; corner >= 0; corner = before[corner]) {
        UNROLL
        for (int c = 0; c < kValues; ++c)
          if (c < numbers) sums[c] += values[c * kStride + corner];
      }
      UNROLL
      for (int c = 0; c < kValues; ++c)
        if (c < numbers) values[c * kStride + head] = sums[c];
    }
    __syncthreads();
  }
  // add(vertex, k, sum) for k of kCount numbers from `first` on.
  template <int kCount, class F>
  __device__ void each_sum(int first, const F& add) const {
    for (int32_t item = int32_t(threadIdx.x); item < vertices * kCount; item += kBlock) {
      const int32_t slot = used[item / kCount], k = item % kCount;
      const float sum = values[(first + k) * kStride + last[slot]];
      if (sum != 0.f) add(vertex[slot], k, sum);  // NaN is not 0
    }
  }
  __device__ void done() { __syncthreads(); }  // before the next tile, or more numbers of this one
};

// run(mode, tiles): in shared memory where that can be done, and pixel by pixel for float64 and for sums that must not depend on order.
template <class T, class F>
void sum_by_tiles(bool deterministic, const F& run) {
  if constexpr (std::is_same_v<T, float>)
    if (!deterministic) return run(ModeTag<kAdd>{}, std::true_type{});
  accumulate(deterministic, [&](auto mode) { run(mode, std::false_type{}); });
}

}  // namespace facerender
