// vertex_normals on CUDA, and its gradient: one thread per vertex gathers over the faces around it, so no atomics are
// needed and the bits are those of the CPU. The mathematics is in ../normals.h.
#include "../normals.h"
#include "launch.h"

namespace facerender {
namespace {

struct Mesh {
  const int32_t *faces, *offsets, *corners;
  int64_t batch;
  int32_t num_vertices, num_faces;
};

// A thread computes its vertex in this many images at once: the connectivity that it reads is the same in all of them.
template <class T>
constexpr int kImagesPerThread = 16 / sizeof(T);

// Arrays [N,V,3] of images n to n + kImages - 1; those beyond the batch are those of image n.
template <class P, int kImages>
struct ImageViews {
  P* image[kImages];
  __device__ ImageViews(const Mesh& mesh, P* p, int64_t n) {
    UNROLL
    for (int k = 0; k < kImages; ++k)
      image[k] = assume_global(launder(p + (n + k < mesh.batch ? n + k : n) * mesh.num_vertices * 3));
  }
};

template <class T>
__device__ inline Vec3<T> load_vertex(const T* p, int32_t v) {
  return load3_plain(p + int64_t(v) * 3);
}
// Calls f(vertices of the face, corner of the face, next two vertices) for each corner of a vertex, in order; skips
// faces with an invalid vertex index.
template <class F>
__device__ inline void for_corners(const Mesh& mesh, int32_t v, const F& f) {
  const uint32_t n = uint32_t(mesh.num_vertices);
  const int32_t end = mesh.offsets[v + 1];
  for (int32_t c = mesh.offsets[v]; c < end; ++c) {
    const uint32_t corner = uint32_t(mesh.corners[c]), face = corner / 3;
    if (face >= uint32_t(mesh.num_faces)) continue;
    const Vec3<int32_t> corners = load_vertex(mesh.faces, int32_t(face));
    const int32_t f_v[3] = {corners.x, corners.y, corners.z};
    if (uint32_t(f_v[0]) < n && uint32_t(f_v[1]) < n && uint32_t(f_v[2]) < n) {
      const int32_t i = int32_t(corner - face * 3);
      f(f_v, i, i == 0 ? f_v[1] : i == 1 ? f_v[2] : f_v[0], i == 0 ? f_v[2] : i == 1 ? f_v[0] : f_v[1]);
    }
  }
}
template <class T, int kImages>
__device__ inline void gather_sums(const Mesh& mesh, const ImageViews<const T, kImages>& vertices, int32_t v,
                                   Vec3<T> (&sums)[kImages]) {
  Vec3<T> own[kImages];
  UNROLL
  for (int k = 0; k < kImages; ++k) sums[k] = {T(0), T(0), T(0)}, own[k] = load_vertex(vertices.image[k], v);
  for_corners(mesh, v, [&](const int32_t*, int i, int32_t next, int32_t last) {
    UNROLL
    for (int k = 0; k < kImages; ++k) {
      // face_cross without loading this vertex again. Its two edges start at corner 0, which is this vertex, `last` or
      // `next`. For the latter two, both edges are negated, or one is and they are swapped, which changes no bit.
      const Vec3<T> p = load_vertex(vertices.image[k], next), q = load_vertex(vertices.image[k], last),
                    to_p = p - own[k], to_q = q - own[k], across = q - p;
      const bool first = i == 0, second = i == 1;
      sums[k] =
          sums[k] + cross(Vec3<T>{second ? to_q.x : to_p.x, second ? to_q.y : to_p.y, second ? to_q.z : to_p.z},
                          Vec3<T>{first ? to_q.x : across.x, first ? to_q.y : across.y, first ? to_q.z : across.z});
    }
  });
}
template <class T>
__device__ inline void store3(T* p, int32_t v, Vec3<T> value) {
  p += int64_t(v) * 3;
  p[0] = value.x, p[1] = value.y, p[2] = value.z;
}

template <class T, int kImages>
__global__ void __launch_bounds__(kBlock) normals(Mesh mesh, const T* vertices, T* out) {
  const int32_t v = int32_t(global_thread_id());
  if (v >= mesh.num_vertices) return;
  for (int64_t n = int64_t(blockIdx.y) * kImages; n < mesh.batch; n += int64_t(gridDim.y) * kImages) {
    Vec3<T> sums[kImages];
    gather_sums<T, kImages>(mesh, {mesh, vertices, n}, v, sums);
    const ImageViews<T, kImages> to(mesh, out, n);
    UNROLL
    for (int k = 0; k < kImages; ++k)
      if (n + k < mesh.batch) store3(to.image[k], v, unit_or_zero(sums[k]));
  }
}

// d loss / d (sum of cross products) of every vertex.
template <class T, int kImages>
__global__ void __launch_bounds__(kBlock) sums_backward(Mesh mesh, const T* grad, const T* vertices, T* out) {
  pdl_trigger();
  const int32_t v = int32_t(global_thread_id());
  if (v >= mesh.num_vertices) return;
  for (int64_t n = int64_t(blockIdx.y) * kImages; n < mesh.batch; n += int64_t(gridDim.y) * kImages) {
    Vec3<T> sums[kImages];
    gather_sums<T, kImages>(mesh, {mesh, vertices, n}, v, sums);
    UNROLL
    for (int k = 0; k < kImages; ++k) {
      const int64_t image = (n + k) * mesh.num_vertices * 3;
      if (n + k < mesh.batch) store3(out + image, v, unit_gradient(sums[k], load_vertex(grad + image, v)));
    }
  }
}

// d loss / d vertices, gathered from the gradients of the sums.
template <class T, int kImages>
__global__ void __launch_bounds__(kBlock) vertices_backward(Mesh mesh, const T* sums_, const T* vertices_, T* out) {
  pdl_wait();
  const int32_t v = int32_t(global_thread_id());
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
        const Vec3<T> of_face =
            load_vertex(sums.image[k], f[0]) + load_vertex(sums.image[k], f[1]) + load_vertex(sums.image[k], f[2]);
        sum[k] =
            sum[k] + cross_gradient(load_vertex(vertices.image[k], from), load_vertex(vertices.image[k], end), of_face);
      }
    });
    UNROLL
    for (int k = 0; k < kImages; ++k)
      if (n + k < mesh.batch) store3(to.image[k], v, sum[k]);
  }
}

Mesh checked_mesh(const Tensor& vertices, const Tensor& faces, const Tensor& offsets, const Tensor& corners) {
  check_same_device(vertices, faces, offsets, corners);
  check_mesh(vertices, 3, faces);
  check(offsets.scalar_type() == ScalarType::Int && corners.scalar_type() == ScalarType::Int,
        "facerender: a topology is int32");
  check(offsets.numel() == vertices.size(1) + 1 && corners.numel() == faces.numel(),
        "facerender: vertex_normals got a topology of another mesh");
  return {data<int32_t>(faces), data<int32_t>(offsets),    data<int32_t>(corners),
          vertices.size(0),     int32_t(vertices.size(1)), int32_t(faces.size(0))};
}

// Calls run(kImages, grid): several images per thread if that leaves enough threads.
template <class T, class F>
void launch_for_images(const Device& device, const Mesh& mesh, const F& run) {
  const dim3 many = grid_for(mesh.num_vertices, (mesh.batch + kImagesPerThread<T> - 1) / kImagesPerThread<T>);
  if (mesh.batch > 1 && int64_t(many.x) * many.y >= 4 * device.multiprocessors())
    run(std::integral_constant<int, kImagesPerThread<T>>{}, many);
  else
    run(std::integral_constant<int, 1>{}, grid_for(mesh.num_vertices, mesh.batch));
}

Tensor vertex_normals_cuda(const Tensor& vertices_, const Tensor& faces_, const Tensor& offsets_,
                           const Tensor& corners_) {
  const Tensor vertices = as_contiguous(vertices_), faces = as_contiguous(faces_), offsets = as_contiguous(offsets_),
               corners = as_contiguous(corners_);
  const Mesh mesh = checked_mesh(vertices, faces, offsets, corners);
  const Device device(vertices);
  Tensor out = empty(vertices, {mesh.batch, mesh.num_vertices, 3}, vertices.scalar_type());
  if (out.numel() == 0) return out;
  dispatch_geometry(vertices.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    launch_for_images<T>(device, mesh, [&](auto images, dim3 grid) {
      LAUNCH((normals<T, decltype(images)::value>), grid, kBlock, device.stream, mesh, data<T>(vertices),
             mutable_data<T>(out));
      device.launched();
    });
  });
  return out;
}

Tensor vertex_normals_backward_cuda(const Tensor& grad_, const Tensor& vertices_, const Tensor& faces_,
                                    const Tensor& offsets_, const Tensor& corners_) {
  const Tensor grad = as_contiguous(grad_), vertices = as_contiguous(vertices_), faces = as_contiguous(faces_),
               offsets = as_contiguous(offsets_), corners = as_contiguous(corners_);
  const Mesh mesh = checked_mesh(vertices, faces, offsets, corners);
  check_same_device(grad, vertices);
  check(grad.numel() == vertices.numel() && grad.scalar_type() == vertices.scalar_type(),
        "facerender: vertex_normals_backward got a gradient that does not fit");
  const Device device(vertices);
  Tensor sums = empty(vertices, {mesh.batch, mesh.num_vertices, 3}, vertices.scalar_type()),
         out = empty(vertices, {mesh.batch, mesh.num_vertices, 3}, vertices.scalar_type());
  if (out.numel() == 0) return out;
  dispatch_geometry(vertices.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    launch_for_images<T>(device, mesh, [&](auto images, dim3 grid) {
      LAUNCH_PDL((sums_backward<T, decltype(images)::value>), grid, kBlock, device, mesh, data<T>(grad),
                 data<T>(vertices), mutable_data<T>(sums));
      LAUNCH_PDL((vertices_backward<T, decltype(images)::value>), grid, kBlock, device, mesh, data<T>(sums),
                 data<T>(vertices), mutable_data<T>(out));
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
