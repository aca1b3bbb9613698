// Sums into vertices, a warp's in shared memory before they go to global memory.
//
// An atomic of every pixel for every number of its three vertices is what a backward pass of small triangles takes most of its time for, and
// where triangles are large, thousands of pixels wait for each other at one address. So each pixel's numbers go to shared memory, and a warp adds up
// those of its 32 pixels in one of two ways, whichever costs less:
//   by faces, where the pixels see few: a lane for each number of a face's three vertices goes through the pixels that see that face;
//   by vertices: the corners that name a vertex hang in a list on one of them, whose lane goes through it.
// Sums of one vertex are written side by side, because atomics that fall into one sector at once cost as much as one. A warp waits for no other. The
// order of a sum, and so its last bits, may differ between runs.
#pragma once

#include "launch.h"

namespace facerender {

constexpr int kFewFaces = 10;  // up to so many it is by faces

// Which lanes of a warp see the same face as this one, and the first lane of every face. Every lane must come.
struct SeenFaces {
  uint32_t same, firsts;

  __device__ SeenFaces(bool seen, int32_t face) {
    same = __match_any_sync(kAllLanes, seen ? face : -1);
    firsts = __ballot_sync(kAllLanes, seen && int32_t(threadIdx.x % kWarp) == __ffs(int(same)) - 1);
  }
  __device__ bool few() const { return __popc(firsts) <= kFewFaces; }
};

// kValues: room for so many numbers of a vertex, of which kGroup at a time lie side by side in global memory. One for each warp.
//
// target(group, k, width) says where the sums go: number k of a group of vertex 0, and how many numbers lie from there to vertex 1; null if they are not wanted.
template <int kValues, int kGroup>
struct WarpSums {
  static constexpr int kCorners = 3 * kWarp, kSlotBits = 8;
  // Where corner i of lane l has its number c: at c * kNumber + i * kRow + l. Neither a lane for each of 27 numbers nor three for each of ten vertices meet in a bank.
  static constexpr int kRow = 35, kNumber = 107;

  float values[kValues * kNumber];
  int32_t vertex[kCorners], last[kCorners];  // of corner i * kWarp + lane: its vertex, or -1; the last in the list that hangs on it, or -1
  int8_t before[kCorners];                   // the corner before one in its list, or -1
  uint8_t chosen[1 << kSlotBits];            // one of the corners whose vertex belongs to a slot

  // Every lane must come to these; each that has seen a face puts its numbers before they are summed, and a __syncwarp stands between those sums and the next
  // `enter` or `put`.
  __device__ void enter(bool seen, const Corners& f) {
    UNROLL
    for (int i = 0; i < 3; ++i) vertex[corner(i)] = seen ? f.v[i] : -1;
  }
  __device__ void put(int i, int number, float value) { values[number * kNumber + i * kRow + lane()] = value; }

  // By faces, for faces.few().
  template <class F>
  __device__ void by_faces(const SeenFaces& faces, const F& target) const {
    constexpr bool kHalves = 3 * kValues <= 16;  // two lanes for each number, of every other pixel
    const int32_t lane = kept(this->lane()), number = kHalves ? lane % 16 : lane, c = number / 3, i = number % 3;
    const bool mine = number < 3 * kValues;
    const uint32_t all = !kHalves ? kAllLanes : lane < 16 ? 0x55555555u : 0xAAAAAAAAu;
    int32_t width = 0;
    float* const to = mine ? kept(target(c / kGroup, c % kGroup, width)) : nullptr;
    const bool adds = to && (!kHalves || lane < 16);
    const float* const row = values + (mine ? c * kNumber + i * kRow : 0);
    __syncwarp();
    UNROLL_NOT
    for (uint32_t left = faces.firsts; left; left &= left - 1) {
      const int32_t first = __ffs(int(left)) - 1;
      uint32_t lanes = __shfl_sync(kAllLanes, faces.same, first) & all;
      float sum = 0.f;
      if (lanes == all) {
        const float* const from = row + (kHalves ? lane / 16 : 0);
        UNROLL
        for (int l = 0; l < int(kWarp); l += kHalves ? 2 : 1) sum += from[l];
      } else {
        for (; lanes; lanes &= lanes - 1) sum += row[__ffs(int(lanes)) - 1];
      }
      if (kHalves) sum += __shfl_xor_sync(kAllLanes, sum, 16);
      add_global(to + int64_t(vertex[i * int32_t(kWarp) + first]) * width, sum, adds && sum != 0.f);  // NaN is not 0
    }
  }

  // By vertices: `hang` once for the corners that were entered, then `sum_lists` and `each` for what was put.
  // Hangs every corner on the one that its vertex's slot has chosen, unless that names another vertex. Such a corner is by itself.
  __device__ void hang(bool seen, const Corners& f) {
    int32_t slot[3];
    UNROLL
    for (int i = 0; i < 3; ++i) {
      slot[i] = int32_t(uint32_t(f.v[i]) * 2654435769u >> (32 - kSlotBits));  // grids, whose vertices differ by multiples, spread too
      last[corner(i)] = -1;
      if (seen) chosen[slot[i]] = uint8_t(corner(i));  // one of them stays
    }
    __syncwarp();
    bool follows[3];
    UNROLL
    for (int i = 0; i < 3; ++i) {
      const int32_t other = seen ? chosen[slot[i]] : corner(i);
      follows[i] = other != corner(i) && vertex[other] == f.v[i];
      if (follows[i]) before[corner(i)] = int8_t(atomicExch(&last[other], corner(i)));
    }
    __syncwarp();
    UNROLL
    for (int i = 0; i < 3; ++i)
      if (follows[i]) vertex[corner(i)] = -1;  // only the first of a list names it
  }
  // whole(vertex, sums) meets each vertex once or, where others took its slot, a few times, with the sums of the first `numbers`.
  template <class F>
  __device__ void sum_lists(int numbers, const F& whole) {
    UNROLL_NOT
    for (int i = 0; i < 3; ++i) {
      const int32_t v = vertex[corner(i)];
      if (v < 0) continue;
      float sums[kValues];
      float* const own = values + i * kRow + lane();
      UNROLL
      for (int c = 0; c < kValues; ++c) sums[c] = c < numbers ? own[c * kNumber] : 0.f;
      const int32_t end = last[corner(i)];
      for (int32_t at = end; at >= 0; at = before[at]) {
        const float* const from = values + at + at / int32_t(kWarp) * (kRow - int32_t(kWarp));
        UNROLL
        for (int c = 0; c < kValues; ++c)
          if (c < numbers) sums[c] += from[c * kNumber];
      }
      if (end >= 0)
        UNROLL
        for (int c = 0; c < kValues; ++c)
          if (c < numbers) own[c * kNumber] = sums[c];
      whole(v, sums);
    }
    __syncwarp();
  }
  // From group kFirst on.
  template <int kFirst, class F>
  __device__ void each(const F& target) const {
    constexpr int kGroups = kValues / kGroup;
    const int32_t lane = kept(this->lane());
    UNROLL
    for (int round = 0; round < kGroup; ++round) {
      const int32_t item = round * int32_t(kWarp) + lane, l = item / kGroup, k = item % kGroup;
      float* to[kGroups];
      bool wanted[kGroups];
      int32_t width = 0;
      UNROLL
      for (int g = kFirst; g < kGroups; ++g) to[g] = kept(target(g, k, width)), wanted[g] = to[g];
      const float* const from = values + k * kNumber + l;
      UNROLL
      for (int i = 0; i < 3; ++i) {
        const int32_t v = vertex[i * int32_t(kWarp) + l];
        UNROLL
        for (int g = kFirst; g < kGroups; ++g) {
          const float sum = from[g * kGroup * kNumber + i * kRow];
          add_global(to[g] + int64_t(v) * width, sum, v >= 0 && wanted[g] && sum != 0.f);  // NaN is not 0
        }
      }
    }
  }

  // Without summing, for sums that may not depend on an order: add(group, vertex, k, value) for every corner, three or more lanes side by side.
  template <class F>
  __device__ void each_corner(const F& add) const {
    const int32_t lane = kept(this->lane());
    __syncwarp();
    UNROLL
    for (int round = 0; round < kGroup; ++round) {
      const int32_t item = round * int32_t(kWarp) + lane, l = item / kGroup, k = item % kGroup;
      UNROLL_NOT
      for (int i = 0; i < 3; ++i) {
        const int32_t v = vertex[i * int32_t(kWarp) + l];
        if (v < 0) continue;
        UNROLL
        for (int g = 0; g < kValues / kGroup; ++g) add(g, v, k, values[(g * kGroup + k) * kNumber + i * kRow + l]);
      }
    }
  }

 private:
  __device__ static int32_t lane() { return int32_t(threadIdx.x % kWarp); }
  __device__ static int32_t corner(int i) { return i * int32_t(kWarp) + lane(); }
};

// run(mode, warps): with the numbers of a warp in shared memory, to be summed there or, where sums must not depend on order, to be moved to neighbouring lanes;
// pixel by pixel for float64, and where nothing is added but the largest is looked for.
template <class T, class F>
void sum_by_warps(bool deterministic, const F& run) {
  accumulate(deterministic, [&](auto mode) { run(mode, std::bool_constant<std::is_same_v<T, float> && decltype(mode)::mode != kMeasure>{}); });
}

}  // namespace facerender
