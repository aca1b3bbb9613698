// sh_shade on the CPU, and its gradients. The mathematics is in ../shade.h.
#include "../shade.h"

#include "../inputs.h"
#include "lanes/kernels.h"
#include "parallel.h"

namespace facerender {
namespace {

// Pixels per block; the light gradients of a block are summed first, then the blocks in order.
constexpr int64_t kBlock = 4096;

// albedo [N or 1,P,3], normals [N,P,3], coefficients [N or 1,9,3] -> color [N,P,3].
Tensor sh_shade_cpu(const Tensor& albedo_, const Tensor& normals_, const Tensor& coefficients_, int64_t preset) {
  const Tensor albedo = as_contiguous(albedo_), normals = as_contiguous(normals_),
               coefficients = as_contiguous(coefficients_);
  const ShadeShape s = shade_shape(albedo, normals, coefficients);
  Tensor out = empty(normals, {s.batch, s.points, 3}, normals.scalar_type());
  dispatch_attribute(coefficients.scalar_type(), normals.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    for_images(s.batch, [&](int64_t n, bool split) {
      const ShLight<T> light = sh_light(data<T>(coefficients) + n * s.light_stride, sh_preset(preset));
      const A *a = data<A>(albedo) + n * s.albedo_stride, *m = data<A>(normals) + n * s.points * 3;
      A* o = mutable_data<A>(out) + n * s.points * 3;
      for_range(s.points, kBlock, split, [&](int64_t begin, int64_t end) {
        if constexpr (std::is_same_v<A, float>) begin = lanes().shade(a, m, light.k[0], begin, end, o);
        for (int64_t i = begin; i < end; ++i) {
          const Vec3<T> shading = sh_irradiance(light, load3<T>(m + 3 * i));
          o[3 * i] = A(T(a[3 * i]) * shading.x), o[3 * i + 1] = A(T(a[3 * i + 1]) * shading.y),
                o[3 * i + 2] = A(T(a[3 * i + 2]) * shading.z);
        }
      });
    });
  });
  return out;
}

// Returns (d albedo [N or 1,P,3], d normals [N,P,3], d coefficients [N or 1,9,3]) in the coefficients' dtype; those
// that are not wanted are empty.
std::tuple<Tensor, Tensor, Tensor> sh_shade_backward_cpu(const Tensor& grad_, const Tensor& albedo_,
                                                         const Tensor& normals_, const Tensor& coefficients_,
                                                         int64_t preset, bool want_albedo, bool want_normals,
                                                         bool want_coefficients) {
  const Tensor grad = as_contiguous(grad_), albedo = as_contiguous(albedo_), normals = as_contiguous(normals_),
               coefficients = as_contiguous(coefficients_);
  const ShadeShape s = shade_shape(albedo, normals, coefficients);
  check(grad.numel() == normals.numel() && grad.scalar_type() == normals.scalar_type(),
        "facerender: sh_shade_backward got a gradient that does not fit");
  const auto dtype = coefficients.scalar_type();
  const ShPreset p = sh_preset(preset);
  Tensor grad_albedo = want_albedo ? zeros(albedo, {albedo.size(0), s.points, 3}, dtype) : empty(albedo, {0}, dtype);
  Tensor grad_normals = want_normals ? empty(albedo, {s.batch, s.points, 3}, dtype) : empty(albedo, {0}, dtype);
  Tensor grad_coefficients =
      want_coefficients ? zeros(albedo, {coefficients.size(0), 9, 3}, dtype) : empty(albedo, {0}, dtype);
  const int64_t blocks = (s.points + kBlock - 1) / kBlock;
  dispatch_attribute(dtype, normals.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    std::vector<T> partial(want_coefficients ? size_t(s.batch * blocks * 27) : 0, T(0));
    // Blocks of points in parallel; for each, the images in order, because they may share an albedo.
    for_range(blocks, 1, true, [&](int64_t first, int64_t last) {
      for (int64_t n = 0; n < s.batch; ++n) {
        const ShLight<T> light = sh_light(data<T>(coefficients) + n * s.light_stride, p);
        for (int64_t block = first; block < last; ++block) {
          T* light_gradient = want_coefficients ? partial.data() + (n * blocks + block) * 27 : nullptr;
          const int64_t end = std::min(s.points, (block + 1) * kBlock);
          int64_t i = block * kBlock;
          if constexpr (std::is_same_v<A, float>)
            i = lanes().shade_backward(data<A>(grad) + n * s.points * 3, data<A>(albedo) + n * s.albedo_stride,
                                       data<A>(normals) + n * s.points * 3, light.k[0], i, end,
                                       want_albedo ? mutable_data<T>(grad_albedo) + n * s.albedo_stride : nullptr,
                                       want_normals ? mutable_data<T>(grad_normals) + n * s.points * 3 : nullptr,
                                       light_gradient);
          for (; i < end; ++i) {
            const int64_t at = (n * s.points + i) * 3, at_albedo = n * s.albedo_stride + i * 3;
            const Vec3<T> g = load3<T>(data<A>(grad) + at), normal = load3<T>(data<A>(normals) + at),
                          a = load3<T>(data<A>(albedo) + at_albedo);
            if (want_albedo) {
              const Vec3<T> shading = sh_irradiance(light, normal);
              T* o = mutable_data<T>(grad_albedo) + at_albedo;
              o[0] += g.x * shading.x, o[1] += g.y * shading.y, o[2] += g.z * shading.z;
            }
            const Vec3<T> grad_shading = {g.x * a.x, g.y * a.y, g.z * a.z};
            if (want_normals) {
              const Vec3<T> d = sh_normal_gradient(light, normal, grad_shading);
              T* o = mutable_data<T>(grad_normals) + at;
              o[0] = d.x, o[1] = d.y, o[2] = d.z;
            }
            if (light_gradient) sh_light_gradient(normal, grad_shading, light_gradient);
          }
        }
      }
    });
    if (want_coefficients)
      add_light_gradients(partial.data(), s.batch, blocks, s.light_stride, p, mutable_data<T>(grad_coefficients));
  });
  return {grad_albedo, grad_normals, grad_coefficients};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facerender, CPU, m) {
  m.impl("sh_shade", TORCH_BOX(&sh_shade_cpu));
  m.impl("sh_shade_backward", TORCH_BOX(&sh_shade_backward_cpu));
}

}  // namespace facerender
