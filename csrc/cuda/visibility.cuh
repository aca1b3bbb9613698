// Which face each pixel sees, for a batch: the part of rasterization that `rasterize` and `render_face` share on CUDA.
//
// At the sizes that networks train on, most triangles of a face hold no pixel centre, and the time goes into instructions, not memory. So
// a block takes a run of triangles through several images: it finds their vertices once, and in each image transforms every vertex
// once, drops the triangles without a centre by comparing cells, and queues the others by the size of their boxes, so that the threads of a
// warp scan boxes of like sizes. Boxes of more than kThreadPixels are drawn by a warp each. What is left over (too wide for 32 bits, or
// in need of the homogeneous path) is marked, one bit a triangle, and drawn by a second kernel: so the first one needs few registers.
#pragma once

#include <algorithm>

#include "../raster.h"
#include "launch.h"

namespace facerender {

constexpr int32_t kThreadPixels = 128;
constexpr int kQueues = 5;  // boxes of one pixel, of up to 4, 16, kThreadPixels, and of more

template <class T>
struct BatchMesh {
  const T* clip;         // [N,V,4]
  const int32_t* faces;  // [F,3]
  int64_t batch, num_vertices, num_faces;
  int32_t height, width;
  int64_t cull;
};

// The keys of one image; with kBehind also those of the layer that it lies behind.
template <bool kBehind>
struct Visibility {
  uint64_t* keys;
  const uint64_t* in_front;

  __device__ Visibility image(int64_t n, int64_t pixels) const { return {keys + n * pixels, kBehind ? in_front + n * pixels : nullptr}; }
  __device__ void claim(int32_t pixel, float depth, int32_t face) const {
    if (!in_depth_range(depth)) return;
    const uint64_t key = visibility_key(depth, face);
    if (kBehind && key <= in_front[pixel]) return;
    atomicMin(reinterpret_cast<unsigned long long*>(keys) + pixel, static_cast<unsigned long long>(key));
  }
};

template <class T>
struct ScreenTriangle {
  ScreenVertex<T> v[3];

  __device__ Box box() const { return centre_box(v[0].cell, v[1].cell, v[2].cell); }
  __device__ bool narrow() const {
    const int32_t wide = max3(v[0].x, v[1].x, v[2].x) - min3(v[0].x, v[1].x, v[2].x);
    const int32_t high = max3(v[0].y, v[1].y, v[2].y) - min3(v[0].y, v[1].y, v[2].y);
    return wide < kNarrow * kSubpixels && high < kNarrow * kSubpixels;
  }
  template <class I>
  __device__ Setup<T, I> setup(const Box& box, int64_t cull) const {
    return triangle_setup<T, I>(v[0], v[1], v[2], box, cull);
  }
};

template <class T, class I>
__device__ inline float depth_at(const Setup<T, I>& s, I e1, I e2) {
  return float(plane_depth(s.z0, s.dz1, s.dz2, s.inv_area, e1, e2));
}

// Narrow triangles by one thread: of which the box holds one pixel, ...
template <class T, class V>
__device__ void one_pixel(const BatchMesh<T>& mesh, const ScreenTriangle<T>& t, int32_t face, const V& to) {
  const Box box = t.box();
  const Setup<T, int32_t> s = t.template setup<int32_t>(box, mesh.cull);
  if (s.drawn && ((s.e0() + s.tie0) | (s.e1 + s.tie1) | (s.e2 + s.tie2)) >= 0) to.claim(box.y0 * mesh.width + box.x0, depth_at(s, s.e1, s.e2), face);
}

// ... and several. The edge functions are stepped with their tie breaks in them.
template <class T, class V>
__device__ void scan_box(const BatchMesh<T>& mesh, const ScreenTriangle<T>& t, int32_t face, const V& to) {
  const Box box = t.box();
  const Setup<T, int32_t> s = t.template setup<int32_t>(box, mesh.cull);
  if (!s.drawn) return;
  const int32_t right1 = s.dy1 << kSubpixelBits, right2 = s.dy2 << kSubpixelBits, down1 = s.dx1 << kSubpixelBits, down2 = s.dx2 << kSubpixelBits;
  const int32_t whole = s.area + s.tie0 + s.tie1 + s.tie2;
  int32_t row1 = s.e1 + s.tie1, row2 = s.e2 + s.tie2, row = box.y0 * mesh.width;
  UNROLL_NOT
  for (int32_t y = box.y0; y < box.y1; ++y, row1 += down1, row2 += down2, row += mesh.width) {
    int32_t g1 = row1, g2 = row2;
    UNROLL_NOT  // warps mix widths: each would go through the unrolled loop and through its rest
    for (int32_t x = box.x0; x < box.x1; ++x, g1 -= right1, g2 -= right2)
      if (((whole - g1 - g2) | g1 | g2) >= 0) to.claim(row + x, depth_at(s, g1 - s.tie1, g2 - s.tie2), face);
  }
}

// A triangle by a warp, eight by four pixels at a time; of `stripes` warps that share it this is number `stripe`.
template <class T, class I, class V>
__device__ void warp_box(const BatchMesh<T>& mesh, const ScreenTriangle<T>& t, int32_t face, const V& to, int32_t lane, int32_t stripe = 0, int32_t stripes = 1) {
  const Box box = t.box();
  const Setup<T, I> s = t.template setup<I>(box, mesh.cull);
  if (!s.drawn) return;
  for (int32_t y = stripe * 4 + lane / 8; y < box.y1 - box.y0; y += 4 * stripes)
    for (int32_t x = lane % 8; x < box.x1 - box.x0; x += 8) {
      const I right = I(x) << kSubpixelBits, down = I(y) << kSubpixelBits;
      const I e1 = s.e1 + s.dx1 * down - s.dy1 * right, e2 = s.e2 + s.dx2 * down - s.dy2 * right, e0 = s.area - e1 - e2;
      if (((e0 + s.tie0) | (e1 + s.tie1) | (e2 + s.tie2)) >= 0) to.claim((box.y0 + y) * mesh.width + box.x0 + x, depth_at(s, e1, e2), face);
    }
}

template <class T, class V>
__device__ void warp_homogeneous(const BatchMesh<T>& mesh, const Vec4<T>* clip, int32_t face, const V& to, int32_t lane, int32_t stripe, int32_t stripes) {
  HomogeneousVertex v[3];
  for (int i = 0; i < 3; ++i) v[i] = homogeneous_vertex(clip[i], mesh.width, mesh.height);
  const HomogeneousSetup s(v, mesh.width, mesh.height, mesh.cull);
  if (!s.drawn) return;
  const int32_t pixels = mesh.height * mesh.width;
  for (int32_t i = stripe * int32_t(kWarp) + lane; i < pixels; i += stripes * int32_t(kWarp)) {
    float depth;
    if (s.covers(i % mesh.width, i / mesh.width, depth)) to.claim(i, depth, face);
  }
}

// What a block knows of its triangles: their vertices, each once, and in the image at hand where these are on the screen.
template <class T, int kTriangles>
struct DrawBlock {
  static constexpr int kVertices = 3 * kTriangles, kSlots = 4 * kTriangles;
  static constexpr uint16_t kNone = 0xFFFF;  // the triangle names a vertex that is not there

  union {
    int32_t table[kSlots];  // while vertices are sought: open addressing by number
    struct {
      int32_t x[kVertices], y[kVertices], cell[kVertices];
      T z[kVertices];
    } screen;
  };
  int32_t vertex[kVertices], vertices;
  uint16_t corner[3][kTriangles];
  uint16_t queue[kQueues][kTriangles];
  int32_t length[kQueues];
  uint32_t waits[kTriangles / kWarp];

  // Every thread must come.
  __device__ void find_vertices(const BatchMesh<T>& mesh, int32_t first_face, bool each_once) {
    const int32_t thread = int32_t(threadIdx.x);
    constexpr int kEach = kTriangles / kBlock;
    int32_t slot[kEach][3];
    for (int32_t s = thread; s < kSlots; s += kBlock) table[s] = -1;
    if (thread == 0) vertices = each_once ? 0 : kVertices;
    __syncthreads();
    UNROLL
    for (int k = 0; k < kEach; ++k) {
      const int32_t t = thread + k * int32_t(kBlock), face = first_face + t;
      Corners f;
      const bool sound = face < mesh.num_faces && load_corners(mesh.faces, face, mesh.num_vertices, f);
      UNROLL
      for (int i = 0; i < 3; ++i) {
        slot[k][i] = -1;
        if (!each_once) {
          vertex[3 * t + i] = sound ? f.v[i] : -1;
          corner[i][t] = sound ? uint16_t(3 * t + i) : kNone;
        } else if (sound) {
          // Neighbours stay neighbours, so that their positions are loaded together; only those that find their place taken, in a grid say, scatter.
          int32_t s = f.v[i] & (kSlots - 1);
          const int32_t step = int32_t(uint32_t(f.v[i]) * 2654435769u >> 20) | 1;
          for (;; s = (s + step) & (kSlots - 1)) {
            const int32_t held = atomicCAS(&table[s], -1, f.v[i]);
            if (held == -1 || held == f.v[i]) break;
          }
          slot[k][i] = s;
        }
      }
    }
    __syncthreads();
    if (!each_once) return;
    for (int32_t s = thread; s < kSlots; s += kBlock) {
      const int32_t v = table[s], number = take_numbers<1>(v >= 0 ? 0 : -1, &vertices);
      if (v >= 0) vertex[number] = v, table[s] = number;
    }
    __syncthreads();
    UNROLL
    for (int k = 0; k < kEach; ++k)
      UNROLL
      for (int i = 0; i < 3; ++i) corner[i][thread + k * int32_t(kBlock)] = slot[k][i] < 0 ? kNone : uint16_t(table[slot[k][i]]);
    __syncthreads();
  }

  __device__ ScreenTriangle<T> triangle(int32_t t) const {
    ScreenTriangle<T> out;
    UNROLL
    for (int i = 0; i < 3; ++i) {
      const int32_t u = corner[i][t];
      out.v[i] = {screen.x[u], screen.y[u], screen.z[u], screen.cell[u]};
    }
    return out;
  }
  __device__ void leave(int32_t t) { atomicOr(&waits[t / kWarp], 1u << (t % kWarp)); }
};

// marks [N, ceil(F / 32)]: bit l of word w is set where triangle 32 w + l waits for draw_marked.
template <class T, int kTriangles, bool kBehind>
__global__ void __launch_bounds__(kBlock, sizeof(T) == 4 ? 3 : 2) draw(BatchMesh<T> mesh, Visibility<kBehind> all, uint32_t* marks, bool each_once) {
  __shared__ DrawBlock<T, kTriangles> s;
  const int32_t thread = int32_t(threadIdx.x), lane = thread % int32_t(kWarp), first_face = int32_t(blockIdx.x) * kTriangles;
  const int64_t pixels = int64_t(mesh.height) * mesh.width, words = (mesh.num_faces + kWarp - 1) / kWarp;
  s.find_vertices(mesh, first_face, each_once);
  for (int64_t n = blockIdx.y; n < mesh.batch; n += gridDim.y) {
    const Visibility<kBehind> to = all.image(n, pixels);
    const T* clip = mesh.clip + n * mesh.num_vertices * 4;
    if (thread < kQueues) s.length[thread] = 0;
    if (thread < kTriangles / int32_t(kWarp)) s.waits[thread] = 0;
    for (int32_t u = thread; u < s.vertices; u += kBlock) {
      const int32_t number = s.vertex[u];
      if (number < 0) continue;
      const Vec4<T> p = load4(clip + int64_t(number) * 4);
      const ScreenVertex<T> v = screen_vertex<T, int32_t>(p.x, p.y, p.z, p.w, mesh.width, mesh.height);
      s.screen.x[u] = v.x, s.screen.y[u] = v.y, s.screen.z[u] = v.z, s.screen.cell[u] = v.cell;
    }
    __syncthreads();
    UNROLL
    for (int k = 0; k < kTriangles / int32_t(kBlock); ++k) {
      const int32_t t = thread + k * int32_t(kBlock), u = s.corner[0][t];
      int32_t queue = -1;
      if (u != s.kNone) {
        const int32_t c0 = s.screen.cell[u], c1 = s.screen.cell[s.corner[1][t]], c2 = s.screen.cell[s.corner[2][t]];
        if (needs_homogeneous(c0, c1, c2)) {
          if (c0 != kInvalidCell && c1 != kInvalidCell && c2 != kInvalidCell) s.leave(t);
        } else if (!holds_no_centre(c0, c1, c2)) {
          const Box box = centre_box(c0, c1, c2);
          const int32_t size = (box.x1 - box.x0) * (box.y1 - box.y0);
          queue = (size > 1) + (size > 4) + (size > 16) + (size > kThreadPixels);
        }
      }
      const int32_t place = take_numbers<kQueues>(queue, s.length);
      if (queue >= 0) s.queue[queue][place] = uint16_t(t);
    }
    __syncthreads();
    for (int32_t i = thread; i < s.length[0]; i += kBlock) {
      const int32_t t = s.queue[0][i];
      const ScreenTriangle<T> triangle = s.triangle(t);
      if (triangle.narrow())
        one_pixel(mesh, triangle, first_face + t, to);
      else
        s.leave(t);
    }
    int32_t start = s.length[0];  // warps that have a queue's last triangles leave the next queue to the others
    UNROLL_NOT
    for (int queue = 1; queue < kQueues - 1; ++queue) {
      start = (start + int32_t(kWarp) - 1) & ~int32_t(kWarp - 1);
      const int32_t length = s.length[queue];
      UNROLL_NOT
      for (int32_t i = (thread - start) & int32_t(kBlock - 1); i < length; i += kBlock) {
        const int32_t t = s.queue[queue][i];
        const ScreenTriangle<T> triangle = s.triangle(t);
        if (triangle.narrow())
          scan_box(mesh, triangle, first_face + t, to);
        else
          s.leave(t);
      }
      start += length;
    }
    for (int32_t i = thread / int32_t(kWarp); i < s.length[kQueues - 1]; i += kBlock / kWarp) {
      const int32_t t = s.queue[kQueues - 1][i];
      const ScreenTriangle<T> triangle = s.triangle(t);
      if (triangle.narrow())
        warp_box<T, int32_t>(mesh, triangle, first_face + t, to, lane);
      else if (lane == 0)
        s.leave(t);
    }
    __syncthreads();
    if (thread < kTriangles / int32_t(kWarp) && first_face / int32_t(kWarp) + thread < words) marks[n * words + first_face / int32_t(kWarp) + thread] = s.waits[thread];
  }
}

// One thread a word of marks to look at, one warp a triangle to draw; in large images several, gridDim.z, which share its rows.
template <class T, bool kBehind>
__global__ void __launch_bounds__(kBlock) draw_marked(BatchMesh<T> mesh, Visibility<kBehind> all, const uint32_t* marks) {
  const int64_t words = (mesh.num_faces + kWarp - 1) / kWarp, mine = item(), pixels = int64_t(mesh.height) * mesh.width;
  const int32_t lane = int32_t(threadIdx.x % kWarp), stripe = int32_t(blockIdx.z), stripes = int32_t(gridDim.z);
  for (int64_t n = blockIdx.y; n < mesh.batch; n += gridDim.y) {
    const Visibility<kBehind> to = all.image(n, pixels);
    const uint32_t word = mine < words ? marks[n * words + mine] : 0;
    for (uint32_t lanes = __ballot_sync(kAllLanes, word != 0); lanes; lanes &= lanes - 1) {
      const int32_t owner = __ffs(int(lanes)) - 1;
      for (uint32_t waiting = __shfl_sync(kAllLanes, word, owner); waiting; waiting &= waiting - 1) {
        const int32_t face = int32_t((mine - lane + owner) * int64_t(kWarp)) + (__ffs(int(waiting)) - 1);
        Corners f;
        load_corners(mesh.faces, face, mesh.num_vertices, f);
        Vec4<T> clip[3];
        ScreenTriangle<T> t;
        for (int i = 0; i < 3; ++i) {
          clip[i] = load4(mesh.clip + (n * mesh.num_vertices + f.v[i]) * 4);
          t.v[i] = screen_vertex<T, int32_t>(clip[i].x, clip[i].y, clip[i].z, clip[i].w, mesh.width, mesh.height);
        }
        if (needs_homogeneous(t.v[0].cell, t.v[1].cell, t.v[2].cell))
          warp_homogeneous(mesh, clip, face, to, lane, stripe, stripes);
        else
          warp_box<T, int64_t>(mesh, t, face, to, lane, stripe, stripes);
      }
    }
  }
}

template <class T, bool kBehind>
void launch_search(const Device& device, const BatchMesh<T>& mesh, const Visibility<kBehind>& all, uint32_t* marks) {
  // Blocks that take several images find their vertices but once; still there must be enough of them for every multiprocessor.
  constexpr int64_t kFew = kBlock, kMany = 2 * kBlock, kMostImages = 8, kBlocksEach = 8;
  const auto blocks = [](int64_t count, int64_t each) { return unsigned(std::min<int64_t>((count + each - 1) / each, 65535)); };
  const int64_t images = std::min(kMostImages, (mesh.num_faces + kMany - 1) / kMany * mesh.batch / std::max<int64_t>(kBlocksEach * device.multiprocessors(), 1));
  if (images > 1)
    LAUNCH((draw<T, kMany, kBehind>), dim3((mesh.num_faces + kMany - 1) / kMany, blocks(mesh.batch, images)), kBlock, device.stream, mesh, all, marks, true);
  else
    LAUNCH((draw<T, kFew, kBehind>), dim3((mesh.num_faces + kFew - 1) / kFew, blocks(mesh.batch, 1)), kBlock, device.stream, mesh, all, marks, false);
  dim3 grid = grid_of((mesh.num_faces + kWarp - 1) / kWarp, mesh.batch);
  grid.z = unsigned(std::clamp<int64_t>(int64_t(mesh.height) * mesh.width >> 16, 1, 16));
  LAUNCH((draw_marked<T, kBehind>), grid, kBlock, device.stream, mesh, all, static_cast<const uint32_t*>(marks));
  device.launched();
}

// Launches the search; `keys` [N,H,W] is filled. in_front: keys of the layer before, or null. `like`: a tensor of the device.
template <class T>
void find_visible(const Device& device, const Tensor& like, const BatchMesh<T>& mesh, const uint64_t* in_front, uint64_t* keys) {
  device.fill_bytes(keys, 0xFF, mesh.batch * mesh.height * mesh.width * 8);
  if (mesh.batch == 0 || mesh.num_faces == 0 || mesh.height == 0 || mesh.width == 0) return;
  const Tensor marks = empty(like, {mesh.batch, (mesh.num_faces + kWarp - 1) / kWarp}, ScalarType::Int);
  uint32_t* bits = static_cast<uint32_t*>(marks.mutable_data_ptr());
  if (in_front)
    launch_search(device, mesh, Visibility<true>{keys, in_front}, bits);
  else
    launch_search(device, mesh, Visibility<false>{keys, nullptr}, bits);
}

}  // namespace facerender
