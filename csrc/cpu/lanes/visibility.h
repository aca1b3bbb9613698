// Projects vertices and draws triangles, sixteen at a time.
#pragma once

#include "draw.h"
#include "vectors.h"

namespace facerender {
ISA_NAMESPACE_BEGIN

// Triangles that wait until sixteen of similar size can be drawn together.
struct TriangleQueue {
  static constexpr int kCapacity = 48;
  int32_t face[kCapacity], a[kCapacity], b[kCapacity], c[kCapacity], origin[kCapacity], extent[kCapacity];
  int n = 0;
};

// Draws up to sixteen queued triangles at once, each lane over the pixels of its box.
HD void draw_sixteen(const MeshView<float>& mesh, const ScreenArrays<float>& screen, const KeyTarget& target,
                     TriangleQueue& q) {
  const int n = q.n < 16 ? q.n : 16;
  const Ints used = (iota() - n) >> 31;
  const Ints ia = load(q.a) & used, ib = load(q.b) & used, ic = load(q.c) & used;
  const Ints origin = load(q.origin), extent = load(q.extent) & used;
  const Ints col = origin & 0xFFFF, row = origin >> 16, cols = extent & 0xFFFF, rows = extent >> 16;
  const float* vertices = static_cast<const float*>(screen.vertices);  // of which x and y are int32
  const Vec4<Floats> a = gather_quads(vertices, ia), b = gather_quads(vertices, ib), c = gather_quads(vertices, ic);
  const TriangleSetup<Floats, Ints> s((Ints)a.x, (Ints)a.y, a.z, (Ints)b.x, (Ints)b.y, b.z, (Ints)c.x, (Ints)c.y, c.z,
                                      col, row, mesh.cull);
  // A box is clipped to the image and does not bound the triangle: one too wide for int32 is drawn alone.
  const Ints ax = (Ints)a.x, bx = (Ints)b.x, cx = (Ints)c.x, ay = (Ints)a.y, by = (Ints)b.y, cy = (Ints)c.y;
  const Ints wide = lane_max(lane_max(ax, bx), cx) - lane_min(lane_min(ax, bx), cx),
             high = lane_max(lane_max(ay, by), cy) - lane_min(lane_min(ay, by), cy);
  const Ints too_wide = used & (lane_max(wide, high) >= kNarrow * kSubpixels);
  for (uint32_t m = sign_mask(too_wide); m; m &= m - 1) draw_triangle(mesh, screen, target, q.face[__builtin_ctz(m)]);
  const Ints unused = ~(used & s.drawn & ~too_wide);
  Ints left0 = s.e0(), left1 = s.e1, left2 = s.e2;
  const int32_t width = reduce_max(cols), height = reduce_max(rows);
  const Ints first_pixel = row * target.width + col;
  for (int32_t y = 0; y < height; ++y) {
    Ints e0 = left0, e1 = left1, e2 = left2;
    const Ints below = unused | (rows - 1 - y);
    for (int32_t x = 0; x < width; ++x) {
      // `covers` in each lane, and whether the pixel is in the lane's box.
      const Ints tied0 = e0 + s.tie0, tied1 = e1 + s.tie1, tied2 = e2 + s.tie2;
      const Ints outside = outside_sign(tied0, tied1, tied2) | (cols - 1 - x) | below;
      uint32_t hit = ~sign_mask(outside) & 0xFFFF;
      if (hit) {
        const Floats depth = plane_depth(s.z0, s.dz1, s.dz2, s.inv_area, e1, e2);
        target.put_lanes(first_pixel + (y * target.width + x), depth, q.face, hit);
      }
      e0 -= s.dy0 << kSubpixelBits, e1 -= s.dy1 << kSubpixelBits, e2 -= s.dy2 << kSubpixelBits;
    }
    left0 += s.dx0 << kSubpixelBits, left1 += s.dx1 << kSubpixelBits, left2 += s.dx2 << kSubpixelBits;
  }
  q.n -= n;
  int32_t* const members[] = {q.face, q.a, q.b, q.c, q.origin, q.extent};
  for (int32_t* p : members) store(p, load(p + 16)), store(p + 16, load(p + 32));
}

static void draw_faces(const MeshView<float>& mesh, const ScreenArrays<float>& screen, const KeyBuffer& out,
                       int64_t begin, int64_t end) {
  const KeyTarget target{out, mesh.width};
  const int32_t* first_centers = screen.first_centers;
  TriangleQueue queues[4];  // by the longer side of the box: 1, 2, 3..4, 5..8 pixels
  memset(static_cast<void*>(queues), 0, sizeof(queues));
  alignas(64) int32_t indices[48];
  for (int64_t start = begin; start < end; start += 16) {
    const int32_t* faces = mesh.faces + start * 3;
    uint32_t valid = 0xFFFF;
    if (start + 16 > end) {
      const int64_t n = end - start;
      valid = (1u << n) - 1;
      memset(indices, 0, sizeof(indices));
      memcpy(indices, faces, size_t(n) * 12);
      faces = indices;
    }
    Ints a, b, c;
    __builtin_prefetch(mesh.faces + start * 3 + 512), __builtin_prefetch(mesh.faces + start * 3 + 528),
        __builtin_prefetch(mesh.faces + start * 3 + 544);
    load_triples(faces, a, b, c);
    const Ints ca = gather(first_centers, a), cb = gather(first_centers, b), cc = gather(first_centers, c);
    const Ints differ = (ca ^ cb) | (ca ^ cc);
    const Ints some_col = -(differ & 0xFFFF), some_row = differ & int32_t(0xFFFF0000);
    const Ints spread = some_col & ((some_row | -some_row) & int32_t(0x80000000));  // negative if both differ
    const Ints flags = ca | cb | cc;  // negative if a corner needs the homogeneous path
    const uint32_t alive = (sign_mask(spread) | sign_mask(flags)) & valid;
    if (!alive) continue;
    const Ints ax = ca & 0xFFFF, bx = cb & 0xFFFF, cx = cc & 0xFFFF, ay = ca >> 16, by = cb >> 16, cy = cc >> 16;
    const Ints x0 = lane_min(lane_min(ax, bx), cx), y0 = lane_min(lane_min(ay, by), cy);
    const Ints cols = lane_max(lane_max(ax, bx), cx) - x0, rows = lane_max(lane_max(ay, by), cy) - y0;
    const Ints side = lane_max(cols, rows), face = iota() + int32_t(start);
    const Ints origin = x0 | y0 << 16, extent = cols | rows << 16;
    const uint32_t large = alive & (sign_mask(8 - side) | sign_mask(flags));
    const uint32_t up_to_1 = ~sign_mask(1 - side), up_to_2 = ~sign_mask(2 - side), up_to_4 = ~sign_mask(4 - side);
    const uint32_t small = alive & ~large;
    const uint32_t masks[4] = {small & up_to_1, small & up_to_2 & ~up_to_1, small & up_to_4 & ~up_to_2,
                               small & ~up_to_4};
    for (int i = 0; i < 4; ++i) {
      if (!masks[i]) continue;
      TriangleQueue& q = queues[i];
      compress(q.face + q.n, face, masks[i]);
      compress(q.a + q.n, a, masks[i]), compress(q.b + q.n, b, masks[i]), compress(q.c + q.n, c, masks[i]);
      compress(q.origin + q.n, origin, masks[i]), compress(q.extent + q.n, extent, masks[i]);
      q.n += __builtin_popcount(masks[i]);
      if (q.n >= 16) draw_sixteen(mesh, screen, target, q);
    }
    for (uint32_t m = large; m; m &= m - 1) draw_triangle(mesh, screen, target, int32_t(start) + __builtin_ctz(m));
  }
  for (TriangleQueue& q : queues)
    while (q.n > 0) draw_sixteen(mesh, screen, target, q);
}

static void to_screen(const MeshView<float>& mesh, const ScreenArrays<float>& out, int64_t begin, int64_t end) {
  int64_t i = begin;
  for (; i + 16 <= end; i += 16) {
    const Vec4<Floats> p = load_quads(mesh.clip + 4 * i);
    const auto s = screen_vertex<Floats, Ints>(p.x, p.y, p.z, p.w, mesh.width, mesh.height);
    store_quads(static_cast<float*>(out.vertices) + 4 * i, {(Floats)s.x, (Floats)s.y, s.z, (Floats)s.first_center});
    store(out.first_centers + i, s.first_center);
  }
  vertices_to_screen(mesh, out, i, end);
}

static uint32_t largest_index(const int32_t* indices, int64_t n) {
  uint32_t m = 0;
  for (int64_t i = 0; i < n; ++i) m = uint32_t(indices[i]) > m ? uint32_t(indices[i]) : m;
  return m;
}

ISA_NAMESPACE_END
}  // namespace facerender
