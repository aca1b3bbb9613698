// Which face each pixel sees, for a batch: the part of rasterization that `rasterize` and `render_face` share on CUDA.
//
// One thread a triangle. Most triangles of a face hold no pixel centre and end after a few instructions; small ones are scanned
// by their thread. What is left over (large, or in need of the homogeneous path) is marked, one bit a triangle, and drawn by a
// second kernel, a warp for each: so the first one needs few registers.
#pragma once

#include "../raster.h"
#include "launch.h"

namespace facerender {

constexpr int32_t kThreadPixels = 32;  // a box of more pixels is drawn by the warp

template <class T>
struct BatchMesh {
  const T* clip;         // [N,V,4]
  const int32_t* faces;  // [F,3]
  int64_t batch, num_vertices, num_faces;
  int32_t height, width;
  int64_t cull;
};

__device__ inline void claim(uint64_t* keys, const uint64_t* in_front, int64_t pixel, float depth, int32_t face) {
  if (!in_depth_range(depth)) return;
  const uint64_t key = visibility_key(depth, face);
  if (in_front && key <= in_front[pixel]) return;
  atomicMin(reinterpret_cast<unsigned long long*>(keys) + pixel, static_cast<unsigned long long>(key));
}

template <class T>
struct Triangle {
  Vec4<T> clip[3];
  ScreenVertex<T> screen[3];
  bool valid;

  __device__ Triangle(const BatchMesh<T>& mesh, int64_t n, int64_t face) {
    Corners f;
    valid = face < mesh.num_faces && load_corners(mesh.faces, face, mesh.num_vertices, f);
    if (!valid) return;
    for (int i = 0; i < 3; ++i) {
      clip[i] = load4(mesh.clip + (n * mesh.num_vertices + f.v[i]) * 4);
      screen[i] = screen_vertex<T, int32_t>(clip[i].x, clip[i].y, clip[i].z, clip[i].w, mesh.width, mesh.height);
      valid = valid && screen[i].cell != kInvalidCell;
    }
  }
  __device__ bool homogeneous() const { return needs_homogeneous(screen[0].cell, screen[1].cell, screen[2].cell); }
  __device__ bool visible() const { return valid && (homogeneous() || !holds_no_centre(screen[0].cell, screen[1].cell, screen[2].cell)); }
  __device__ Box box() const { return centre_box(screen[0].cell, screen[1].cell, screen[2].cell); }
  __device__ bool narrow() const {
    const int32_t wide = max3(screen[0].x, screen[1].x, screen[2].x) - min3(screen[0].x, screen[1].x, screen[2].x);
    const int32_t high = max3(screen[0].y, screen[1].y, screen[2].y) - min3(screen[0].y, screen[1].y, screen[2].y);
    return wide < kNarrow * kSubpixels && high < kNarrow * kSubpixels;
  }
};

// Pixels first, first + step, ... of the triangle's box.
template <class T, class I>
__device__ void draw_box(const BatchMesh<T>& mesh, const Triangle<T>& t, int64_t face, uint64_t* keys, const uint64_t* in_front, int32_t first, int32_t step) {
  const Box box = t.box();
  const Setup<T, I> s = triangle_setup<T, I>(t.screen[0], t.screen[1], t.screen[2], box, mesh.cull);
  if (!s.drawn) return;
  const int32_t columns = box.x1 - box.x0, pixels = columns * (box.y1 - box.y0);
  for (int32_t i = first; i < pixels; i += step) {
    const int32_t y = i / columns, x = i - y * columns;
    const I right = I(x) << kSubpixelBits, down = I(y) << kSubpixelBits;
    const I e1 = s.e1 + s.dx1 * down - s.dy1 * right, e2 = s.e2 + s.dx2 * down - s.dy2 * right, e0 = s.area - e1 - e2;
    if (((e0 + s.tie0) | (e1 + s.tie1) | (e2 + s.tie2)) < 0) continue;
    claim(keys, in_front, int64_t(box.y0 + y) * mesh.width + box.x0 + x, float(plane_depth(s.z0, s.dz1, s.dz2, s.inv_area, e1, e2)), int32_t(face));
  }
}

template <class T>
__device__ void draw_homogeneous(const BatchMesh<T>& mesh, const Triangle<T>& t, int64_t face, uint64_t* keys, const uint64_t* in_front, int32_t first, int32_t step) {
  HomogeneousVertex v[3];
  for (int i = 0; i < 3; ++i) v[i] = homogeneous_vertex(t.clip[i], mesh.width, mesh.height);
  const HomogeneousSetup s(v, mesh.width, mesh.height, mesh.cull);
  if (!s.drawn) return;
  const int64_t pixels = int64_t(mesh.height) * mesh.width;
  for (int64_t i = first; i < pixels; i += step) {
    float depth;
    if (s.covers(int32_t(i % mesh.width), int32_t(i / mesh.width), depth)) claim(keys, in_front, i, depth, int32_t(face));
  }
}

// marks [N, ceil(F / 32)]: bit l of word w is set where triangle 32 w + l waits for draw_marked.
template <class T>
__global__ void __launch_bounds__(kBlock) draw_small(BatchMesh<T> mesh, const uint64_t* all_in_front, uint64_t* all_keys, uint32_t* marks) {
  const int64_t face = item(), pixels = int64_t(mesh.height) * mesh.width, words = (mesh.num_faces + kWarp - 1) / kWarp;
  for (int64_t n = blockIdx.y; n < mesh.batch; n += gridDim.y) {  // the same for every thread of a block
    bool waits = false;
    const Triangle<T> t(mesh, n, face);
    if (t.visible()) {
      const Box box = t.box();
      waits = t.homogeneous() || !t.narrow() || (box.x1 - box.x0) * (box.y1 - box.y0) > kThreadPixels;
      if (!waits) draw_box<T, int32_t>(mesh, t, face, all_keys + n * pixels, all_in_front ? all_in_front + n * pixels : nullptr, 0, 1);
    }
    const uint32_t word = __ballot_sync(kAllLanes, waits);
    if (threadIdx.x % kWarp == 0 && face < mesh.num_faces) marks[n * words + face / kWarp] = word;
  }
}

// One thread a word of marks to look at, one warp a triangle to draw.
template <class T>
__global__ void __launch_bounds__(kBlock) draw_marked(BatchMesh<T> mesh, const uint64_t* all_in_front, uint64_t* all_keys, const uint32_t* marks) {
  const int64_t words = (mesh.num_faces + kWarp - 1) / kWarp, mine = item(), pixels = int64_t(mesh.height) * mesh.width;
  const int32_t lane = int32_t(threadIdx.x % kWarp);
  for (int64_t n = blockIdx.y; n < mesh.batch; n += gridDim.y) {
    uint64_t* keys = all_keys + n * pixels;
    const uint64_t* in_front = all_in_front ? all_in_front + n * pixels : nullptr;
    const uint32_t word = mine < words ? marks[n * words + mine] : 0;
    for (uint32_t lanes = __ballot_sync(kAllLanes, word != 0); lanes; lanes &= lanes - 1) {
      const int32_t owner = __ffs(int(lanes)) - 1;
      for (uint32_t waiting = __shfl_sync(kAllLanes, word, owner); waiting; waiting &= waiting - 1) {
        const int64_t face = (mine - lane + owner) * int64_t(kWarp) + (__ffs(int(waiting)) - 1);
        const Triangle<T> t(mesh, n, face);
        if (t.homogeneous())
          draw_homogeneous(mesh, t, face, keys, in_front, lane, int32_t(kWarp));
        else
          draw_box<T, int64_t>(mesh, t, face, keys, in_front, lane, int32_t(kWarp));
      }
    }
  }
}

// Launches the search; `keys` [N,H,W] is filled. `like`: a tensor of the device.
template <class T>
void find_visible(const Device& device, const Tensor& like, const BatchMesh<T>& mesh, const uint64_t* in_front, uint64_t* keys) {
  device.fill_bytes(keys, 0xFF, mesh.batch * mesh.height * mesh.width * 8);
  if (mesh.batch == 0 || mesh.num_faces == 0 || mesh.height == 0 || mesh.width == 0) return;
  const int64_t words = (mesh.num_faces + kWarp - 1) / kWarp;
  const Tensor marks = empty(like, {mesh.batch, words}, ScalarType::Int);
  uint32_t* bits = static_cast<uint32_t*>(marks.mutable_data_ptr());
  LAUNCH((draw_small<T>), grid_of(mesh.num_faces, mesh.batch), kBlock, device.stream, mesh, in_front, keys, bits);
  LAUNCH((draw_marked<T>), grid_of(words, mesh.batch), kBlock, device.stream, mesh, in_front, keys, static_cast<const uint32_t*>(bits));
  device.launched();
}

}  // namespace facerender
