// vertex_normals on the CPU, and its gradient. The mathematics is in ../normals.h.
#include "../normals.h"

#include "../tensors.h"
#include "face_indices.h"
#include "parallel.h"

namespace facerender {
namespace {

struct Mesh {
  const int32_t *faces, *offsets, *corners;
  int64_t num_vertices, num_faces;
};

template <class T>
Vec3<T> gather_sum(const Mesh& mesh, const T* crosses, int64_t v) {
  Vec3<T> sum{T(0), T(0), T(0)};
  for (int32_t c = mesh.offsets[v]; c < mesh.offsets[v + 1]; ++c)
    sum = sum + load3<T>(crosses + int64_t(mesh.corners[c] / 3) * 3);
  return sum;
}
template <class T>
void store3(T* p, Vec3<T> v) {
  p[0] = v.x, p[1] = v.y, p[2] = v.z;
}
template <class T>
std::unique_ptr<T[]> face_crosses(const Mesh& mesh, const T* vertices, bool split) {
  std::unique_ptr<T[]> crosses(new T[size_t(mesh.num_faces) * 3]);
  for_range(mesh.num_faces, 4096, split, [&](int64_t begin, int64_t end) {
    for (int64_t f = begin; f < end; ++f) store3(crosses.get() + 3 * f, face_cross(vertices, mesh.faces, f));
  });
  return crosses;
}

Mesh checked_mesh(const Tensor& vertices, const Tensor& faces, const Tensor& offsets, const Tensor& corners) {
  check_same_device(vertices, faces, offsets, corners);
  check_mesh(vertices, 3, faces);
  check(offsets.scalar_type() == ScalarType::Int && corners.scalar_type() == ScalarType::Int,
        "facerender: a topology is int32");
  check(offsets.numel() == vertices.size(1) + 1 && corners.numel() == faces.numel(),
        "facerender: vertex_normals got a topology of another mesh");
  const Mesh mesh{data<int32_t>(faces), data<int32_t>(offsets), data<int32_t>(corners), vertices.size(1),
                  faces.size(0)};
  check_face_indices(mesh.faces, mesh.num_faces, mesh.num_vertices);
  check_face_indices(mesh.corners, mesh.num_faces, mesh.num_faces * 3);
  return mesh;
}

// vertices [N,V,3] -> unit normals [N,V,3].
Tensor vertex_normals_cpu(const Tensor& vertices_, const Tensor& faces_, const Tensor& offsets_,
                          const Tensor& corners_) {
  const Tensor vertices = as_contiguous(vertices_), faces = as_contiguous(faces_), offsets = as_contiguous(offsets_),
               corners = as_contiguous(corners_);
  const Mesh mesh = checked_mesh(vertices, faces, offsets, corners);
  Tensor out = empty(vertices, {vertices.size(0), mesh.num_vertices, 3}, vertices.scalar_type());
  dispatch_geometry(vertices.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    for_images(vertices.size(0), [&](int64_t n, bool split) {
      const T* p = data<T>(vertices) + n * mesh.num_vertices * 3;
      T* o = mutable_data<T>(out) + n * mesh.num_vertices * 3;
      const auto crosses = face_crosses(mesh, p, split);
      for_range(mesh.num_vertices, 4096, split, [&](int64_t begin, int64_t end) {
        for (int64_t v = begin; v < end; ++v) store3(o + 3 * v, unit_or_zero(gather_sum(mesh, crosses.get(), v)));
      });
    });
  });
  return out;
}

Tensor vertex_normals_backward_cpu(const Tensor& grad_, const Tensor& vertices_, const Tensor& faces_,
                                   const Tensor& offsets_, const Tensor& corners_) {
  const Tensor grad = as_contiguous(grad_), vertices = as_contiguous(vertices_), faces = as_contiguous(faces_),
               offsets = as_contiguous(offsets_), corners = as_contiguous(corners_);
  const Mesh mesh = checked_mesh(vertices, faces, offsets, corners);
  check(grad.numel() == vertices.numel() && grad.scalar_type() == vertices.scalar_type(),
        "facerender: vertex_normals_backward got a gradient that does not fit");
  Tensor out = empty(vertices, {vertices.size(0), mesh.num_vertices, 3}, vertices.scalar_type());
  dispatch_geometry(vertices.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    for_images(vertices.size(0), [&](int64_t n, bool split) {
      const int64_t base = n * mesh.num_vertices * 3;
      const T *p = data<T>(vertices) + base, *g = data<T>(grad) + base;
      T* o = mutable_data<T>(out) + base;
      const auto crosses = face_crosses(mesh, p, split);
      const std::unique_ptr<T[]> sums(new T[size_t(mesh.num_vertices) * 3]);  // d loss / d (sum of cross products)
      for_range(mesh.num_vertices, 4096, split, [&](int64_t begin, int64_t end) {
        for (int64_t v = begin; v < end; ++v)
          store3(sums.get() + 3 * v, unit_gradient(gather_sum(mesh, crosses.get(), v), load3<T>(g + 3 * v)));
      });
      for_range(mesh.num_vertices, 4096, split, [&](int64_t begin, int64_t end) {
        for (int64_t v = begin; v < end; ++v) {
          Vec3<T> sum{T(0), T(0), T(0)};
          for (int32_t c = mesh.offsets[v]; c < mesh.offsets[v + 1]; ++c) {
            const int64_t face = mesh.corners[c] / 3;
            const int32_t* f = mesh.faces + face * 3;
            const Vec3<T> of_face = load3<T>(sums.get() + int64_t(f[0]) * 3) +
                                    load3<T>(sums.get() + int64_t(f[1]) * 3) + load3<T>(sums.get() + int64_t(f[2]) * 3);
            sum = sum + cross_gradient(p, mesh.faces, face, mesh.corners[c] % 3, of_face);
          }
          store3(o + 3 * v, sum);
        }
      });
    });
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facerender, CPU, m) {
  m.impl("vertex_normals", TORCH_BOX(&vertex_normals_cpu));
  m.impl("vertex_normals_backward", TORCH_BOX(&vertex_normals_backward_cpu));
}

}  // namespace facerender
