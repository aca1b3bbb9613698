#include "../normals.h"
#include "launch.h"

namespace facerender {
namespace {

struct Mesh {
  const int32_t *faces, *offsets, *corners;
  int64_t batch;
  int32_t num_vertices, num_faces;
};

// A thread takes its vertex through so many images at a time: what tells it where to look is the same in all of them.
template <class T>
constexpr int kManyImages = 16 / sizeof(T);

// Arrays [N,V,3] of the images from n on; beyond the last they are those of image n.
template <class P, int kImages>
struct ImageViews {
  P* of[kImages];
  __device__ ImageViews(const Mesh& mesh, P* p, int64_t n) {
    UNROLL
    for (int k = 0; k < kImages; ++k) of[k] = in_global(kept(p + (n + k < mesh.batch ? n + k : n) * mesh.num_vertices * 3));
  }
};

// Three loads from one address: here, where a thread comes upon the same vertices in several images, those of load3 take longer to address than to fetch.
template <class T>
__device__ inline Vec3<T> vertex3(const T* p, int32_t v) {
  p += int64_t(v) * 3;
  return {p[0], p[1], p[2]};
}
// The corners of a vertex whose faces are sound, in order: f(vertices of the face, corner of the face, the next two vertices).
template <class F>
__device__ inline void for_corners(const Mesh& mesh, int32_t v, const F& f) {
  const uint32_t n = uint32_t(mesh.num_vertices);
  const int32_t end = mesh.offsets[v + 1];
  for (int32_t c = mesh.offsets[v]; c < end; ++c) {
    const uint32_t corner = uint32_t(mesh.corners[c]), face = corner / 3;
    if (face >= uint32_t(mesh.num_faces)) continue;
    const Vec3<int32_t> corners = vertex3(mesh.faces, int32_t(face));
    const int32_t of[3] = {corners.x, corners.y, corners.z};
    if (uint32_t(of[0]) < n && uint32_t(of[1]) < n && uint32_t(of[2]) < n) {
      const int32_t i = int32_t(corner - face * 3);
      f(of, i, i == 0 ? of[1] : i == 1 ? of[2] : of[0], i == 0 ? of[2] : i == 1 ? of[0] : of[1]);
    }
  }
}
template <class T, int kImages>
__device__ inline void gather_sums(const Mesh& mesh, const ImageViews<const T, kImages>& vertices, int32_t v, Vec3<T> (&sums)[kImages]) {
  Vec3<T> own[kImages];
  UNROLL
  for (int k = 0; k < kImages; ++k) sums[k] = {T(0), T(0), T(0)}, own[k] = vertex3(vertices.of[k], v);
  for_corners(mesh, v, [&](const int32_t*, int i, int32_t next, int32_t last) {
    UNROLL
    for (int k = 0; k < kImages; ++k) {
      // face_cross without another load of this vertex. Its two edges leave corner 0, which is this vertex, `last` or `next`; that both, or the one and the order, are
      // turned round here changes no bit.
      const Vec3<T> p = vertex3(vertices.of[k], next), q = vertex3(vertices.of[k], last), to_p = p - own[k], to_q = q - own[k], across = q - p;
      const bool first = i == 0, second = i == 1;
      sums[k] = sums[k] + cross(Vec3<T>{second ? to_q.x : to_p.x, second ? to_q.y : to_p.y, second ? to_q.z : to_p.z},
                                Vec3<T>{first ? to_q.x : across.x, first ? to_q.y : across.y, first ? to_q.z : across.z});
    }
  });
}
template <class T>
__device__ inline void put3(T* p, int32_t v, Vec3<T> value) {
  p += int64_t(v) * 3;
  p[0] = value.x, p[1] = value.y, p[2] = value.z;
}

template <class T, int kImages>
__global__ void __launch_bounds__(kBlock) normals(Mesh mesh, const T* vertices, T* out) {
  const int32_t v = int32_t(item());
  if (v >= mesh.num_vertices) return;
  for (int64_t n = int64_t(blockIdx.y) * kImages; n < mesh.batch; n += int64_t(gridDim.y) * kImages) {
    Vec3<T> sums[kImages];
    gather_sums<T, kImages>(mesh, {mesh, vertices, n}, v, sums);
    const ImageViews<T, kImages> to(mesh, out, n);
    UNROLL
    for (int k = 0; k < kImages; ++k)
      if (n + k < mesh.batch) put3(to.of[k], v, unit_or_zero(sums[k]));
  }
}

// d loss / d (sum of crosses) of every vertex
template <class T, int kImages>
__global__ void __launch_bounds__(kBlock) sums_backward(Mesh mesh, const T* grad, const T* vertices, T* out) {
  let_next_start();
  const int32_t v = int32_t(item());
  if (v >= mesh.num_vertices) return;
  for (int64_t n = int64_t(blockIdx.y) * kImages; n < mesh.batch; n += int64_t(gridDim.y) * kImages) {
    Vec3<T> sums[kImages];
    gather_sums<T, kImages>(mesh, {mesh, vertices, n}, v, sums);
    UNROLL
    for (int k = 0; k < kImages; ++k) {
      const int64_t image = (n + k) * mesh.num_vertices * 3;
      if (n + k < mesh.batch) put3(out + image, v, unit_gradient(sums[k], vertex3(grad + image, v)));
    }
  }
}

template <class T, int kImages>
__global__ void __launch_bounds__(kBlock) vertices_backward(Mesh mesh, const T* sums_, const T* vertices_, T* out) {
  wait_for_previous();
  const int32_t v = int32_t(item());
  if (v >= mesh.num_vertices) return;
  for (int64_t n = int64_t(blockIdx.y) * kImages; n < mesh.batch; n += int64_t(gridDim.y) * kImages) {
    const ImageViews<const T, kImages> sums(mesh, sums_, n), vertices(mesh, vertices_, n);
    const ImageViews<T, kImages> to(mesh, out, n);
    Vec3<T> sum[kImages];
    UNROLL
    for (int k = 0; k < kImages; ++k) sum[k] = {T(0), T(0), T(0)};
    for_corners(mesh, v, [&](const int32_t* f, int, int32_t from, int32_t end) {
      UNROLL
      for (int k = 0; k < kImages; ++k) {
        const Vec3<T> of_face = vertex3(sums.of[k], f[0]) + vertex3(sums.of[k], f[1]) + vertex3(sums.of[k], f[2]);
        sum[k] = sum[k] + cross_gradient(vertex3(vertices.of[k], from), vertex3(vertices.of[k], end), of_face);
      }
    });
    UNROLL
    for (int k = 0; k < kImages; ++k)
      if (n + k < mesh.batch) put3(to.of[k], v, sum[k]);
  }
}

Mesh mesh_of(const Tensor& vertices, const Tensor& faces, const Tensor& offsets, const Tensor& corners) {
  check_same_device(vertices, faces, offsets, corners);
  check_mesh(vertices, 3, faces);
  check(offsets.scalar_type() == ScalarType::Int && corners.scalar_type() == ScalarType::Int, "facerender: a topology is int32");
  check(offsets.numel() == vertices.size(1) + 1 && corners.numel() == faces.numel(), "facerender: vertex_normals got a topology of another mesh");
  return {data<int32_t>(faces), data<int32_t>(offsets), data<int32_t>(corners), vertices.size(0), int32_t(vertices.size(1)), int32_t(faces.size(0))};
}

// run(number, grid): so many images for a thread, where that leaves enough threads.
template <class T, class F>
void for_images(const Device& device, const Mesh& mesh, const F& run) {
  const dim3 many = grid_of(mesh.num_vertices, (mesh.batch + kManyImages<T> - 1) / kManyImages<T>);
  if (mesh.batch > 1 && int64_t(many.x) * many.y >= 4 * device.multiprocessors())
    run(std::integral_constant<int, kManyImages<T>>{}, many);
  else
    run(std::integral_constant<int, 1>{}, grid_of(mesh.num_vertices, mesh.batch));
}

Tensor vertex_normals_cuda(const Tensor& vertices_, const Tensor& faces_, const Tensor& offsets_, const Tensor& corners_) {
  const Tensor vertices = as_contiguous(vertices_), faces = as_contiguous(faces_), offsets = as_contiguous(offsets_), corners = as_contiguous(corners_);
  const Mesh mesh = mesh_of(vertices, faces, offsets, corners);
  const Device device(vertices);
  Tensor out = empty(vertices, {mesh.batch, mesh.num_vertices, 3}, vertices.scalar_type());
  if (out.numel() == 0) return out;
  dispatch_geometry(vertices.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    for_images<T>(device, mesh, [&](auto images, dim3 grid) {
      LAUNCH((normals<T, decltype(images)::value>), grid, kBlock, device.stream, mesh, data<T>(vertices), mutable_data<T>(out));
      device.launched();
    });
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
    for_images<T>(device, mesh, [&](auto images, dim3 grid) {
      LAUNCH_AFTER((sums_backward<T, decltype(images)::value>), grid, kBlock, device, mesh, data<T>(grad), data<T>(vertices), mutable_data<T>(sums));
      LAUNCH_AFTER((vertices_backward<T, decltype(images)::value>), grid, kBlock, device, mesh, data<T>(sums), data<T>(vertices), mutable_data<T>(out));
      device.launched();
    });
  });
  return out;
}

}  // namespace

CUDA_LIBRARY(m) {
  m.impl("vertex_normals", TORCH_BOX(&vertex_normals_cuda));
  m.impl("vertex_normals_backward", TORCH_BOX(&vertex_normals_backward_cuda));
}

}  // namespace facerender
