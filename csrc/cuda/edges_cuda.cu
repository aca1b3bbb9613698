// Gradients of silhouettes and occlusion edges on CUDA. The mathematics is in ../edges.h.
#include "../edges.h"
#include "gradient_sums.cuh"

namespace facerender {
namespace {

// One thread for each pair of neighboring pixels: even threads take the pair to the right, odd ones the pair below.
template <class T, class A, SumMode mode>
__global__ void __launch_bounds__(kBlock, 2)
    backward(SurfaceView<T> surface, int64_t batch, const T* grad, const A* image, const int32_t* face_id,
             int64_t channels, VertexSums<T> out) {
  const int64_t pixels = int64_t(surface.height) * surface.width, i = global_thread_id() / 2;
  const bool vertical = global_thread_id() % 2;
  pdl_wait();
  if (i >= pixels) return;
  const int32_t row = int32_t(i / surface.width), col = int32_t(i % surface.width);
  if (vertical ? row + 1 == surface.height : col + 1 == surface.width) return;
  for (int64_t n = blockIdx.y; n < batch; n += gridDim.y) {
    SurfaceView<T> s = surface;
    s.clip += n * s.num_vertices * 4;
    Outline<T> o;
    const T change = outline_motion_gradient(s, face_id + n * pixels, image + n * pixels * channels,
                                             grad + n * pixels * channels, channels, row, col, vertical, o);
    if (change == T(0)) continue;
    VertexSums<T> sums = out;
    sums.values += n * s.num_vertices * 4, sums.fixed += n * s.num_vertices * 4;
    add4<T, mode>(sums, o.v0, outline_gradient(s, o.v0, change * (T(1) - o.t), vertical));
    add4<T, mode>(sums, o.v1, outline_gradient(s, o.v1, change * o.t, vertical));
    publish_max<T, mode>(sums);
  }
}

Tensor edge_gradients_backward_cuda(const Tensor& grad_, const Tensor& image_, const Tensor& clip_,
                                    const Tensor& faces_, const Tensor& neighbors_, const Tensor& face_id_,
                                    bool deterministic) {
  const Tensor grad = as_contiguous(grad_), image = as_contiguous(image_), clip = aligned(clip_),
               faces = as_contiguous(faces_), neighbors = as_contiguous(neighbors_), face_id = as_contiguous(face_id_);
  check_same_device(grad, image, clip, faces, neighbors, face_id);
  check_mesh(clip, 4, faces), check_faces(neighbors), check_ids(face_id);
  check(image.dim() == 4, "facerender: edge_gradients takes an image [N,H,W,C]");
  const int64_t batch = clip.size(0), height = face_id.size(1), width = face_id.size(2), channels = image.size(3);
  check(face_id.size(0) == batch && image.numel() == face_id.numel() * channels && grad.numel() == image.numel() &&
            neighbors.numel() == faces.numel() && grad.scalar_type() == clip.scalar_type(),
        "facerender: edge_gradients got shapes that do not fit");
  const Device device(clip);
  Tensor result;
  dispatch_attribute(clip.scalar_type(), image.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    FillList fills;
    const GradientBuffer<T> out(fills, clip, {batch, clip.size(1), 4}, clip.scalar_type(), true, deterministic,
                                face_id.numel() * 4);
    launch_fill<0>(device, fills);
    const SurfaceView<T> surface{data<T>(clip), data<int32_t>(faces), data<int32_t>(neighbors),
                                 clip.size(1),  faces.size(0),        int32_t(height),
                                 int32_t(width)};
    if (face_id.numel()) {
      accumulate(deterministic, [&](auto tag) {
        LAUNCH_PDL((backward<T, A, decltype(tag)::mode>), grid_for(height * width * 2, batch), kBlock, device, surface,
                   batch, data<T>(grad), data<A>(image), data<int32_t>(face_id), channels, out.sums());
        device.launched();
      });
      out.finish(device);
    }
    result = out.values;
  });
  return result;
}

}  // namespace

CUDA_LIBRARY(m) { m.impl("edge_gradients_backward", TORCH_BOX(&edge_gradients_backward_cuda)); }

}  // namespace facerender
