// One pixel of render_face, forward and backward: barycentrics, attributes, shading and compositing without an image between
// them. The arithmetic is that of rasterize, interpolate and sh_shade, in the same order.
#pragma once

#include "raster.h"
#include "shade.h"

namespace facerender {
LEVEL_BEGIN

// The inputs of one image. Without normals and light, the albedo is the colour.
template <class T, class A>
struct FaceView {
  const T* clip;         // [V,4]
  const A* normals;      // [V,3] or null
  const A* albedo;       // [V,3]
  const int32_t* faces;  // [F,3]
  const A* background;   // null for black
  int64_t background_step;  // elements from one pixel of the background to the next: 3, or 0 for one colour
  int64_t num_vertices;
  int32_t height, width;
};

// Three numbers of each corner's vertex, and their sum with the weights b: as interpolate has it, and for gradients.
template <class T>
struct CornerValues {
  Vec3<T> v[3];

  template <class A>
  HD void load(const A* attributes, const int32_t* corner) {
    for (int k = 0; k < 3; ++k) v[k] = load3<T>(attributes + int64_t(corner[k]) * 3);
  }
  HD Vec3<T> at(const T* b) const {
    return {v[0].x * b[0] + v[1].x * b[1] + v[2].x * b[2], v[0].y * b[0] + v[1].y * b[1] + v[2].y * b[2], v[0].z * b[0] + v[1].z * b[1] + v[2].z * b[2]};
  }
  HD Vec3<T> mean(const T* b) const {
    return {mul_add(v[2].x, b[2], mul_add(v[1].x, b[1], v[0].x * b[0])), mul_add(v[2].y, b[2], mul_add(v[1].y, b[1], v[0].y * b[0])),
            mul_add(v[2].z, b[2], mul_add(v[1].z, b[1], v[0].z * b[0]))};
  }
};

// The colour of a pixel that sees the face of these corners.
template <bool kLit, class T, class A>
HD Vec3<T> seen_pixel(const FaceView<T, A>& view, const ShLight<T>& light, const Vec3<int32_t>& f, int32_t row, int32_t col) {
  // All loads first: a GPU waits for them once.
  const int32_t corner[3] = {f.x, f.y, f.z};
  const Vec4<T> clip[3] = {load4(view.clip + int64_t(corner[0]) * 4), load4(view.clip + int64_t(corner[1]) * 4), load4(view.clip + int64_t(corner[2]) * 4)};
  Loading3<A> albedo_loads[3], normal_loads[3];
  for (int k = 0; k < 3; ++k) albedo_loads[k] = begin_load3(view.albedo, corner[k]);
  if constexpr (kLit)
    for (int k = 0; k < 3; ++k) normal_loads[k] = begin_load3(view.normals, corner[k]);
  const Barycentrics<T> p(clip, col, row, view.width, view.height);
  CornerValues<T> albedos, normals;
  for (int k = 0; k < 3; ++k) albedos.v[k] = end_load3<T>(albedo_loads[k], view.albedo, corner[k]);
  const Vec3<T> albedo = albedos.at(p.b);
  if constexpr (kLit) {
    for (int k = 0; k < 3; ++k) normals.v[k] = end_load3<T>(normal_loads[k], view.normals, corner[k]);
    const Vec3<T> shading = sh_irradiance(light, normals.at(p.b));
    return {albedo.x * shading.x, albedo.y * shading.y, albedo.z * shading.z};
  } else {
    return albedo;
  }
}
template <class T, class A>
HD Vec3<T> background_pixel(const FaceView<T, A>& view, int32_t row, int32_t col) {
  if (!view.background) return {T(0), T(0), T(0)};
  return load3<T>(view.background + (int64_t(row) * view.width + col) * view.background_step);
}
template <class T, class A>
HD Vec3<T> face_pixel(const FaceView<T, A>& view, const ShLight<T>& light, int32_t face, int32_t row, int32_t col) {
  if (face < 0) return background_pixel(view, row, col);
  const Vec3<int32_t> f = load3<int32_t>(view.faces + int64_t(face) * 3);
  return view.normals ? seen_pixel<true>(view, light, f, row, col) : seen_pixel<false>(view, light, f, row, col);
}

// Gives the gradients of one covered pixel, for `grad`, that of its colour, to sink.clip(k, vertex, Vec4), sink.normal(k, vertex, Vec3), sink.albedo(k, vertex, Vec3) for corner k and
// what that of the light is made of (sh_light_gradient) to on_light(normal, d loss / d irradiance). `wants`: which of them; the others may be missing, and
// on_light sees to its own.
struct FaceWants {
  bool clip, normals, albedo, light;
};
template <class T, class A, class Light, class Sink, class OnLight>
HD void face_pixel_backward(const FaceView<T, A>& view, const Light& light, const FaceWants& wants, const int32_t* corner, int32_t row,
                            int32_t col, const Vec3<T>& grad, const Sink& sink, const OnLight& on_light) {
  const Vec4<T> clip[3] = {load4(view.clip + int64_t(corner[0]) * 4), load4(view.clip + int64_t(corner[1]) * 4), load4(view.clip + int64_t(corner[2]) * 4)};
  CornerValues<T> albedos, normals;
  if (view.normals) normals.load(view.normals, corner);
  if (view.normals || wants.clip) albedos.load(view.albedo, corner);
  const Barycentrics<T> p(clip, col, row, view.width, view.height);
  T grad_b[3] = {T(0), T(0), T(0)};
  Vec3<T> grad_albedo;
  if (view.normals) {
    const Vec3<T> normal = normals.mean(p.b);
    Vec3<T> slope[3];
    const Vec3<T> shading = {sh_irradiance_slope(light, 0, normal, slope[0]), sh_irradiance_slope(light, 1, normal, slope[1]), sh_irradiance_slope(light, 2, normal, slope[2])};
    const Vec3<T> albedo = albedos.mean(p.b);
    grad_albedo = {grad.x * shading.x, grad.y * shading.y, grad.z * shading.z};
    const Vec3<T> grad_shading = {grad.x * albedo.x, grad.y * albedo.y, grad.z * albedo.z};
    on_light(normal, grad_shading);
    if (wants.normals || wants.clip) {
      const Vec3<T> grad_normal = {mul_add(grad_shading.z, slope[2].x, mul_add(grad_shading.y, slope[1].x, grad_shading.x * slope[0].x)),
                                   mul_add(grad_shading.z, slope[2].y, mul_add(grad_shading.y, slope[1].y, grad_shading.x * slope[0].y)),
                                   mul_add(grad_shading.z, slope[2].z, mul_add(grad_shading.y, slope[1].z, grad_shading.x * slope[0].z))};
      for (int k = 0; k < 3; ++k) {
        if (wants.normals) sink.normal(k, corner[k], grad_normal * p.b[k]);
        if (wants.clip) grad_b[k] = fused_dot(grad_normal, normals.v[k]);
      }
    }
  } else {
    grad_albedo = grad;
  }
  for (int k = 0; k < 3; ++k) {
    if (wants.albedo) sink.albedo(k, corner[k], grad_albedo * p.b[k]);
    if (wants.clip) grad_b[k] += fused_dot(grad_albedo, albedos.v[k]);
  }
  if (wants.clip) {
    Vec4<T> grad_clip[3] = {};
    p.backward(grad_b, grad_clip);
    for (int k = 0; k < 3; ++k) sink.clip(k, corner[k], grad_clip[k]);
  }
}

LEVEL_END
}  // namespace facerender
