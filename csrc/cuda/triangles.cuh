// Building blocks of the CUDA visibility pass: the visibility buffer, the mask of deferred triangles, and device
// functions that draw one triangle, by one lane or by a whole warp. Read by meshlets.cuh, draw_meshlets.cuh and
// visibility.cuh; `covers` in raster.h decides coverage.
#pragma once

#include "../raster.h"
#include "launch.h"

namespace facerender {

template <class T>
struct BatchMesh {
  const T* clip;         // [N,V,4]
  const int32_t* faces;  // [F,3]
  int64_t batch, num_vertices, num_faces;
  int32_t height, width;
  int64_t cull;
};

// The visibility buffer: one 64-bit key per pixel (visibility_key: depth, then face id). With kPeel this is depth
// peeling: `in_front` holds the keys of the layer in front, and only fragments behind those count.
template <bool kPeel>
struct VisibilityKeys {
  uint64_t* keys;
  const uint64_t* in_front;

  __device__ VisibilityKeys image(int64_t n, int64_t pixels) const {
    return {launder(keys + n * pixels), kPeel ? launder(in_front + n * pixels) : nullptr};
  }
  __device__ void claim(uint32_t pixel, float depth, int32_t face) const {
    if (!(fabsf(depth) <= 1.f)) return;  // in_depth_range
    const uint64_t key = visibility_key(depth, face);
    if (kPeel && key <= in_front[pixel]) return;
#ifdef __CUDA_ARCH__
    asm volatile("red.relaxed.gpu.global.min.u64 [%0], %1;" ::"l"(keys + pixel), "l"(key) : "memory");
#else
    atomicMin(reinterpret_cast<unsigned long long*>(keys + pixel), static_cast<unsigned long long>(key));
#endif
  }
};

// Marks the triangles that the draw kernel leaves to draw_deferred: one bit per triangle, in `words` 32-bit words per
// image. 0 means deferred, because the launch that fills the keys with ones fills the mask with ones too.
struct DeferredMask {
  uint32_t* bits;
  int64_t words;

  __device__ void defer(int64_t n, int32_t face) const {
    atomicAnd(bits + n * words + face / int32_t(kWarp), ~(1u << (face % int32_t(kWarp))));
  }
};

// A projected vertex, laid out so that float32 loads it with one 16-byte instruction.
template <class T>
struct alignas(sizeof(T) == 4 ? 16 : 8) PackedVertex {
  int32_t x, y, first_center;
  T z;
};

// The sign that makes the areas of drawn triangles positive. With culling it is always the sign of the orientation that
// is drawn, so a culled triangle has a negative area and no point inside.
struct Orientation {
  int32_t either, fixed;

  explicit Orientation(int64_t cull) : either(cull == kCullNone ? -1 : 0), fixed(cull == kCullBack ? -1 : 1) {}
  __device__ int32_t sign(int32_t signed_area) const { return (signed_area >> 31 & either) | fixed; }
};

template <class T, class I>
__device__ inline float depth_at(const TriangleSetup<T, I>& s, I e1, I e2) {
  return float(plane_depth(s.z0, s.dz1, s.dz2, s.inv_area, e1, e2));
}

// Draws one pixel of a narrow triangle if it is covered (at: column, row in the upper half). Computes the edge
// functions and ties of TriangleSetup itself, because one pixel does not need all of that: no steps to other pixels,
// and ties only if the center lies on an edge.
template <class T, class V>
__device__ inline void draw_single_pixel(const BatchMesh<T>& mesh, Orientation drawn, const PackedVertex<T>& a,
                                         const PackedVertex<T>& b, const PackedVertex<T>& c, uint32_t at,
                                         uint32_t first_pixel, int32_t face, const V& keys) {
  const int32_t abx = b.x - a.x, aby = b.y - a.y, acx = c.x - a.x, acy = c.y - a.y, signed_area = abx * acy - aby * acx;
  const int32_t col = int32_t(at & 0xFFFF), row = int32_t(at >> 16), s = drawn.sign(signed_area);
  const int32_t px = s * ((col << kSubpixelBits) + kSubpixels / 2 - a.x),
                py = s * ((row << kSubpixelBits) + kSubpixels / 2 - a.y);
  const int32_t area = s * signed_area, e1 = acy * px - acx * py, e2 = abx * py - aby * px, e0 = area - e1 - e2;
  if (!covers(e0, e1, e2)) return;  // a tie cannot change this: it is at most 0
  if (e0 == 0 || e1 == 0 || e2 == 0) {
    if (area == 0 || !covers(e0 + tie_break(s * (acx - abx), s * (acy - aby)), e1 + tie_break(-s * acx, -s * acy),
                             e2 + tie_break(s * abx, s * aby)))
      return;
  }
  keys.claim(first_pixel + uint32_t(row * mesh.width + col),
             float(plane_depth(a.z, b.z - a.z, c.z - a.z, reciprocal(T(area)), e1, e2)), face);
}

// Draws a triangle by a whole warp, 8x4 pixels at a time. `stripes` warps may share one triangle; this is number
// `stripe` of them.
template <class T, class I, class V>
__device__ void draw_box_by_warp(const BatchMesh<T>& mesh, const TriangleSetup<T, I>& s, const Box& box, int32_t face,
                                 const V& keys, int32_t lane, int32_t stripe = 0, int32_t stripes = 1) {
  if (!s.drawn) return;
  for (int32_t y = stripe * 4 + lane / 8; y < box.y1 - box.y0; y += 4 * stripes) {
    NO_UNROLL
    for (int32_t x = lane % 8; x < box.x1 - box.x0; x += 8) {
      const I right = I(x) << kSubpixelBits, down = I(y) << kSubpixelBits;
      const I e1 = s.e1 + s.dx1 * down - s.dy1 * right, e2 = s.e2 + s.dx2 * down - s.dy2 * right, e0 = s.area - e1 - e2;
      if (covers(e0 + s.tie0, e1 + s.tie1, e2 + s.tie2))
        keys.claim(uint32_t((box.y0 + y) * mesh.width + box.x0 + x), depth_at(s, e1, e2), face);
    }
  }
}

// The same over the whole image, for a triangle that needs the homogeneous path.
template <class T, class V>
__device__ void draw_homogeneous_by_warp(const BatchMesh<T>& mesh, const Vec4<T>* clip, int32_t face, const V& keys,
                                         int32_t lane, int32_t stripe, int32_t stripes) {
  const HomogeneousSetup s(clip, mesh.width, mesh.height, mesh.cull);
  if (!s.drawn) return;
  const int32_t pixels = mesh.height * mesh.width;
  for (int32_t i = stripe * int32_t(kWarp) + lane; i < pixels; i += stripes * int32_t(kWarp)) {
    float depth;
    if (s.covers(i % mesh.width, i / mesh.width, depth)) keys.claim(uint32_t(i), depth, face);
  }
}

}  // namespace facerender
