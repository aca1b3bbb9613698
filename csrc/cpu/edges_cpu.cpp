// edge_gradients on the CPU. The mathematics is in ../edges.h.
#include "../edges.h"

#include "../tensors.h"
#include "parallel.h"

namespace facerender {
namespace {

constexpr int64_t kRows = 16;  // rows per band; bands run in parallel, and their gradients are added in order

// d loss / d clip [N,V,4] through the outlines in image [N,H,W,C].
Tensor edge_gradients_backward_cpu(const Tensor& grad_, const Tensor& image_, const Tensor& clip_, const Tensor& faces_,
                                   const Tensor& neighbors_, const Tensor& face_id_, bool) {
  const Tensor grad = as_contiguous(grad_), image = as_contiguous(image_), clip = as_contiguous(clip_),
               faces = as_contiguous(faces_), neighbors = as_contiguous(neighbors_), face_id = as_contiguous(face_id_);
  check_same_device(grad, image, clip, faces, neighbors, face_id);
  check_mesh(clip, 4, faces), check_faces(neighbors), check_ids(face_id);
  check(image.dim() == 4, "facerender: edge_gradients takes an image [N,H,W,C]");
  const int64_t batch = clip.size(0), num_vertices = clip.size(1), num_faces = faces.size(0), height = face_id.size(1),
                width = face_id.size(2);
  const int64_t channels = image.size(3), pixels = height * width;
  check(face_id.size(0) == batch && image.numel() == batch * pixels * channels && grad.numel() == image.numel() &&
            neighbors.numel() == faces.numel() && grad.scalar_type() == clip.scalar_type(),
        "facerender: edge_gradients got shapes that do not fit");
  Tensor out = zeros(clip, {batch, num_vertices, 4}, clip.scalar_type());
  dispatch_attribute(clip.scalar_type(), image.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    struct Found {
      int32_t vertex;
      Vec4<T> gradient;
    };
    for_images(batch, [&](int64_t n, bool split) {
      const SurfaceView<T> s{data<T>(clip) + n * num_vertices * 4,
                             data<int32_t>(faces),
                             data<int32_t>(neighbors),
                             num_vertices,
                             num_faces,
                             int32_t(height),
                             int32_t(width)};
      const int32_t* ids = data<int32_t>(face_id) + n * pixels;
      const A* colors = data<A>(image) + n * pixels * channels;
      const T* g = data<T>(grad) + n * pixels * channels;
      const int64_t bands = (height + kRows - 1) / kRows;
      std::vector<std::vector<Found>> found(static_cast<size_t>(bands));
      for_range(bands, 1, split, [&](int64_t begin, int64_t end) {
        for (int64_t band = begin; band < end; ++band)
          for (int64_t row = band * kRows; row < std::min(height, (band + 1) * kRows); ++row)
            for (int64_t col = 0; col < width; ++col)
              for (const bool vertical : {false, true}) {
                if (vertical ? row + 1 == height : col + 1 == width) continue;
                Outline<T> o;
                const T change =
                    outline_motion_gradient(s, ids, colors, g, channels, int32_t(row), int32_t(col), vertical, o);
                if (change == T(0)) continue;
                found[band].push_back({o.v0, outline_gradient(s, o.v0, change * (T(1) - o.t), vertical)});
                found[band].push_back({o.v1, outline_gradient(s, o.v1, change * o.t, vertical)});
              }
      });
      T* total = mutable_data<T>(out) + n * num_vertices * 4;
      for (const auto& band : found)
        for (const Found& f : band) {
          T* o = total + int64_t(f.vertex) * 4;
          o[0] += f.gradient.x, o[1] += f.gradient.y, o[3] += f.gradient.w;
        }
    });
  });
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facerender, CPU, m) {
  m.impl("edge_gradients_backward", TORCH_BOX(&edge_gradients_backward_cpu));
}

}  // namespace facerender
