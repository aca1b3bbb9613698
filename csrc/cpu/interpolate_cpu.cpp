// interpolate on the CPU, and its gradients.
#include "../arithmetic.h"
#include "../inputs.h"
#include "face_indices.h"
#include "lanes/kernels.h"
#include "parallel.h"
#include "vertex_ranges.h"

namespace facerender {
namespace {

// attributes [N or 1,V,C], faces [F,3], face_id [N,...], bary [N,...,3], background [C] or none -> [N,...,C].
Tensor interpolate_cpu(const Tensor& attributes_, const Tensor& faces_, const Tensor& face_id_, const Tensor& bary_,
                       const std::optional<Tensor>& background_) {
  const Tensor attributes = as_contiguous(attributes_), faces = as_contiguous(faces_),
               face_id = as_contiguous(face_id_), bary = as_contiguous(bary_);
  const InterpolateShape s = interpolate_shape(attributes, faces, face_id, bary);
  std::atomic<bool> invalid{false};  // a visible face has an index out of range
  std::vector<int64_t> sizes(face_id.sizes().begin(), face_id.sizes().end());
  sizes.push_back(s.channels);
  Tensor out = empty(attributes, sizes, attributes.scalar_type());
  const Tensor background =
      background_ ? as_contiguous(*background_) : zeros(attributes, {s.channels}, attributes.scalar_type());
  check(background.numel() == s.channels && background.scalar_type() == attributes.scalar_type(),
        "facerender: background must be [C] and of the attributes' dtype");
  dispatch_attribute(bary.scalar_type(), attributes.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    const int64_t C = s.channels, stride = s.attribute_stride;
    const A* fill = data<A>(background);
    for_images(s.batch, [&](int64_t n, bool split) {
      const A* a = data<A>(attributes) + n * stride;
      const int32_t* ids = data<int32_t>(face_id) + n * s.pixels;
      const T* b = data<T>(bary) + n * s.pixels * 3;
      A* o = mutable_data<A>(out) + n * s.pixels * C;
      for_range(s.pixels, 4096, split, [&](int64_t begin, int64_t end) {
        if constexpr (std::is_same_v<A, float>) {
          if (C == 3 && s.num_vertices < (1 << 29))
            begin =
                lanes().interpolate3(a, data<int32_t>(faces), s.num_faces, s.num_vertices, ids, b, fill, begin, end, o);
          if (begin < 0) {
            invalid = true;
            return;
          }
        }
        for (int64_t i = begin; i < end; ++i) {
          Corners f;
          if (!visible_corners(data<int32_t>(faces), ids[i], s.num_faces, s.num_vertices, f)) {
            if (ids[i] >= 0 && ids[i] < s.num_faces) invalid = true;
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
  if (invalid) check_face_indices(data<int32_t>(faces), s.num_faces, s.num_vertices);
  return out;
}

// Returns (d attributes [N or 1,V,C], d bary [N,...,3]) in the geometry's dtype; one that is not wanted is empty.
std::tuple<Tensor, Tensor> interpolate_backward_cpu(const Tensor& grad_, const Tensor& attributes_,
                                                    const Tensor& faces_, const Tensor& face_id_, const Tensor& bary_,
                                                    bool want_attributes, bool want_bary, bool) {
  const Tensor grad = as_contiguous(grad_), attributes = as_contiguous(attributes_), faces = as_contiguous(faces_),
               face_id = as_contiguous(face_id_), bary = as_contiguous(bary_);
  const InterpolateShape s = interpolate_shape(attributes, faces, face_id, bary);
  check(grad.numel() == s.batch * s.pixels * s.channels && grad.scalar_type() == attributes.scalar_type(),
        "facerender: interpolate_backward got a gradient that does not fit");
  const auto dtype = bary.scalar_type();
  Tensor grad_attributes = want_attributes
                               ? empty_for(s.batch, attributes, {attributes.size(0), s.num_vertices, s.channels}, dtype)
                               : empty(attributes, {0}, dtype);
  std::vector<int64_t> sizes(bary.sizes().begin(), bary.sizes().end());
  Tensor grad_bary = want_bary ? empty(attributes, sizes, dtype) : empty(attributes, {0}, dtype);
  dispatch_attribute(dtype, attributes.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    const int64_t C = s.channels, stride = s.attribute_stride;
    const int32_t* f_all = data<int32_t>(faces);
    // d bary is split over threads by pixels and d attributes by vertices. On one thread both are computed together.
    const int64_t rows = face_id.size(1), row_pixels = rows ? s.pixels / rows : 0;
    const auto row_backward = [&](int64_t n, int64_t row, int64_t v0, int64_t v1, T* bary_out, T* attributes_out) {
      const int64_t first = n * s.pixels + row * row_pixels;
      const int32_t* ids = data<int32_t>(face_id) + first;
      const A *a = data<A>(attributes) + n * stride, *g_all = data<A>(grad) + first * C;
      const T* b = data<T>(bary) + 3 * first;
      if (bary_out) bary_out += 3 * first;
      int64_t i = 0;
      if constexpr (std::is_same_v<A, float>) {
        if (C == 3 && s.num_vertices < (1 << 29))
          i = lanes().interpolate3_row_backward(a, f_all, int32_t(row_pixels), ids, b, g_all,
                                                {s.num_faces, s.num_vertices, v0, v1}, bary_out, attributes_out);
      }
      for (; i < row_pixels; ++i) {
        if (bary_out) bary_out[3 * i] = bary_out[3 * i + 1] = bary_out[3 * i + 2] = T(0);
        Corners f;
        if (!visible_corners(f_all, ids[i], s.num_faces, s.num_vertices, f)) continue;
        const A* g = g_all + i * C;
        for (int k = 0; k < 3; ++k) {
          if (bary_out) {
            const A* p = a + f.v[k] * C;
            T sum = T(0);
            for (int64_t c = 0; c < C; ++c) sum += T(g[c]) * T(p[c]);
            bary_out[3 * i + k] = sum;
          }
          if (attributes_out && f.v[k] >= v0 && f.v[k] < v1) {
            const T w = b[3 * i + k];
            T* o = attributes_out + f.v[k] * C;
            for (int64_t c = 0; c < C; ++c) o[c] += w * T(g[c]);
          }
        }
      }
    };
    const bool shared = stride == 0 && s.batch > 1,
               separate = want_bary && (!want_attributes || shared || split_images(s.batch));
    T* all_bary = want_bary ? mutable_data<T>(grad_bary) : nullptr;
    if (separate) {
      for_range(s.batch * rows, 4, true, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) row_backward(r / rows, r % rows, 0, s.num_vertices, all_bary, nullptr);
      });
    }
    if (want_attributes) {
      const int64_t out_stride = stride ? s.num_vertices * C : 0;
      const VertexWorkload workload{data<int32_t>(face_id), f_all, s.pixels, s.num_faces, s.num_vertices};
      for_vertices(s.batch, shared, workload, [&](int64_t n0, int64_t n1, int64_t v0, int64_t v1) {
        for (int64_t n = n0; n < n1; ++n) {
          T* out = mutable_data<T>(grad_attributes) + n * out_stride;
          if (n == n0 || !shared) clear(out, C, v0, v1);
          for (int64_t row = 0; row < rows; ++row) row_backward(n, row, v0, v1, separate ? nullptr : all_bary, out);
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
