// One pixel of render_face, forward and backward: barycentrics, attributes, shading and compositing without an image in
// between. The arithmetic of the forward pass is that of rasterize, interpolate and sh_shade, in the same order.
#pragma once

#include "raster.h"
#include "shade.h"

namespace facerender {
ISA_NAMESPACE_BEGIN

// The inputs of one image. Without normals and light, the albedo is the color.
template <class T, class A>
struct FaceView {
  const T* clip;            // [V,4]
  const A* normals;         // [V,3] or null
  const A* albedo;          // [V,3]
  const int32_t* faces;     // [F,3]
  const A* background;      // null for black
  int64_t background_step;  // elements per pixel of the background: 3, or 0 for one color
  int64_t num_vertices;
  int32_t height, width;
};

// Three numbers at each corner, and their interpolation with weights b: with the bits of interpolate, or for gradients.
template <class T>
struct CornerValues {
  Vec3<T> v[3];

  template <class A>
  HD void load(const A* attributes, const int32_t* corner) {
    for (int k = 0; k < 3; ++k) v[k] = load3<T>(attributes + int64_t(corner[k]) * 3);
  }
  HD Vec3<T> interpolate(const T* b) const {
    return {v[0].x * b[0] + v[1].x * b[1] + v[2].x * b[2], v[0].y * b[0] + v[1].y * b[1] + v[2].y * b[2],
            v[0].z * b[0] + v[1].z * b[1] + v[2].z * b[2]};
  }
  HD Vec3<T> interpolate_fused(const T* b) const {
    return {mul_add(v[2].x, b[2], mul_add(v[1].x, b[1], v[0].x * b[0])),
            mul_add(v[2].y, b[2], mul_add(v[1].y, b[1], v[0].y * b[0])),
            mul_add(v[2].z, b[2], mul_add(v[1].z, b[1], v[0].z * b[0]))};
  }
};

// The color of a covered pixel; f: the vertices of its face.
template <bool kLit, class T, class A>
HD Vec3<T> covered_pixel_color(const FaceView<T, A>& view, const ShLight<T>& light, const Vec3<int32_t>& f, int32_t row,
                               int32_t col) {
  // All loads come first, so that a GPU waits only once.
  const int32_t corner[3] = {f.x, f.y, f.z};
  const Vec4<T> clip[3] = {load4(view.clip + int64_t(corner[0]) * 4), load4(view.clip + int64_t(corner[1]) * 4),
                           load4(view.clip + int64_t(corner[2]) * 4)};
  Prefetched3<A> albedo_loads[3], normal_loads[3];
  for (int k = 0; k < 3; ++k) albedo_loads[k] = prefetch3(view.albedo, corner[k]);
  if constexpr (kLit)
    for (int k = 0; k < 3; ++k) normal_loads[k] = prefetch3(view.normals, corner[k]);
  const Barycentrics<T> p(clip, col, row, view.width, view.height);
  CornerValues<T> albedos, normals;
  for (int k = 0; k < 3; ++k) albedos.v[k] = finish_prefetch3<T>(albedo_loads[k], view.albedo, corner[k]);
  const Vec3<T> albedo = albedos.interpolate(p.b);
  if constexpr (kLit) {
    for (int k = 0; k < 3; ++k) normals.v[k] = finish_prefetch3<T>(normal_loads[k], view.normals, corner[k]);
    const Vec3<T> shading = sh_irradiance(light, normals.interpolate(p.b));
    return {albedo.x * shading.x, albedo.y * shading.y, albedo.z * shading.z};
  } else {
    return albedo;
  }
}
template <class T, class A>
HD Vec3<T> background_color(const FaceView<T, A>& view, int32_t row, int32_t col) {
  if (!view.background) return {T(0), T(0), T(0)};
  return load3<T>(view.background + (int64_t(row) * view.width + col) * view.background_step);
}
template <class T, class A>
HD Vec3<T> pixel_color(const FaceView<T, A>& view, const ShLight<T>& light, int32_t face, int32_t row, int32_t col) {
  if (face < 0) return background_color(view, row, col);
  const Vec3<int32_t> f = load3<int32_t>(view.faces + int64_t(face) * 3);
  return view.normals ? covered_pixel_color<true>(view, light, f, row, col)
                      : covered_pixel_color<false>(view, light, f, row, col);
}

// Which gradients a backward pass computes.
struct WantedGradients {
  bool clip, normals, albedo, light;
};

// The backward pass of one covered pixel; `grad` is the gradient of its color. Calls sink.clip(k, vertex, Vec4),
// sink.normal(k, vertex, Vec3) and sink.albedo(k, vertex, Vec3) for each corner k, as far as `wants` asks for them. If
// there is a light, calls on_light(normal, d loss / d irradiance), from which sh_light_gradient computes its gradient,
// whatever `wants` says.
template <class T, class A, class Light, class Sink, class OnLight>
HD void covered_pixel_backward(const FaceView<T, A>& view, const Light& light, const WantedGradients& wants,
                               const int32_t* corner, int32_t row, int32_t col, const Vec3<T>& grad, const Sink& sink,
                               const OnLight& on_light) {
  const Vec4<T> clip[3] = {load4(view.clip + int64_t(corner[0]) * 4), load4(view.clip + int64_t(corner[1]) * 4),
                           load4(view.clip + int64_t(corner[2]) * 4)};
  CornerValues<T> albedos, normals;
  if (view.normals) normals.load(view.normals, corner);
  if (view.normals || wants.clip) albedos.load(view.albedo, corner);
  const Barycentrics<T> p(clip, col, row, view.width, view.height);
  T grad_b[3] = {T(0), T(0), T(0)};
  Vec3<T> grad_albedo;
  if (view.normals) {
    const Vec3<T> normal = normals.interpolate_fused(p.b);
    Vec3<T> slope[3];
    const Vec3<T> shading = {sh_irradiance_slope(light, 0, normal, slope[0]),
                             sh_irradiance_slope(light, 1, normal, slope[1]),
                             sh_irradiance_slope(light, 2, normal, slope[2])};
    const Vec3<T> albedo = albedos.interpolate_fused(p.b);
    grad_albedo = {grad.x * shading.x, grad.y * shading.y, grad.z * shading.z};
    const Vec3<T> grad_shading = {grad.x * albedo.x, grad.y * albedo.y, grad.z * albedo.z};
    on_light(normal, grad_shading);
    if (wants.normals || wants.clip) {
      const Vec3<T> grad_normal = {
          mul_add(grad_shading.z, slope[2].x, mul_add(grad_shading.y, slope[1].x, grad_shading.x * slope[0].x)),
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

ISA_NAMESPACE_END
}  // namespace facerender
