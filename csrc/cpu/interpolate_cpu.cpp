#include "../tensors.h"
#include "../arithmetic.h"
#include "lanes/kernels.h"
#include "parallel.h"

namespace facerender {
namespace {

struct Shape {
  int64_t batch, pixels, num_vertices, num_faces, channels;
};
Shape shape_of(const Tensor& attributes, const Tensor& faces, const Tensor& face_id, const Tensor& bary) {
  check_same_device(attributes, faces, face_id, bary);
  check(attributes.dim() == 3 && bary.numel() == face_id.numel() * 3, "facerender: interpolate got shapes that do not fit");
  const int64_t batch = face_id.size(0);
  check(attributes.size(0) == batch || attributes.size(0) == 1, "facerender: interpolate got attributes of another batch size");
  return {batch, batch ? face_id.numel() / batch : 0, attributes.size(1), faces.size(0), attributes.size(2)};
}

// attributes [N or 1,V,C], faces [F,3], face_id [N,...], bary [N,...,3], background [C] or none -> [N,...,C]
Tensor interpolate_cpu(const Tensor& attributes_, const Tensor& faces_, const Tensor& face_id_, const Tensor& bary_, const std::optional<Tensor>& background_) {
  const Tensor attributes = as_contiguous(attributes_), faces = as_contiguous(faces_), face_id = as_contiguous(face_id_), bary = as_contiguous(bary_);
  const Shape s = shape_of(attributes, faces, face_id, bary);
  check_face_indices(data<int32_t>(faces), s.num_faces, s.num_vertices);
  std::vector<int64_t> sizes(face_id.sizes().begin(), face_id.sizes().end());
  sizes.push_back(s.channels);
  Tensor out = empty(attributes, sizes, attributes.scalar_type());
  const Tensor background = background_ ? as_contiguous(*background_) : zeros(attributes, {s.channels}, attributes.scalar_type());
  check(background.numel() == s.channels && background.scalar_type() == attributes.scalar_type(), "facerender: background must be [C] and of the attributes' dtype");
  dispatch_attribute(bary.scalar_type(), attributes.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    const int64_t C = s.channels, stride = batch_stride(attributes, s.batch);
    const A* fill = data<A>(background);
    for_images(s.batch, [&](int64_t n, bool split) {
      const A* a = data<A>(attributes) + n * stride;
      const int32_t* ids = data<int32_t>(face_id) + n * s.pixels;
      const T* b = data<T>(bary) + n * s.pixels * 3;
      A* o = mutable_data<A>(out) + n * s.pixels * C;
      for_range(s.pixels, 4096, split, [&](int64_t begin, int64_t end) {
        if constexpr (std::is_same_v<A, float>) {
          if (C == 3 && s.num_vertices < (1 << 29)) begin = lanes().interpolate3(a, data<int32_t>(faces), s.num_faces, ids, b, fill, begin, end, o);
        }
        for (int64_t i = begin; i < end; ++i) {
          Corners f;
          if (!seen_corners(data<int32_t>(faces), ids[i], s.num_faces, s.num_vertices, f)) {
            for (int64_t c = 0; c < C; ++c) o[i * C + c] = fill[c];
            continue;
          }
          const A *p = a + f.v[0] * C, *q = a + f.v[1] * C, *r = a + f.v[2] * C;
          const T b0 = b[3 * i], b1 = b[3 * i + 1], b2 = b[3 * i + 2];
          for (int64_t c = 0; c < C; ++c) o[i * C + c] = A(T(p[c]) * b0 + T(q[c]) * b1 + T(r[c]) * b2);
        }
      });
    });
  });
  return out;
}

// (d loss / d attributes [N or 1,V,C], d loss / d bary [N,...,3]) in the geometry's dtype; an empty tensor for the one not wanted
std::tuple<Tensor, Tensor> interpolate_backward_cpu(const Tensor& grad_, const Tensor& attributes_, const Tensor& faces_, const Tensor& face_id_,
                                                    const Tensor& bary_, bool want_attributes, bool want_bary, bool) {
  const Tensor grad = as_contiguous(grad_), attributes = as_contiguous(attributes_), faces = as_contiguous(faces_), face_id = as_contiguous(face_id_),
               bary = as_contiguous(bary_);
  const Shape s = shape_of(attributes, faces, face_id, bary);
  check(grad.numel() == s.batch * s.pixels * s.channels && grad.scalar_type() == attributes.scalar_type(), "facerender: interpolate_backward got a gradient that does not fit");
  const auto dtype = bary.scalar_type();
  Tensor grad_attributes = want_attributes ? zeros(attributes, {attributes.size(0), s.num_vertices, s.channels}, dtype) : empty(attributes, {0}, dtype);
  std::vector<int64_t> sizes(bary.sizes().begin(), bary.sizes().end());
  Tensor grad_bary = want_bary ? empty(attributes, sizes, dtype) : empty(attributes, {0}, dtype);
  dispatch_attribute(dtype, attributes.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    const int64_t C = s.channels, stride = batch_stride(attributes, s.batch);
    const int32_t* f_all = data<int32_t>(faces);
    if (want_bary) {
      for_range(s.batch * s.pixels, 2048, true, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          T* out = mutable_data<T>(grad_bary) + 3 * i;
          out[0] = out[1] = out[2] = T(0);
          Corners f;
          if (!seen_corners(f_all, data<int32_t>(face_id)[i], s.num_faces, s.num_vertices, f)) continue;
          const A *a = data<A>(attributes) + i / s.pixels * stride, *g = data<A>(grad) + i * C;
          for (int k = 0; k < 3; ++k) {
            const A* p = a + f.v[k] * C;
            T sum = T(0);
            for (int64_t c = 0; c < C; ++c) sum += T(g[c]) * T(p[c]);
            out[k] = sum;
          }
        }
      });
    }
    if (want_attributes) {
      const int64_t out_stride = stride ? s.num_vertices * C : 0;
      for_vertices(s.batch, s.num_vertices, stride == 0 && s.batch > 1, [&](int64_t n0, int64_t n1, int64_t v0, int64_t v1) {
        for (int64_t n = n0; n < n1; ++n) {
          T* out = mutable_data<T>(grad_attributes) + n * out_stride;
          for (int64_t i = n * s.pixels; i < (n + 1) * s.pixels; ++i) {
            Corners f;
            if (!seen_corners(f_all, data<int32_t>(face_id)[i], s.num_faces, s.num_vertices, f)) continue;
            const A* g = data<A>(grad) + i * C;
            for (int k = 0; k < 3; ++k) {
              if (f.v[k] < v0 || f.v[k] >= v1) continue;
              const T b = data<T>(bary)[3 * i + k];
              T* o = out + f.v[k] * C;
              for (int64_t c = 0; c < C; ++c) o[c] += b * T(g[c]);
            }
          }
        }
      });
    }
  });
  return {grad_attributes, grad_bary};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facerender, CPU, m) {
  m.impl("interpolate", TORCH_BOX(&interpolate_cpu));
  m.impl("interpolate_backward", TORCH_BOX(&interpolate_backward_cpu));
}

}  // namespace facerender
