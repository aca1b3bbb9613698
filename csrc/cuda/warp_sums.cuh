// Sums into vertices, a warp's in shared memory before they go to global memory.
//
// An atomic of every pixel for every number of its three vertices is what a backward pass of small triangles takes most of its time for, and
// where triangles are large, thousands of pixels wait for each other at one address. So each pixel's numbers go to shared memory, from where they
// leave in one of two ways, whichever costs less:
//   by faces, where the pixels see few: they stand there face by face, a lane for each number of a face's three vertices goes through them, and adds what comes
//     together for each face;
//   by corners: each pixel adds its own, but numbers of one vertex, which lie side by side, come from neighbouring lanes, because atomics that fall into one
//     sector at once cost as much as one. To look for vertices that its pixels share takes a warp longer than to add twice.
// A warp waits for no other. The order of a sum, and so its last bits, may differ between runs.
#pragma once

#include "launch.h"

namespace facerender {

// The kernels that sum: blocks of two warps, so that few wait for the end of others that see more faces. A block looks at a patch of sixteen by four pixels, half of them
// for each warp, or, where there are many, at several that are neighbours in a row: most see no face.
constexpr unsigned kSumBlock = 64;
constexpr int kPatches = 4;
constexpr int64_t kManyPatches = 96;  // for each multiprocessor
constexpr int32_t kPatchHeight = 4, kPatchWidth = 16;

struct PatchGrid {
  dim3 grid;
  int32_t patches;

  PatchGrid(const Device& device, int64_t height, int64_t width, int64_t images)
      : grid(unsigned((width + kPatchWidth - 1) / kPatchWidth), unsigned((height + kPatchHeight - 1) / kPatchHeight), unsigned(images < 65535 ? images : 65535)) {
    patches = int64_t(grid.x) * grid.y * grid.z > kManyPatches * device.multiprocessors() ? kPatches : 1;
    grid.x = (grid.x + patches - 1) / patches;
  }
};
struct PatchPixel {
  int32_t row, col;
  bool inside;
};
__device__ inline PatchPixel patch_pixel(int32_t height, int32_t width, int32_t patches, int32_t k) {
  const int32_t lane = int32_t(threadIdx.x % kWarp), warp = int32_t(threadIdx.x / kWarp);
  const int32_t row = kept(int32_t(blockIdx.y)) * kPatchHeight + lane / 8, col = (int32_t(blockIdx.x) * patches + k) * kPatchWidth + warp * 8 + lane % 8;
  return {row, col, row < height && col < width};
}

// What a thread's pixels see in each patch, found at once. A bit for each patch in which the warp sees a face.
struct PatchIds {
  int32_t of[kPatches][kSumBlock];  // each thread its own: there are no registers to spare

  // first: what the pixel of the first patch sees, with `step` numbers between patches; inside(k): whether there is such a pixel.
  template <class F>
  __device__ uint32_t look(int32_t patches, const int32_t* first, int64_t step, const F& inside) {
    int32_t ids[kPatches];
    UNROLL
    for (int k = 0; k < kPatches; ++k) ids[k] = k < patches && inside(k) ? first[k * step] : -1;
    uint32_t live = 0;
    UNROLL
    for (int k = 0; k < kPatches; ++k) {
      of[k][threadIdx.x] = ids[k];
      if (__ballot_sync(kAllLanes, ids[k] >= 0)) live |= 1u << k;
    }
    return live;
  }
  __device__ int32_t at(int k) const { return of[k][threadIdx.x]; }
};

// Three numbers that may still be on their way: in place of load3, whose choice between what it has loaded waits for it.
template <class S>
struct Three {
  S v[3] = {};
  __device__ void start(const S* p) { v[0] = p[0], v[1] = p[1], v[2] = p[2]; }
  template <class T>
  __device__ Vec3<T> get() const {
    return {T(v[0]), T(v[1]), T(v[2])};
  }
};

// Where the numbers of a warp's pixels stand in shared memory: face by face where they see few, those that see none last; otherwise lane by lane.
struct PixelOrder {
  int32_t place;      // of this lane's pixel
  uint32_t ends = 0;  // a bit for the last place of each face; none where it is lane by lane

  __device__ PixelOrder() : place(int32_t(threadIdx.x % kWarp)) {}
  // few: up to so many faces it is face by face. Every lane must come.
  __device__ PixelOrder(bool seen, int32_t face, int few) : PixelOrder() {
    const uint32_t same = __match_any_sync(kAllLanes, seen ? face : -1), below = lanes_below();
    const uint32_t firsts = __ballot_sync(kAllLanes, seen && !(same & below));
    if (__popc(firsts) > few) return;
    int32_t end = 0;
    uint32_t left = ~__ballot_sync(kAllLanes, seen);  // after the last face come those that see none
    if (!seen) place = int32_t(kWarp) - __popc(left) + __popc(left & below);
    UNROLL_NOT
    for (left = firsts; left; left &= left - 1) {
      const uint32_t lanes = __shfl_sync(kAllLanes, same, __ffs(int(left)) - 1);
      if (lanes == same && seen) place = end + __popc(lanes & below);
      end += __popc(lanes);
      ends |= 1u << (end - 1);
    }
  }
};

// kValues: room for so many numbers of a vertex, of which kGroup at a time lie side by side in global memory. One for each warp.
template <int kValues, int kGroup>
struct WarpSums {
  // Where corner i of a pixel has its number c: at c * kNumber + i * kRow + place. Neither a lane for each of 27 numbers nor three for each of ten vertices meet in a bank.
  static constexpr int kRow = 35, kNumber = 107;

  float values[kValues * kNumber];
  int32_t vertex[3 * kWarp];

  // Every lane must come to these. Those that see a face put their numbers after `enter`, and a __syncwarp stands before they are summed, and before the next `enter`.
  // The others add nothing to a vertex of one that does, of which there must be one.
  __device__ void enter(const PixelOrder& order, bool seen, const Corners& f) {
    const int some = __ffs(int(__ballot_sync(kAllLanes, seen))) - 1;
    UNROLL
    for (int i = 0; i < 3; ++i) {
      const int32_t other = __shfl_sync(kAllLanes, f.v[i], some);
      vertex[i * int32_t(kWarp) + order.place] = seen ? f.v[i] : other;
    }
    if (seen || order.ends) return;
    UNROLL
    for (int number = 0; number < kValues; ++number)
      UNROLL
      for (int i = 0; i < 3; ++i) put(order.place, i, number, 0.f);
  }
  __device__ void put(int32_t place, int i, int number, float value) { values[number * kNumber + i * kRow + place] = value; }

  // target(group, k, width) says where the sums go: number k of a group of vertex 0, and how many numbers lie from there to vertex 1; null if they are not wanted.
  template <class F>
  __device__ void by_faces(uint32_t ends, const F& target) const {
    const int32_t lane = kept(int32_t(threadIdx.x % kWarp)), number = lane < 3 * kValues ? lane : 0, c = number / 3, i = number % 3;
    int32_t width = 0;
    char* const to = reinterpret_cast<char*>(kept(target(c / kGroup, c % kGroup, width)));
    if (lane >= 3 * kValues || !to) return;
    const int32_t bytes = width * int32_t(sizeof(float));
    const float* row = values + c * kNumber + i * kRow;
    const int32_t* name = vertex + i * int32_t(kWarp);
    float sum = 0.f;
    UNROLL_NOT
    for (; ends; ends >>= 4, row += 4, name += 4)
      UNROLL
      for (int p = 0; p < 4; ++p) {
        sum += row[p];
        if (ends >> p & 1) atomicAdd(in_global(reinterpret_cast<float*>(to + int64_t(name[p]) * kept(bytes))), sum), sum = 0.f;
      }
  }

  // add(group, k, vertices, values) for number k of every pixel's three corners and of the groups from kFirst on.
  template <int kFirst, class F>
  __device__ void by_corners(const F& add) const {
    const int32_t lane = kept(int32_t(threadIdx.x % kWarp));
    UNROLL
    for (int round = 0; round < kGroup; ++round) {
      const int32_t item = round * int32_t(kWarp) + lane, l = item / kGroup, k = item % kGroup;
      const int32_t vertices[3] = {vertex[l], vertex[kWarp + l], vertex[2 * kWarp + l]};
      UNROLL
      for (int g = kFirst; g < kValues / kGroup; ++g) {
        const float* const from = values + (g * kGroup + k) * kNumber + l;
        const float sums[3] = {from[0], from[kRow], from[2 * kRow]};
        add(g, k, vertices, sums);
      }
    }
  }
};

// run(mode, warps): with the numbers of a warp in shared memory, to be summed there or, where sums must not depend on order, to be moved to neighbouring lanes;
// pixel by pixel for float64, and where nothing is added but the largest is looked for.
template <class T, class F>
void sum_by_warps(bool deterministic, const F& run) {
  accumulate(deterministic, [&](auto mode) { run(mode, std::bool_constant<std::is_same_v<T, float> && decltype(mode)::mode != kMeasure>{}); });
}

}  // namespace facerender
