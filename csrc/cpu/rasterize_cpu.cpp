// rasterize on the CPU, and its gradients. The mathematics is in ../raster.h.
#include "lanes/resolve_pixels.h"

#include "face_indices.h"
#include "parallel.h"
#include "vertex_ranges.h"
#include "visibility_cpu.h"

namespace facerender {
namespace {

void resolve(const MeshView<float>& mesh, const uint64_t* keys, int64_t begin, int64_t end, int64_t stride,
             int32_t* face_id, float* bary, float* depth) {
  lanes().resolve(mesh, keys, begin, end, stride, face_id, bary, depth);
}
void resolve(const MeshView<double>& mesh, const uint64_t* keys, int64_t begin, int64_t end, int64_t stride,
             int32_t* face_id, double* bary, double* depth) {
  resolve_pixels(mesh, keys, begin, end, stride, face_id, bary, depth);
}

// Returns (face_id [N,H,W,K], bary [N,H,W,K,3] or, without want_bary, [N,H,W,K,0], depth [N,H,W,K]).
std::tuple<Tensor, Tensor, Tensor> rasterize_cpu(const Tensor& clip_, const Tensor& faces_, int64_t height,
                                                 int64_t width, int64_t cull, int64_t layers, bool want_bary) {
  const Tensor clip = as_contiguous(clip_), faces = as_contiguous(faces_);
  check_same_device(clip, faces);
  check_mesh(clip, 4, faces), check_size(height, width, layers);
  const int64_t batch = clip.size(0), num_vertices = clip.size(1), num_faces = faces.size(0), pixels = height * width;
  Tensor face_id = empty(clip, {batch, height, width, layers}, ScalarType::Int);
  Tensor bary = empty(clip, {batch, height, width, layers, want_bary ? 3 : 0}, clip.scalar_type());
  Tensor depth = empty(clip, {batch, height, width, layers}, clip.scalar_type());
  std::atomic<uint32_t> largest{0};
  dispatch_geometry(clip.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    struct Scratch {
      ScreenVertices<T> screen;
      std::unique_ptr<uint64_t[]> keys;
    };
    const auto make = [&] {
      return Scratch{ScreenVertices<T>(num_vertices),
                     std::unique_ptr<uint64_t[]>(new uint64_t[size_t(pixels) * (layers > 1 ? 2 : 1)])};
    };
    for_images(batch, make, [&](int64_t n, bool split, const Scratch& scratch) {
      const MeshView<T> mesh{data<T>(clip) + n * num_vertices * 4,
                             data<int32_t>(faces),
                             num_vertices,
                             num_faces,
                             int32_t(height),
                             int32_t(width),
                             cull};
      for (int64_t k = 0; k < layers; ++k) {
        uint64_t* keys = scratch.keys.get() + (k % 2) * pixels;
        const uint32_t index =
            find_visible(mesh, scratch.screen, k ? scratch.keys.get() + ((k + 1) % 2) * pixels : nullptr, keys, split);
        if (int64_t(index) >= num_vertices) largest = index;
        for_chunks(pixels, 8192, split, [&](int64_t begin, int64_t end) {
          const int64_t o = n * pixels * layers + k;
          resolve(mesh, keys, begin, end, layers, mutable_data<int32_t>(face_id) + o,
                  want_bary ? mutable_data<T>(bary) + 3 * o : nullptr, mutable_data<T>(depth) + o);
        });
      }
    });
  });
  check_face_index(largest, num_faces, num_vertices);
  return {face_id, bary, depth};
}

// d loss / d clip [N,V,4], given those of bary [N,H,W,K,3] and depth [N,H,W,K], of which one may be missing.
Tensor rasterize_backward_cpu(const std::optional<Tensor>& grad_bary_, const std::optional<Tensor>& grad_depth_,
                              const Tensor& clip_, const Tensor& faces_, const Tensor& face_id_, bool) {
  const Tensor clip = as_contiguous(clip_), faces = as_contiguous(faces_), face_id = as_contiguous(face_id_);
  check_mesh(clip, 4, faces), check_ids(face_id),
      check(face_id.dim() == 4, "facerender: rasterize_backward takes face ids [N,H,W,K]");
  check_same_device(clip, faces, face_id);
  const int64_t batch = clip.size(0), num_vertices = clip.size(1), num_faces = faces.size(0), height = face_id.size(1),
                width = face_id.size(2);
  const int64_t layers = face_id.size(3), pixels = height * width;
  const Tensor grad_bary = grad_bary_ ? as_contiguous(*grad_bary_) : clip,
               grad_depth = grad_depth_ ? as_contiguous(*grad_depth_) : clip;
  check(face_id.size(0) == batch && (!grad_bary_ || grad_bary.numel() == face_id.numel() * 3) &&
            (!grad_depth_ || grad_depth.numel() == face_id.numel()) && grad_bary.scalar_type() == clip.scalar_type() &&
            grad_depth.scalar_type() == clip.scalar_type(),
        "facerender: rasterize_backward got shapes that do not fit");
  Tensor out = empty(clip, {batch, num_vertices, 4}, clip.scalar_type());
  dispatch_geometry(clip.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const VertexWorkload workload{data<int32_t>(face_id), data<int32_t>(faces), pixels * layers, num_faces,
                                  num_vertices};
    for_vertices(batch, false, workload, [&](int64_t n, int64_t, int64_t v0, int64_t v1) {
      const T* positions = data<T>(clip) + n * num_vertices * 4;
      T* total = mutable_data<T>(out) + n * num_vertices * 4;
      clear(total, 4, v0, v1);
      const auto in_range = [&](int32_t v) { return v >= v0 && v < v1; };
      for (int64_t row = 0; row < height; ++row) {
        const int64_t first = (n * height + row) * width * layers;
        const int32_t* ids = data<int32_t>(face_id) + first;
        const T* row_grad_bary = grad_bary_ ? data<T>(grad_bary) + 3 * first : nullptr;
        const T* row_grad_depth = grad_depth_ ? data<T>(grad_depth) + first : nullptr;
        int64_t i = 0;
        if constexpr (std::is_same_v<T, float>) {
          if (layers == 1)
            i = lanes().rasterize_row_backward(positions, data<int32_t>(faces), int32_t(height), int32_t(width), row,
                                               ids, row_grad_bary, row_grad_depth, {num_faces, num_vertices, v0, v1},
                                               total);
        }
        for (; i < width * layers; ++i) {
          Corners f;
          if (!visible_corners(data<int32_t>(faces), ids[i], num_faces, num_vertices, f)) continue;
          if (!in_range(f.v[0]) && !in_range(f.v[1]) && !in_range(f.v[2])) continue;
          Vec4<T> grad[3];
          fragment_backward(positions, f.v, int32_t(row), int32_t(i / layers), int32_t(height), int32_t(width),
                            row_grad_bary ? load3<T>(row_grad_bary + 3 * i) : Vec3<T>{T(0), T(0), T(0)},
                            row_grad_depth ? row_grad_depth[i] : T(0), grad);
          for (int c = 0; c < 3; ++c) {
            if (!in_range(f.v[c])) continue;
            T* o = total + int64_t(f.v[c]) * 4;
            o[0] += grad[c].x, o[1] += grad[c].y, o[2] += grad[c].z, o[3] += grad[c].w;
          }
        }
      }
    });
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facerender, CPU, m) {
  m.impl("rasterize", TORCH_BOX(&rasterize_cpu));
  m.impl("rasterize_backward", TORCH_BOX(&rasterize_backward_cpu));
}

}  // namespace facerender
