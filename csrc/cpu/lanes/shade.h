// sh_shade and render_face, sixteen points at a time.
#pragma once

#include "../../fused.h"
#include "vectors.h"

namespace facerender {
ISA_NAMESPACE_BEGIN

static ShLight<float> as_light(const float* k) {
  ShLight<float> light;
  memcpy(light.k, k, sizeof(light.k));
  return light;
}

// Processes points [begin, end); returns the first one not processed, at most fifteen before the end.
static int64_t shade(const float* albedo, const float* normals, const float* light_, int64_t begin, int64_t end,
                     float* out) {
  const ShLight<float> light = as_light(light_);
  int64_t i = begin;
  for (; i + 16 <= end; i += 16) {
    Vec3<Floats> a, n;
    load_triples(albedo + 3 * i, a.x, a.y, a.z);
    load_triples(normals + 3 * i, n.x, n.y, n.z);
    const Vec3<Floats> s = sh_irradiance(light, n);
    store_triples(out + 3 * i, a.x * s.x, a.y * s.y, a.z * s.z);
  }
  return i;
}

// The backward pass, likewise: adds to grad_albedo and light_gradient [27], writes grad_normals; each may be null.
static int64_t shade_backward(const float* grad, const float* albedo, const float* normals, const float* light_,
                              int64_t begin, int64_t end, float* grad_albedo, float* grad_normals,
                              float* light_gradient) {
  const ShLight<float> light = as_light(light_);
  Floats light_sums[27] = {};
  int64_t i = begin;
  for (; i + 16 <= end; i += 16) {
    Vec3<Floats> g, a, n;
    load_triples(grad + 3 * i, g.x, g.y, g.z);
    load_triples(normals + 3 * i, n.x, n.y, n.z);
    if (grad_albedo) {
      const Vec3<Floats> s = sh_irradiance(light, n);
      Vec3<Floats> sum;
      load_triples(grad_albedo + 3 * i, sum.x, sum.y, sum.z);
      store_triples(grad_albedo + 3 * i, sum.x + g.x * s.x, sum.y + g.y * s.y, sum.z + g.z * s.z);
    }
    if (!grad_normals && !light_gradient) continue;
    load_triples(albedo + 3 * i, a.x, a.y, a.z);
    const Vec3<Floats> d_shading = {g.x * a.x, g.y * a.y, g.z * a.z};
    if (grad_normals) {
      const Vec3<Floats> d = sh_normal_gradient(light, n, d_shading);
      store_triples(grad_normals + 3 * i, d.x, d.y, d.z);
    }
    if (light_gradient) sh_light_gradient(n, d_shading, light_sums);
  }
  if (light_gradient)
    for (int k = 0; k < 27; ++k)
      for (int l = 0; l < 16; ++l) light_gradient[k] += light_sums[k][l];
  return i;
}

HD Vec3<Floats> interpolate3(const float* attributes, const Ints* corner, const Floats* b, int64_t last) {
  return gather_triples(attributes, corner[0], last) * b[0] + gather_triples(attributes, corner[1], last) * b[1] +
         gather_triples(attributes, corner[2], last) * b[2];
}

// One row of render_face; returns the first column not processed.
static int64_t render_row(const float* clip, const float* normals, const float* albedo, const int32_t* faces,
                          const float* background, int64_t background_step, int32_t height, int32_t width,
                          int64_t num_vertices, const float* light_, const uint64_t* keys, int64_t row, float* out,
                          int32_t* face_id) {
  const ShLight<float> light = as_light(light_);
  int32_t col = 0;
  for (; col + 16 <= width; col += 16) {
    const int64_t i = row * width + col;
    const Ints face = load_low_halves(keys + i), hit = face >= 0;  // -1 for kEmptyKey
    store(face_id + i, face);
    Vec3<Floats> behind{Floats{}, Floats{}, Floats{}};
    if (background && background_step) load_triples(background + 3 * i, behind.x, behind.y, behind.z);
    if (background && !background_step)
      behind = {Floats{} + background[0], Floats{} + background[1], Floats{} + background[2]};
    if (sign_mask(hit)) {
      const Ints first = (face & hit) * 3;
      const Ints corner[3] = {gather(faces, first), gather(faces + 1, first), gather(faces + 2, first)};
      const Vec4<Floats> p[3] = {gather_quads(clip, corner[0]), gather_quads(clip, corner[1]),
                                 gather_quads(clip, corner[2])};
      const Barycentrics<Floats> b(p, iota() + col, Ints{} + int32_t(row), width, height);
      Vec3<Floats> color = interpolate3(albedo, corner, b.b, num_vertices - 1);
      if (normals) {
        const Vec3<Floats> s = sh_irradiance(light, interpolate3(normals, corner, b.b, num_vertices - 1));
        color = {color.x * s.x, color.y * s.y, color.z * s.z};
      }
      behind = {select(hit, color.x, behind.x), select(hit, color.y, behind.y), select(hit, color.z, behind.z)};
    }
    store_triples(out + 3 * i, behind.x, behind.y, behind.z);
  }
  return col;
}

ISA_NAMESPACE_END
}  // namespace facerender
