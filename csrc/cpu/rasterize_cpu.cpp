#include "lanes/resolve_pixels.h"
#include "visibility_cpu.h"

#include "parallel.h"

namespace facerender {
namespace {

void resolve(const MeshView<float>& mesh, const uint64_t* keys, int64_t begin, int64_t end, int64_t stride, int32_t* face_id, float* bary,
             float* depth) {
  lanes().resolve(mesh, keys, begin, end, stride, face_id, bary, depth);
}
void resolve(const MeshView<double>& mesh, const uint64_t* keys, int64_t begin, int64_t end, int64_t stride, int32_t* face_id, double* bary,
             double* depth) {
  resolve_pixels(mesh, keys, begin, end, stride, face_id, bary, depth);
}

// (face_id [N,H,W,K], bary [N,H,W,K,3], depth [N,H,W,K])
std::tuple<Tensor, Tensor, Tensor> rasterize_cpu(const Tensor& clip_, const Tensor& faces_, int64_t height, int64_t width, int64_t cull, int64_t layers) {
  const Tensor clip = as_contiguous(clip_), faces = as_contiguous(faces_);
  const int64_t batch = clip.size(0), num_vertices = clip.size(1), num_faces = faces.size(0), pixels = height * width;
  check_face_indices(data<int32_t>(faces), num_faces, num_vertices);
  Tensor face_id = empty(clip, {batch, height, width, layers}, ScalarType::Int);
  Tensor bary = empty(clip, {batch, height, width, layers, 3}, clip.scalar_type());
  Tensor depth = empty(clip, {batch, height, width, layers}, clip.scalar_type());
  dispatch_geometry(clip.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    for_images(batch, [&](int64_t n, bool split) {
      const MeshView<T> mesh{data<T>(clip) + n * num_vertices * 4, data<int32_t>(faces), num_vertices, num_faces, int32_t(height), int32_t(width), cull};
      const std::unique_ptr<uint64_t[]> keys(new uint64_t[size_t(pixels) * 2]);
      for (int64_t k = 0; k < layers; ++k) {
        uint64_t* now = keys.get() + (k % 2) * pixels;
        find_visible(mesh, k ? keys.get() + ((k + 1) % 2) * pixels : nullptr, now, split);
        for_range(pixels, 8192, split, [&](int64_t begin, int64_t end) {
          const int64_t o = n * pixels * layers + k;
          resolve(mesh, now, begin, end, layers, mutable_data<int32_t>(face_id) + o, mutable_data<T>(bary) + 3 * o, mutable_data<T>(depth) + o);
        });
      }
    });
  });
  return {face_id, bary, depth};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facerender, CPU, m) {
  m.impl("rasterize", TORCH_BOX(&rasterize_cpu));
}

}  // namespace facerender
