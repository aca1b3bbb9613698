// sh_shade on CUDA, and its gradients. The mathematics is in ../shade.h.
#include "../inputs.h"
#include "light.cuh"

namespace facerender {
namespace {

template <class T, class A>
__global__ void __launch_bounds__(kBlock)
    forward(ShadeShape s, const A* albedo, const A* normals, const T* coefficients,
            const __grid_constant__ ShPreset preset, A* out) {
  __shared__ ShLight<T> light;
  const int64_t i = global_thread_id();
  for (int64_t n = blockIdx.y; n < s.batch; n += gridDim.y) {
    load_light(coefficients + n * s.light_stride, preset, light);
    if (i >= s.points) continue;
    const Vec3<T> shading = sh_irradiance(light, load3<T>(normals + (n * s.points + i) * 3)),
                  a = load3<T>(albedo + n * s.albedo_stride + i * 3);
    A* o = out + (n * s.points + i) * 3;
    o[0] = A(a.x * shading.x), o[1] = A(a.y * shading.y), o[2] = A(a.z * shading.z);
  }
}

Tensor sh_shade_cuda(const Tensor& albedo_, const Tensor& normals_, const Tensor& coefficients_, int64_t preset) {
  const Tensor albedo = as_contiguous(albedo_), normals = as_contiguous(normals_),
               coefficients = as_contiguous(coefficients_);
  const ShadeShape s = shade_shape(albedo, normals, coefficients);
  const Device device(normals);
  Tensor out = empty(normals, {s.batch, s.points, 3}, normals.scalar_type());
  if (out.numel() == 0) return out;
  dispatch_attribute(coefficients.scalar_type(), normals.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    LAUNCH((forward<T, A>), grid_for(s.points, s.batch), kBlock, device.stream, s, data<A>(albedo), data<A>(normals),
           data<T>(coefficients), sh_preset(preset), mutable_data<A>(out));
    device.launched();
  });
  return out;
}

// A thread loops over its point in the images of its grid column. With a shared albedo these are all images, so the
// gradient of the albedo needs no atomics.
template <class T, class A>
__global__ void __launch_bounds__(kBlock)
    backward(ShadeShape s, const A* grad, const A* albedo, const A* normals, const T* coefficients,
             const __grid_constant__ ShPreset preset, T* grad_albedo, T* grad_normals, T* partial) {
  __shared__ ShLight<T> light;
  const int64_t i = global_thread_id();
  pdl_trigger();
  for (int64_t n = blockIdx.y; n < s.batch; n += gridDim.y) {
    load_light(coefficients + n * s.light_stride, preset, light);
    pdl_wait();
    T light_gradient[32] = {};
    if (i < s.points) {
      const int64_t at = (n * s.points + i) * 3, at_albedo = n * s.albedo_stride + i * 3;
      const Vec3<T> g = load3<T>(grad + at), normal = load3<T>(normals + at), a = load3<T>(albedo + at_albedo);
      if (grad_albedo) {
        const Vec3<T> shading = sh_irradiance(light, normal);
        grad_albedo[at_albedo] += g.x * shading.x, grad_albedo[at_albedo + 1] += g.y * shading.y,
            grad_albedo[at_albedo + 2] += g.z * shading.z;
      }
      const Vec3<T> grad_shading = {g.x * a.x, g.y * a.y, g.z * a.z};
      if (grad_normals) {
        const Vec3<T> d = sh_normal_gradient(light, normal, grad_shading);
        grad_normals[at] = d.x, grad_normals[at + 1] = d.y, grad_normals[at + 2] = d.z;
      }
      if (partial) sh_light_gradient(normal, grad_shading, light_gradient);
    }
    if (partial) block_reduce27(light_gradient, partial + (n * gridDim.x + blockIdx.x) * 27);
  }
}

std::tuple<Tensor, Tensor, Tensor> sh_shade_backward_cuda(const Tensor& grad_, const Tensor& albedo_,
                                                          const Tensor& normals_, const Tensor& coefficients_,
                                                          int64_t preset, bool want_albedo, bool want_normals,
                                                          bool want_coefficients) {
  const Tensor grad = as_contiguous(grad_), albedo = as_contiguous(albedo_), normals = as_contiguous(normals_),
               coefficients = as_contiguous(coefficients_);
  const ShadeShape s = shade_shape(albedo, normals, coefficients);
  check_same_device(grad, normals);
  check(grad.numel() == normals.numel() && grad.scalar_type() == normals.scalar_type(),
        "facerender: sh_shade_backward got a gradient that does not fit");
  const Device device(normals);
  const auto dtype = coefficients.scalar_type();
  using Sizes = std::vector<int64_t>;
  Tensor grad_albedo = empty(albedo, want_albedo ? Sizes{albedo.size(0), s.points, 3} : Sizes{0}, dtype);
  Tensor grad_normals = empty(albedo, want_normals ? Sizes{s.batch, s.points, 3} : Sizes{0}, dtype);
  Tensor grad_coefficients = empty(albedo, want_coefficients ? Sizes{coefficients.size(0), 9, 3} : Sizes{0}, dtype);
  dispatch_attribute(dtype, normals.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    FillList fills;
    fills.add(mutable_data<T>(grad_albedo), grad_albedo.numel());
    if (normals.numel() == 0) fills.add(mutable_data<T>(grad_coefficients), grad_coefficients.numel());
    launch_fill<0>(device, fills);
    if (normals.numel() == 0) return;
    dim3 grid = grid_for(s.points, s.batch);
    if (s.albedo_stride == 0) grid.y = 1;
    Tensor partial = empty(albedo, want_coefficients ? Sizes{s.batch, int64_t(grid.x), 27} : Sizes{0}, dtype);
    const ShPreset p = sh_preset(preset);
    LAUNCH_PDL((backward<T, A>), grid, kBlock, device, s, data<A>(grad), data<A>(albedo), data<A>(normals),
               data<T>(coefficients), p, want_albedo ? mutable_data<T>(grad_albedo) : nullptr,
               want_normals ? mutable_data<T>(grad_normals) : nullptr,
               want_coefficients ? mutable_data<T>(partial) : nullptr);
    device.launched();
    if (want_coefficients) finish_light_gradients<T>(device, partial, s.batch, int64_t(grid.x), p, grad_coefficients);
  });
  return {grad_albedo, grad_normals, grad_coefficients};
}

}  // namespace

CUDA_LIBRARY(m) {
  m.impl("sh_shade", TORCH_BOX(&sh_shade_cuda));
  m.impl("sh_shade_backward", TORCH_BOX(&sh_shade_backward_cuda));
}

}  // namespace facerender
