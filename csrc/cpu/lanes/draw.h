// Draws one triangle of any size, in float32 or float64. Read by visibility.h and ../visibility_cpu.cpp.
#pragma once

#include "../../raster.h"
#include "kernels.h"

namespace facerender {
ISA_NAMESPACE_BEGIN

constexpr int kRowStep = 16;  // pixels of a row that are tested together

template <class T>
HD void vertices_to_screen(const MeshView<T>& mesh, const ScreenArrays<T>& out, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const Vec4<T> p = load4(mesh.clip + 4 * i);
    const auto s = screen_vertex<T, int32_t>(p.x, p.y, p.z, p.w, mesh.width, mesh.height);
    static_cast<ScreenVertex<T>*>(out.vertices)[i] = s;
    out.first_centers[i] = s.first_center;
  }
}

// The visibility keys of an image, and how a covered pixel enters them: by a minimum, which does not depend on the
// order. Threads that share an image use compare-and-swap.
struct KeyTarget : KeyBuffer {
  int32_t width;

  HD void put(int32_t col, int32_t row, float depth, int32_t face) const {
    if (in_depth_range(depth)) put(int64_t(row) * width + col, visibility_key(depth, face));
  }
  HD void put(int64_t i, uint64_t key) const {
    if (in_front && key <= in_front[i]) return;
    if (!shared) {
      if (key < keys[i]) keys[i] = key;
      return;
    }
    uint64_t current = __atomic_load_n(keys + i, __ATOMIC_RELAXED);
    while (key < current &&
           !__atomic_compare_exchange_n(keys + i, &current, key, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
  }
  template <class Ints, class Floats>
  HD void put_lanes(const Ints& pixel, const Floats& depth, const int32_t* face, uint32_t lanes) const {
    for (; lanes; lanes &= lanes - 1) {
      const int l = __builtin_ctz(lanes);
      if (in_depth_range(depth[l])) put(pixel[l], visibility_key(depth[l], face[l]));
    }
  }
};

template <class T>
void draw_homogeneous(const MeshView<T>& mesh, const KeyTarget& target, const Corners& f, int32_t face) {
  Vec4<T> clip[3];
  for (int i = 0; i < 3; ++i) {
    clip[i] = load4(mesh.clip + int64_t(f.v[i]) * 4);
    if (!(is_finite(clip[i].x) && is_finite(clip[i].y) && is_finite(clip[i].z) && is_finite(clip[i].w))) return;
  }
  const HomogeneousSetup setup(clip, mesh.width, mesh.height, mesh.cull);
  if (!setup.drawn) return;
  float depth;
  for (int32_t row = 0; row < mesh.height; ++row)
    for (int32_t col = 0; col < mesh.width; ++col)
      if (setup.covers(col, row, depth)) target.put(col, row, depth, face);
}

// Draws one triangle, kRowStep pixels of a row at once: `covers` in two steps, the first of which is vectorized.
template <class T, class I>
void draw_rows(const TriangleSetup<T, I>& s, const Box& box, const KeyTarget& target, int32_t face) {
  if (!s.drawn) return;
  const I left0 = s.e0(), left1 = s.e1, left2 = s.e2;
  for (int32_t row = box.y0; row < box.y1; ++row) {
    const I down = I(row - box.y0) << kSubpixelBits;
    const I r0 = left0 + s.dx0 * down, r1 = left1 + s.dx1 * down, r2 = left2 + s.dx2 * down;
    for (int32_t col = box.x0; col < box.x1; col += kRowStep) {
      I outside[kRowStep];
      float depth[kRowStep];
      const int32_t lanes = box.x1 - col < kRowStep ? box.x1 - col : kRowStep;
      for (int l = 0; l < kRowStep; ++l) {
        const I right = I(col - box.x0 + l) << kSubpixelBits;
        const I e0 = r0 - s.dy0 * right, e1 = r1 - s.dy1 * right, e2 = r2 - s.dy2 * right;
        const I tied0 = e0 + s.tie0, tied1 = e1 + s.tie1, tied2 = e2 + s.tie2;
        outside[l] = outside_sign(tied0, tied1, tied2);
        depth[l] = float(plane_depth(s.z0, s.dz1, s.dz2, s.inv_area, e1, e2));
      }
      for (int l = 0; l < lanes; ++l)
        if (outside[l] >= 0) target.put(col + l, row, depth[l], face);
    }
  }
}

template <class T>
HD ScreenVertex<T> screen_vertex_at(const ScreenArrays<T>& screen, int64_t i) {
  return static_cast<const ScreenVertex<T>*>(screen.vertices)[i];
}

template <class T>
HD void draw_triangle(const MeshView<T>& mesh, const ScreenArrays<T>& screen, const KeyTarget& target, int32_t face) {
  Corners f;
  if (!load_corners(mesh.faces, face, mesh.num_vertices, f)) return;
  const ScreenVertex<T> a = screen_vertex_at(screen, f.v[0]), b = screen_vertex_at(screen, f.v[1]),
                        c = screen_vertex_at(screen, f.v[2]);
  if (needs_homogeneous(a.first_center, b.first_center, c.first_center)) return draw_homogeneous(mesh, target, f, face);
  const Box box = center_box(a.first_center, b.first_center, c.first_center);
  const int32_t wide = max3(a.x, b.x, c.x) - min3(a.x, b.x, c.x), high = max3(a.y, b.y, c.y) - min3(a.y, b.y, c.y);
  if (wide < kNarrow * kSubpixels && high < kNarrow * kSubpixels)
    draw_rows(triangle_setup<T, int32_t>(a, b, c, box, mesh.cull), box, target, face);
  else
    draw_rows(triangle_setup<T, int64_t>(a, b, c, box, mesh.cull), box, target, face);
}

ISA_NAMESPACE_END
}  // namespace facerender
