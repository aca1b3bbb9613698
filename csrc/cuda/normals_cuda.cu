#include "../normals.h"
#include "launch.h"

namespace facerender {
namespace {

struct Mesh {
  const int32_t *faces, *offsets, *corners;
  int64_t batch, num_vertices, num_faces;
};

// The corners of a vertex whose faces are sound, in order: f(face, corner of the face).
template <class F>
__device__ inline void for_corners(const Mesh& mesh, int64_t v, const F& f) {
  for (int32_t c = mesh.offsets[v]; c < mesh.offsets[v + 1]; ++c) {
    const int64_t corner = mesh.corners[c];
    Corners unused;
    if (corner >= 0 && corner < mesh.num_faces * 3 && load_corners(mesh.faces, corner / 3, mesh.num_vertices, unused)) f(corner / 3, int(corner % 3));
  }
}
template <class T>
__device__ inline Vec3<T> gather_sum(const Mesh& mesh, const T* vertices, int64_t v) {
  Vec3<T> sum{T(0), T(0), T(0)};
  for_corners(mesh, v, [&](int64_t face, int) { sum = sum + face_cross(vertices, mesh.faces, face); });
  return sum;
}
template <class T>
__device__ inline void put3(T* p, Vec3<T> v) {
  p[0] = v.x, p[1] = v.y, p[2] = v.z;
}

template <class T>
__global__ void __launch_bounds__(kBlock) normals(Mesh mesh, const T* vertices, T* out) {
  const int64_t v = item();
  if (v >= mesh.num_vertices) return;
  for (int64_t n = blockIdx.y; n < mesh.batch; n += gridDim.y) {
    const int64_t base = n * mesh.num_vertices * 3;
    put3(out + base + 3 * v, unit_or_zero(gather_sum(mesh, vertices + base, v)));
  }
}

// d loss / d (sum of crosses) of every vertex
template <class T>
__global__ void __launch_bounds__(kBlock) sums_backward(Mesh mesh, const T* grad, const T* vertices, T* out) {
  const int64_t v = item();
  if (v >= mesh.num_vertices) return;
  for (int64_t n = blockIdx.y; n < mesh.batch; n += gridDim.y) {
    const int64_t base = n * mesh.num_vertices * 3;
    put3(out + base + 3 * v, unit_gradient(gather_sum(mesh, vertices + base, v), load3<T>(grad + base + 3 * v)));
  }
}

template <class T>
__global__ void __launch_bounds__(kBlock) vertices_backward(Mesh mesh, const T* sums_, const T* vertices_, T* out) {
  const int64_t v = item();
  if (v >= mesh.num_vertices) return;
  for (int64_t n = blockIdx.y; n < mesh.batch; n += gridDim.y) {
    const int64_t base = n * mesh.num_vertices * 3;
    const T *sums = sums_ + base, *vertices = vertices_ + base;
    Vec3<T> sum{T(0), T(0), T(0)};
    for_corners(mesh, v, [&](int64_t face, int i) {
      const int32_t* f = mesh.faces + face * 3;
      const Vec3<T> of_face = load3<T>(sums + int64_t(f[0]) * 3) + load3<T>(sums + int64_t(f[1]) * 3) + load3<T>(sums + int64_t(f[2]) * 3);
      sum = sum + cross_gradient(vertices, mesh.faces, face, i, of_face);
    });
    put3(out + base + 3 * v, sum);
  }
}

Mesh mesh_of(const Tensor& vertices, const Tensor& faces, const Tensor& offsets, const Tensor& corners) {
  check_same_device(vertices, faces, offsets, corners);
  check_mesh(vertices, 3, faces);
  check(offsets.scalar_type() == ScalarType::Int && corners.scalar_type() == ScalarType::Int, "facerender: a topology is int32");
  check(offsets.numel() == vertices.size(1) + 1 && corners.numel() == faces.numel(), "facerender: vertex_normals got a topology of another mesh");
  return {data<int32_t>(faces), data<int32_t>(offsets), data<int32_t>(corners), vertices.size(0), vertices.size(1), faces.size(0)};
}

Tensor vertex_normals_cuda(const Tensor& vertices_, const Tensor& faces_, const Tensor& offsets_, const Tensor& corners_) {
  const Tensor vertices = as_contiguous(vertices_), faces = as_contiguous(faces_), offsets = as_contiguous(offsets_), corners = as_contiguous(corners_);
  const Mesh mesh = mesh_of(vertices, faces, offsets, corners);
  const Device device(vertices);
  Tensor out = empty(vertices, {mesh.batch, mesh.num_vertices, 3}, vertices.scalar_type());
  if (out.numel() == 0) return out;
  dispatch_geometry(vertices.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    LAUNCH((normals<T>), grid_of(mesh.num_vertices, mesh.batch), kBlock, device.stream, mesh, data<T>(vertices), mutable_data<T>(out));
    device.launched();
  });
  return out;
}

Tensor vertex_normals_backward_cuda(const Tensor& grad_, const Tensor& vertices_, const Tensor& faces_, const Tensor& offsets_, const Tensor& corners_) {
  const Tensor grad = as_contiguous(grad_), vertices = as_contiguous(vertices_), faces = as_contiguous(faces_), offsets = as_contiguous(offsets_),
               corners = as_contiguous(corners_);
  const Mesh mesh = mesh_of(vertices, faces, offsets, corners);
  check_same_device(grad, vertices);
  check(grad.numel() == vertices.numel() && grad.scalar_type() == vertices.scalar_type(), "facerender: vertex_normals_backward got a gradient that does not fit");
  const Device device(vertices);
  Tensor sums = empty(vertices, {mesh.batch, mesh.num_vertices, 3}, vertices.scalar_type()), out = empty(vertices, {mesh.batch, mesh.num_vertices, 3}, vertices.scalar_type());
  if (out.numel() == 0) return out;
  dispatch_geometry(vertices.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const dim3 grid = grid_of(mesh.num_vertices, mesh.batch);
    LAUNCH((sums_backward<T>), grid, kBlock, device.stream, mesh, data<T>(grad), data<T>(vertices), mutable_data<T>(sums));
    LAUNCH((vertices_backward<T>), grid, kBlock, device.stream, mesh, data<T>(sums), data<T>(vertices), mutable_data<T>(out));
    device.launched();
  });
  return out;
}

}  // namespace

CUDA_LIBRARY(m) {
  m.impl("vertex_normals", TORCH_BOX(&vertex_normals_cuda));
  m.impl("vertex_normals_backward", TORCH_BOX(&vertex_normals_backward_cuda));
}

}  // namespace facerender
