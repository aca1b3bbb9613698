// Backward passes of rasterize, interpolate and render_face for one row of pixels: computed sixteen pixels at a time,
// and added to the vertices one pixel after the other, in order.
#pragma once

#include "../../fused.h"
#include "vectors.h"

namespace facerender {
ISA_NAMESPACE_BEGIN

// The faces that are visible at sixteen pixels. hit: the pixels with a valid face, as a mask; lanes: those of them, as
// bits, whose face has a corner in [v0, v1).
struct VisibleFaces {
  Ints corner[3];  // 0 for lanes without a face
  Ints hit;
  uint32_t lanes;

  HD VisibleFaces(const int32_t* face_id, const int32_t* faces, const GradientTarget& target) {
    const Ints face = load(face_id);
    hit = (face >= 0) & (face < int32_t(target.num_faces));
    lanes = sign_mask(hit);
    if (!lanes) return;
    const Ints first = (face & hit) * 3;
    Ints in_range = hit & 0;
    for (int k = 0; k < 3; ++k) {
      corner[k] = gather(faces + k, first);
      hit &= (corner[k] >= 0) & (corner[k] < int32_t(target.num_vertices));
      in_range |= (corner[k] >= int32_t(target.v0)) & (corner[k] < int32_t(target.v1));
    }
    for (int k = 0; k < 3; ++k) corner[k] &= hit;
    lanes = sign_mask(hit & in_range);
  }
};

// Adds 4-vectors to out[corner], for the lanes whose bits are set.
HD void scatter4(const GradientTarget& target, float* out, const Ints& corner, const Vec4<Floats>& g, uint32_t lanes) {
  alignas(64) float quads[64];
  alignas(64) int32_t vertex[16];
  store_quads(quads, g), store(vertex, corner);
  for (; lanes; lanes &= lanes - 1) {
    const int l = __builtin_ctz(lanes);
    if (vertex[l] >= target.v0 && vertex[l] < target.v1) add_quad(out + 4 * int64_t(vertex[l]), quads + 4 * l);
  }
}
// The same for 3-vectors. All but the last vertex of the range are accessed as four floats, of which the last adds
// zero.
HD void scatter3(const GradientTarget& target, float* out, const Ints& corner, const Vec3<Floats>& g, uint32_t lanes) {
  alignas(64) float quads[64];
  alignas(64) int32_t vertex[16];
  store_quads(quads, {g.x, g.y, g.z, Floats{}}), store(vertex, corner);
  for (; lanes; lanes &= lanes - 1) {
    const int l = __builtin_ctz(lanes);
    const int64_t v = vertex[l];
    if (v < target.v0 || v >= target.v1) continue;
    if (v + 1 < target.v1) {
      add_quad(out + 3 * v, quads + 4 * l);
    } else {
      for (int c = 0; c < 3; ++c) out[3 * v + c] += quads[4 * l + c];
    }
  }
}

// rasterize: from d bary (or null) and d depth (or null) of a row to d clip. Returns the first column not processed.
static int64_t rasterize_row_backward(const float* clip, const int32_t* faces, int32_t height, int32_t width,
                                      int64_t row, const int32_t* face_id, const float* grad_bary,
                                      const float* grad_depth, const GradientTarget& target, float* out) {
  int32_t col = 0;
  for (; col + 16 <= width; col += 16) {
    const VisibleFaces visible(face_id + col, faces, target);
    if (!visible.lanes) continue;
    const Vec4<Floats> p[3] = {gather_quads(clip, visible.corner[0]), gather_quads(clip, visible.corner[1]),
                               gather_quads(clip, visible.corner[2])};
    const Barycentrics<Floats> b(p, iota() + col, Ints{} + int32_t(row), width, height);
    Floats g[3] = {};
    Vec4<Floats> grad[3] = {};
    if (grad_bary) load_triples(grad_bary + 3 * col, g[0], g[1], g[2]);
    if (grad_depth) interpolated_depth_backward(p, b.b, load(grad_depth + col), g, grad);
    const uint32_t lanes = visible.lanes & ~sign_mask(b.backward(g, grad));
    for (int k = 0; k < 3; ++k) scatter4(target, out, visible.corner[k], grad[k], lanes);
  }
  return col;
}

// interpolate, three attributes: from d image of a row to d bary (or null) and d attributes (or null).
static int64_t interpolate3_row_backward(const float* attributes, const int32_t* faces, int32_t width,
                                         const int32_t* face_id, const float* bary, const float* grad,
                                         const GradientTarget& target, float* grad_bary, float* grad_attributes) {
  int32_t col = 0;
  for (; col + 16 <= width; col += 16) {
    const VisibleFaces visible(face_id + col, faces, target);
    Floats out[3] = {};
    if (visible.lanes) {
      Vec3<Floats> g;
      load_triples(grad + 3 * col, g.x, g.y, g.z);
      if (grad_bary) {
        for (int k = 0; k < 3; ++k) {
          out[k] = select(visible.hit, dot(g, gather_triples(attributes, visible.corner[k], target.num_vertices - 1)),
                          Floats{});
        }
      }
      if (grad_attributes) {
        Floats b[3];
        load_triples(bary + 3 * col, b[0], b[1], b[2]);
        for (int k = 0; k < 3; ++k) scatter3(target, grad_attributes, visible.corner[k], g * b[k], visible.lanes);
      }
    }
    if (grad_bary) store_triples(grad_bary + 3 * col, out[0], out[1], out[2]);
  }
  return col;
}

// render_face: covered_pixel_backward for a row. Adds to `light_gradient`, unless it is null.
static int64_t render_row_backward(const float* clip, const float* normals, const float* albedo, const int32_t* faces,
                                   int32_t height, int32_t width, const float* light_, int64_t row,
                                   const int32_t* face_id, const float* grad, const GradientTarget& target,
                                   float* grad_clip, float* grad_normals, float* grad_albedo, float* light_gradient) {
  ShLight<float> light;
  if (normals) memcpy(light.k, light_, sizeof(light.k));
  Floats light_sums[27] = {};
  int32_t col = 0;
  for (; col + 16 <= width; col += 16) {
    VisibleFaces visible(face_id + col, faces, target);
    if (!sign_mask(visible.hit) || (!visible.lanes && !light_gradient)) continue;
    const Vec4<Floats> p[3] = {gather_quads(clip, visible.corner[0]), gather_quads(clip, visible.corner[1]),
                               gather_quads(clip, visible.corner[2])};
    const Barycentrics<Floats> b(p, iota() + col, Ints{} + int32_t(row), width, height);
    Vec3<Floats> g, a[3], n[3];
    load_triples(grad + 3 * col, g.x, g.y, g.z);
    for (int k = 0; k < 3; ++k) {
      a[k] = gather_triples(albedo, visible.corner[k], target.num_vertices - 1);
      if (normals) n[k] = gather_triples(normals, visible.corner[k], target.num_vertices - 1);
    }
    const auto interpolate_at = [&](const Vec3<Floats>* v) { return v[0] * b.b[0] + v[1] * b.b[1] + v[2] * b.b[2]; };
    Floats grad_b[3] = {};
    Vec3<Floats> d_albedo = g;
    if (normals) {
      Vec3<Floats> normal = interpolate_at(n);
      const Vec3<Floats> pixel_albedo = interpolate_at(a), shading = sh_irradiance(light, normal);
      d_albedo = {g.x * shading.x, g.y * shading.y, g.z * shading.z};
      Vec3<Floats> d_shading = {g.x * pixel_albedo.x, g.y * pixel_albedo.y, g.z * pixel_albedo.z};
      if (grad_normals || grad_clip) {
        const Vec3<Floats> d_normal = sh_normal_gradient(light, normal, d_shading);
        for (int k = 0; k < 3; ++k) {
          if (grad_normals) scatter3(target, grad_normals, visible.corner[k], d_normal * b.b[k], visible.lanes);
          grad_b[k] += dot(d_normal, n[k]);
        }
      }
      if (light_gradient) {
        const Floats none{};
        normal = {select(visible.hit, normal.x, none), select(visible.hit, normal.y, none),
                  select(visible.hit, normal.z, none)};
        d_shading = {select(visible.hit, d_shading.x, none), select(visible.hit, d_shading.y, none),
                     select(visible.hit, d_shading.z, none)};
        sh_light_gradient(normal, d_shading, light_sums);
      }
    }
    for (int k = 0; k < 3; ++k) {
      if (grad_albedo) scatter3(target, grad_albedo, visible.corner[k], d_albedo * b.b[k], visible.lanes);
      grad_b[k] += dot(d_albedo, a[k]);
    }
    if (grad_clip) {
      Vec4<Floats> out[3] = {};
      const uint32_t lanes = visible.lanes & ~sign_mask(b.backward(grad_b, out));
      for (int k = 0; k < 3; ++k) scatter4(target, grad_clip, visible.corner[k], out[k], lanes);
    }
  }
  if (light_gradient)
    for (int k = 0; k < 27; ++k)
      for (int l = 0; l < 16; ++l) light_gradient[k] += light_sums[k][l];
  return col;
}

ISA_NAMESPACE_END
}  // namespace facerender
