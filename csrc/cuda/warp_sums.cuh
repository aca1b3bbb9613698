// Gradients of pixels, added up by a warp in shared memory before they go to the vertices in global memory. Read by the
// backward kernels of rasterize, interpolate and render_face.
//
// With one atomic per pixel, corner and number, a backward pass over small triangles spends most of its time on
// atomics; with large triangles, thousands of pixels contend for one address. So each pixel stages its numbers in
// shared memory, from where they leave in the cheaper of two ways:
//   By faces, if few are visible at the warp's pixels: the pixels are staged in the order of their faces, and each of
//   the numbers of a face's three vertices is summed by one lane, which issues one atomic per face. By corners: each
//   pixel's numbers are added separately, but neighboring lanes add neighboring numbers of one vertex, because
//   simultaneous atomics to one sector cost as much as one. (Finding the vertices that pixels share would take a warp
//   longer than adding twice.)
// Warps do not wait for each other. The order of a float sum, and so its last bits, may differ between runs.
#pragma once

#include "gradient_sums.cuh"

namespace facerender {

// Blocks have two warps only, so that few wait for a slower one at their end. A block works on a patch of 16x4 pixels,
// half of it per warp, or, in large images, on several patches side by side: most have no visible face.
constexpr unsigned kSumBlock = 64;
constexpr int kPatches = 4;
constexpr int64_t kManyPatches = 96;  // per multiprocessor: above, a block takes kPatches of them
constexpr int32_t kPatchHeight = 4, kPatchWidth = 16;

struct PatchGrid {
  dim3 grid;
  int32_t patches;

  PatchGrid(const Device& device, int64_t height, int64_t width, int64_t images)
      : grid(unsigned((width + kPatchWidth - 1) / kPatchWidth), unsigned((height + kPatchHeight - 1) / kPatchHeight),
             unsigned(images < 65535 ? images : 65535)) {
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
  const int32_t row = launder(int32_t(blockIdx.y)) * kPatchHeight + lane / 8,
                col = (int32_t(blockIdx.x) * patches + k) * kPatchWidth + warp * 8 + lane % 8;
  return {row, col, row < height && col < width};
}

// The face ids of a thread's pixels, one per patch, in shared memory because registers are scarce.
struct PatchIds {
  int32_t ids[kPatches][kSumBlock];

  // Loads the ids of all patches at once; returns a bit for each patch in which the warp has a visible face. first: the
  // id in the first patch, with `step` numbers between patches; inside(k): whether the pixel of patch k exists.
  template <class F>
  __device__ uint32_t load(int32_t patches, const int32_t* first, int64_t step, const F& inside) {
    int32_t loaded[kPatches];
    UNROLL
    for (int k = 0; k < kPatches; ++k) loaded[k] = k < patches && inside(k) ? first[k * step] : -1;
    uint32_t live = 0;
    UNROLL
    for (int k = 0; k < kPatches; ++k) {
      ids[k][threadIdx.x] = loaded[k];
      if (__ballot_sync(kAllLanes, loaded[k] >= 0)) live |= 1u << k;
    }
    return live;
  }
  __device__ int32_t at(int k) const { return ids[k][threadIdx.x]; }
};

// The order in which a warp's pixels are staged in shared memory: by faces, then the pixels without a face; or by
// lanes.
struct PixelOrder {
  int32_t slot;            // of this lane's pixel
  uint32_t face_ends = 0;  // a bit for the last slot of each face; 0 if the order is by lanes

  __device__ PixelOrder() : slot(int32_t(threadIdx.x % kWarp)) {}
  // By faces if there are at most max_faces. Every lane of the warp must call it.
  __device__ PixelOrder(bool visible, int32_t face, int max_faces) : PixelOrder() {
    const uint32_t same = __match_any_sync(kAllLanes, visible ? face : -1), below = lanemask_lt();
    const uint32_t firsts = __ballot_sync(kAllLanes, visible && !(same & below));
    if (__popc(firsts) > max_faces) return;
    int32_t end = 0;
    uint32_t left = ~__ballot_sync(kAllLanes, visible);  // pixels without a face come last
    if (!visible) slot = int32_t(kWarp) - __popc(left) + __popc(left & below);
    NO_UNROLL
    for (left = firsts; left; left &= left - 1) {
      const uint32_t lanes = __shfl_sync(kAllLanes, same, __ffs(int(left)) - 1);
      if (lanes == same && visible) slot = end + __popc(lanes & below);
      end += __popc(lanes);
      face_ends |= 1u << (end - 1);
    }
  }
};

// The staged numbers of a warp: kValues per corner, of which groups of kGroup are adjacent in global memory.
template <int kValues, int kGroup>
struct WarpVertexSums {
  // Number c of corner i of the pixel in `slot` is at c * kNumber + i * kRow + slot. With these strides the lanes of a
  // warp read different banks of shared memory, both in sum_by_faces, where up to 27 lanes each read another number of
  // one pixel, and in sum_by_corners, where with kGroup = 3 every three lanes read the numbers of another pixel.
  static constexpr int kRow = 35, kNumber = 107;

  float values[kValues * kNumber];
  int32_t vertex[3 * kWarp];

  // Protocol, for all lanes of a warp, at least one of which has a visible face: begin; then `put` by those lanes;
  // __syncwarp; sum_by_faces or sum_by_corners; __syncwarp before the next `begin`. A pixel without a face borrows the
  // vertices of a pixel that has one, so that its slot holds valid indices, and changes no sum: sum_by_corners adds
  // zeros for it, and sum_by_faces adds nothing, because its slot comes after the last face's.
  __device__ void begin(const PixelOrder& order, bool visible, const Corners& f) {
    const int some = __ffs(int(__ballot_sync(kAllLanes, visible))) - 1;
    UNROLL
    for (int i = 0; i < 3; ++i) {
      const int32_t other = __shfl_sync(kAllLanes, f.v[i], some);
      vertex[i * int32_t(kWarp) + order.slot] = visible ? f.v[i] : other;
    }
    if (visible || order.face_ends) return;
    UNROLL
    for (int number = 0; number < kValues; ++number) {
      UNROLL
      for (int i = 0; i < 3; ++i) put(order.slot, i, number, 0.f);
    }
  }
  __device__ void put(int32_t slot, int i, int number, float value) {
    values[number * kNumber + i * kRow + slot] = value;
  }

  // target(group, k, stride) returns where number k of a group belongs for vertex 0, or null if it is not wanted, and
  // sets the stride from one vertex to the next.
  template <class F>
  __device__ void sum_by_faces(uint32_t ends, const F& target) const {
    const int32_t lane = launder(int32_t(threadIdx.x % kWarp)), number = lane < 3 * kValues ? lane : 0, c = number / 3,
                  i = number % 3;
    int32_t stride = 0;
    char* const to = reinterpret_cast<char*>(launder(target(c / kGroup, c % kGroup, stride)));
    if (lane >= 3 * kValues || !to) return;
    const int32_t bytes = stride * int32_t(sizeof(float));
    const float* row = values + c * kNumber + i * kRow;
    const int32_t* corner = vertex + i * int32_t(kWarp);
    float sum = 0.f;
    NO_UNROLL
    for (; ends; ends >>= 4, row += 4, corner += 4) {
      UNROLL
      for (int p = 0; p < 4; ++p) {
        sum += row[p];
        if (ends >> p & 1)
          atomicAdd(assume_global(reinterpret_cast<float*>(to + int64_t(corner[p]) * launder(bytes))), sum), sum = 0.f;
      }
    }
  }

  // Calls add(group, k, vertices, values) with number k of all three corners of a pixel, for the groups from kFirst on.
  template <int kFirst, class F>
  __device__ void sum_by_corners(const F& add) const {
    const int32_t lane = launder(int32_t(threadIdx.x % kWarp));
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

// Calls run(mode, staged) for each launch of a backward kernel. staged: whether it uses WarpVertexSums, to sum by faces
// or, for reproducible sums, only to add by corners. It does not for float64, nor where only the maximum is searched.
template <class T, class F>
void accumulate_by_warp(bool deterministic, const F& run) {
  accumulate(deterministic, [&](auto mode) {
    run(mode, std::bool_constant<(std::is_same_v<T, float> && decltype(mode)::mode != kFindMax)>{});
  });
}

}  // namespace facerender
