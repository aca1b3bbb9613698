#include "../inputs.h"
#include "launch.h"

namespace facerender {
namespace {

template <class T, class A>
__global__ void __launch_bounds__(kBlock, 4)
    forward(InterpolateShape s, const A* attributes, const int32_t* faces, const int32_t* face_id, const T* bary, const A* background, A* out) {
  const int64_t i = item(), C = s.channels;
  if (i >= s.pixels) return;
  for (int64_t n = blockIdx.y; n < s.batch; n += gridDim.y) {
    const int64_t at = n * s.pixels + i;
    A* o = out + at * C;
    Corners f;
    if (!seen_corners(faces, face_id[at], s.num_faces, s.num_vertices, f)) {
      for (int64_t c = 0; c < C; ++c) o[c] = background ? background[c] : A(0.f);
      continue;
    }
    const A* a = attributes + n * s.attribute_stride;
    const A *p = a + f.v[0] * C, *q = a + f.v[1] * C, *r = a + f.v[2] * C;
    const T b0 = bary[3 * at], b1 = bary[3 * at + 1], b2 = bary[3 * at + 2];
    for (int64_t c = 0; c < C; ++c) o[c] = A(T(p[c]) * b0 + T(q[c]) * b1 + T(r[c]) * b2);
  }
}

Tensor interpolate_cuda(const Tensor& attributes_, const Tensor& faces_, const Tensor& face_id_, const Tensor& bary_, const std::optional<Tensor>& background_) {
  const Tensor attributes = as_contiguous(attributes_), faces = as_contiguous(faces_), face_id = as_contiguous(face_id_), bary = as_contiguous(bary_);
  const Tensor background = background_ ? as_contiguous(*background_) : attributes;
  const InterpolateShape s = interpolate_shape(attributes, faces, face_id, bary);
  check_same_device(attributes, background);
  check(!background_ || (background.numel() == s.channels && background.scalar_type() == attributes.scalar_type()),
        "facerender: background must be [C] and of the attributes' dtype");
  const Device device(attributes);
  std::vector<int64_t> sizes(face_id.sizes().begin(), face_id.sizes().end());
  sizes.push_back(s.channels);
  Tensor out = empty(attributes, sizes, attributes.scalar_type());
  if (out.numel() == 0) return out;
  dispatch_attribute(bary.scalar_type(), attributes.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    LAUNCH((forward<T, A>), grid_of(s.pixels, s.batch), kBlock, device.stream, s, data<A>(attributes), data<int32_t>(faces), data<int32_t>(face_id), data<T>(bary),
           background_ ? data<A>(background) : nullptr, mutable_data<A>(out));
    device.launched();
  });
  return out;
}

template <class T, class A, Mode mode>
__global__ void __launch_bounds__(kBlock, 4) backward(InterpolateShape s, const A* grad, const A* attributes, const int32_t* faces, const int32_t* face_id, const T* bary,
                                                   bool want_attributes, VertexSums<T> grad_attributes, T* grad_bary) {
  const int64_t i = item(), C = s.channels;
  if (i >= s.pixels) return;
  for (int64_t n = blockIdx.y; n < s.batch; n += gridDim.y) {
    const int64_t at = n * s.pixels + i;
    Corners f;
    const bool seen = seen_corners(faces, face_id[at], s.num_faces, s.num_vertices, f);
    for (int k = 0; k < 3; ++k) {
      T sum = T(0);
      if (seen) {
        const int64_t vertex = n * s.attribute_stride + f.v[k] * C;
        const T b = bary[3 * at + k];
        for (int64_t c = 0; c < C; ++c) {
          const T g = T(grad[at * C + c]);
          if (grad_bary) sum += g * T(attributes[vertex + c]);
          if (want_attributes) add_to<T, mode>(grad_attributes, vertex + c, b * g);
        }
      }
      if (grad_bary) grad_bary[3 * at + k] = sum;
    }
  }
}

std::tuple<Tensor, Tensor> interpolate_backward_cuda(const Tensor& grad_, const Tensor& attributes_, const Tensor& faces_, const Tensor& face_id_,
                                                     const Tensor& bary_, bool want_attributes, bool want_bary, bool deterministic) {
  const Tensor grad = as_contiguous(grad_), attributes = as_contiguous(attributes_), faces = as_contiguous(faces_), face_id = as_contiguous(face_id_),
               bary = as_contiguous(bary_);
  const InterpolateShape s = interpolate_shape(attributes, faces, face_id, bary);
  check_same_device(grad, attributes);
  check(grad.numel() == s.batch * s.pixels * s.channels && grad.scalar_type() == attributes.scalar_type(), "facerender: interpolate_backward got a gradient that does not fit");
  const Device device(attributes);
  const auto dtype = bary.scalar_type();
  std::vector<int64_t> sizes(bary.sizes().begin(), bary.sizes().end());
  Tensor grad_bary = empty(attributes, want_bary ? sizes : std::vector<int64_t>{0}, dtype), result;
  dispatch_attribute(dtype, attributes.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    const GradientBuffer<T> out(attributes, {attributes.size(0), s.num_vertices, s.channels}, dtype, want_attributes, deterministic, face_id.numel() * 3);
    if (face_id.numel()) {
      accumulate(deterministic && want_attributes, [&](auto tag) {
        LAUNCH((backward<T, A, decltype(tag)::mode>), grid_of(s.pixels, s.batch), kBlock, device.stream, s, data<A>(grad), data<A>(attributes), data<int32_t>(faces),
               data<int32_t>(face_id), data<T>(bary), want_attributes, out.sums(), want_bary ? mutable_data<T>(grad_bary) : nullptr);
        device.launched();
      });
      out.finish(device);
    }
    result = out.values;
  });
  return {result, grad_bary};
}

}  // namespace

CUDA_LIBRARY(m) {
  m.impl("interpolate", TORCH_BOX(&interpolate_cuda));
  m.impl("interpolate_backward", TORCH_BOX(&interpolate_backward_cuda));
}

}  // namespace facerender
