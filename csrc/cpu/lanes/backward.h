// Gradients of one row of pixels, computed sixteen at a time and added to the vertices one pixel after the other, in order.
#pragma once

#include "../../fused.h"
#include "vectors.h"

namespace facerender {
LEVEL_BEGIN

// The faces that sixteen pixels see, and which of these pixels have work for vertices [v0, v1).
struct Seen {
  Ints corner[3];  // 0 where there is none
  Ints hit;
  uint32_t lanes;

  HD Seen(const int32_t* face_id, const int32_t* faces, const GradientTarget& to) {
    const Ints face = load(face_id);
    hit = (face >= 0) & (face < int32_t(to.num_faces));
    lanes = negative(hit);
    if (!lanes) return;
    const Ints first = (face & hit) * 3;
    Ints mine = hit & 0;
    for (int k = 0; k < 3; ++k) {
      corner[k] = gather(faces + k, first);
      hit &= (corner[k] >= 0) & (corner[k] < int32_t(to.num_vertices));
      mine |= (corner[k] >= int32_t(to.v0)) & (corner[k] < int32_t(to.v1));
    }
    for (int k = 0; k < 3; ++k) corner[k] &= hit;
    lanes = negative(hit & mine);
  }
};

// Adds sixteen 4-vectors to out[corner], for the lanes that are set.
HD void scatter4(const GradientTarget& to, float* out, const Ints& corner, const Vec4<Floats>& g, uint32_t lanes) {
  alignas(64) float quads[64];
  alignas(64) int32_t vertex[16];
  store_quads(quads, g), store(vertex, corner);
  for (; lanes; lanes &= lanes - 1) {
    const int l = __builtin_ctz(lanes);
    if (vertex[l] >= to.v0 && vertex[l] < to.v1) add_quad(out + 4 * int64_t(vertex[l]), quads + 4 * l);
  }
}
// The same for 3-vectors. All but a range's last vertex are reached four floats at once; the fourth gets a zero.
HD void scatter3(const GradientTarget& to, float* out, const Ints& corner, const Vec3<Floats>& g, uint32_t lanes) {
  alignas(64) float quads[64];
  alignas(64) int32_t vertex[16];
  store_quads(quads, {g.x, g.y, g.z, Floats{}}), store(vertex, corner);
  for (; lanes; lanes &= lanes - 1) {
    const int l = __builtin_ctz(lanes);
    const int64_t v = vertex[l];
    if (v < to.v0 || v >= to.v1) continue;
    if (v + 1 < to.v1) {
      add_quad(out + 3 * v, quads + 4 * l);
    } else {
      for (int c = 0; c < 3; ++c) out[3 * v + c] += quads[4 * l + c];
    }
  }
}

// rasterize: from d bary (or null) and d depth (or null) of a row to d clip. Returns the column where it stopped.
static int64_t rasterize_row_backward(const float* clip, const int32_t* faces, int32_t height, int32_t width, int64_t row, const int32_t* face_id,
                                      const float* grad_bary, const float* grad_depth, const GradientTarget& to, float* out) {
  int32_t col = 0;
  for (; col + 16 <= width; col += 16) {
    const Seen seen(face_id + col, faces, to);
    if (!seen.lanes) continue;
    const Vec4<Floats> p[3] = {gather_quads(clip, seen.corner[0]), gather_quads(clip, seen.corner[1]), gather_quads(clip, seen.corner[2])};
    const Barycentrics<Floats> b(p, iota() + col, Ints{} + int32_t(row), width, height);
    Floats g[3] = {};
    Vec4<Floats> grad[3] = {};
    if (grad_bary) load_triples(grad_bary + 3 * col, g[0], g[1], g[2]);
    if (grad_depth) interpolated_depth_backward(p, b.b, load(grad_depth + col), g, grad);
    b.backward(g, grad);
    for (int k = 0; k < 3; ++k) scatter4(to, out, seen.corner[k], grad[k], seen.lanes);
  }
  return col;
}

// interpolate, three attributes: from d image of a row to d bary (or null) and d attributes (or null).
static int64_t interpolate3_row_backward(const float* attributes, const int32_t* faces, int32_t width, const int32_t* face_id, const float* bary,
                                         const float* grad, const GradientTarget& to, float* grad_bary, float* grad_attributes) {
  int32_t col = 0;
  for (; col + 16 <= width; col += 16) {
    const Seen seen(face_id + col, faces, to);
    Floats out[3] = {};
    if (seen.lanes) {
      Vec3<Floats> g;
      load_triples(grad + 3 * col, g.x, g.y, g.z);
      if (grad_bary) {
        for (int k = 0; k < 3; ++k) {
          out[k] = select(seen.hit, dot(g, gather_triples(attributes, seen.corner[k], to.num_vertices - 1)), Floats{});
        }
      }
      if (grad_attributes) {
        Floats b[3];
        load_triples(bary + 3 * col, b[0], b[1], b[2]);
        for (int k = 0; k < 3; ++k) scatter3(to, grad_attributes, seen.corner[k], g * b[k], seen.lanes);
      }
    }
    if (grad_bary) store_triples(grad_bary + 3 * col, out[0], out[1], out[2]);
  }
  return col;
}

// render_face: face_pixel_backward for a row. `light_gradient` is added to, or null.
static int64_t render_row_backward(const float* clip, const float* normals, const float* albedo, const int32_t* faces, int32_t height, int32_t width,
                                   const float* light_, int64_t row, const int32_t* face_id, const float* grad, const GradientTarget& to, float* grad_clip,
                                   float* grad_normals, float* grad_albedo, float* light_gradient) {
  ShLight<float> light;
  if (normals) memcpy(light.k, light_, sizeof(light.k));
  Floats light_sums[27] = {};
  int32_t col = 0;
  for (; col + 16 <= width; col += 16) {
    Seen seen(face_id + col, faces, to);
    if (!negative(seen.hit) || (!seen.lanes && !light_gradient)) continue;
    const Vec4<Floats> p[3] = {gather_quads(clip, seen.corner[0]), gather_quads(clip, seen.corner[1]), gather_quads(clip, seen.corner[2])};
    const Barycentrics<Floats> b(p, iota() + col, Ints{} + int32_t(row), width, height);
    Vec3<Floats> g, a[3], n[3];
    load_triples(grad + 3 * col, g.x, g.y, g.z);
    for (int k = 0; k < 3; ++k) {
      a[k] = gather_triples(albedo, seen.corner[k], to.num_vertices - 1);
      if (normals) n[k] = gather_triples(normals, seen.corner[k], to.num_vertices - 1);
    }
    const auto mixed = [&](const Vec3<Floats>* v) { return v[0] * b.b[0] + v[1] * b.b[1] + v[2] * b.b[2]; };
    Floats grad_b[3] = {};
    Vec3<Floats> to_albedo = g;
    if (normals) {
      Vec3<Floats> normal = mixed(n);
      const Vec3<Floats> albedo_here = mixed(a), shading = sh_irradiance(light, normal);
      to_albedo = {g.x * shading.x, g.y * shading.y, g.z * shading.z};
      Vec3<Floats> to_shading = {g.x * albedo_here.x, g.y * albedo_here.y, g.z * albedo_here.z};
      if (grad_normals || grad_clip) {
        const Vec3<Floats> to_normal = sh_normal_gradient(light, normal, to_shading);
        for (int k = 0; k < 3; ++k) {
          if (grad_normals) scatter3(to, grad_normals, seen.corner[k], to_normal * b.b[k], seen.lanes);
          grad_b[k] += dot(to_normal, n[k]);
        }
      }
      if (light_gradient) {
        const Floats none{};
        normal = {select(seen.hit, normal.x, none), select(seen.hit, normal.y, none), select(seen.hit, normal.z, none)};
        to_shading = {select(seen.hit, to_shading.x, none), select(seen.hit, to_shading.y, none), select(seen.hit, to_shading.z, none)};
        sh_light_gradient(normal, to_shading, light_sums);
      }
    }
    for (int k = 0; k < 3; ++k) {
      if (grad_albedo) scatter3(to, grad_albedo, seen.corner[k], to_albedo * b.b[k], seen.lanes);
      grad_b[k] += dot(to_albedo, a[k]);
    }
    if (grad_clip) {
      Vec4<Floats> out[3] = {};
      b.backward(grad_b, out);
      for (int k = 0; k < 3; ++k) scatter4(to, grad_clip, seen.corner[k], out[k], seen.lanes);
    }
  }
  if (light_gradient)
    for (int k = 0; k < 27; ++k)
      for (int l = 0; l < 16; ++l) light_gradient[k] += light_sums[k][l];
  return col;
}

LEVEL_END
}  // namespace facerender
