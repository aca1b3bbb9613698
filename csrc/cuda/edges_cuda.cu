#include "../edges.h"
#include "launch.h"

namespace facerender {
namespace {

// One thread for each pair of neighbouring pixels: even threads look right, odd ones down.
template <class T, class A, Mode mode>
__global__ void __launch_bounds__(kBlock, 2) backward(SurfaceView<T> surface, int64_t batch, const T* grad, const A* image, const int32_t* face_id, int64_t channels, VertexSums<T> out) {
  const int64_t pixels = int64_t(surface.height) * surface.width, i = item() / 2;
  const bool vertical = item() % 2;
  wait_for_previous();
  if (i >= pixels) return;
  const int32_t row = int32_t(i / surface.width), col = int32_t(i % surface.width);
  if (vertical ? row + 1 == surface.height : col + 1 == surface.width) return;
  for (int64_t n = blockIdx.y; n < batch; n += gridDim.y) {
    SurfaceView<T> s = surface;
    s.clip += n * s.num_vertices * 4;
    Outline<T> o;
    const T change = outline_change(s, face_id + n * pixels, image + n * pixels * channels, grad + n * pixels * channels, channels, row, col, vertical, o);
    if (change == T(0)) continue;
    VertexSums<T> sums = out;
    sums.values += n * s.num_vertices * 4, sums.fixed += n * s.num_vertices * 4;
    add4<T, mode>(sums, o.v0, outline_gradient(s, o.v0, change * (T(1) - o.t), vertical));
    add4<T, mode>(sums, o.v1, outline_gradient(s, o.v1, change * o.t, vertical));
    measured_by_thread<T, mode>(sums);
  }
}

Tensor edge_gradients_backward_cuda(const Tensor& grad_, const Tensor& image_, const Tensor& clip_, const Tensor& faces_, const Tensor& neighbours_,
                                    const Tensor& face_id_, bool deterministic) {
  const Tensor grad = as_contiguous(grad_), image = as_contiguous(image_), clip = aligned(clip_), faces = as_contiguous(faces_),
               neighbours = as_contiguous(neighbours_), face_id = as_contiguous(face_id_);
  check_same_device(grad, image, clip, faces, neighbours, face_id);
  check_mesh(clip, 4, faces), check_faces(neighbours), check_ids(face_id);
  check(image.dim() == 4, "facerender: edge_gradients takes an image [N,H,W,C]");
  const int64_t batch = clip.size(0), height = face_id.size(1), width = face_id.size(2), channels = image.size(3);
  check(face_id.size(0) == batch && image.numel() == face_id.numel() * channels && grad.numel() == image.numel() && neighbours.numel() == faces.numel() &&
            grad.scalar_type() == clip.scalar_type(),
        "facerender: edge_gradients got shapes that do not fit");
  const Device device(clip);
  Tensor result;
  dispatch_attribute(clip.scalar_type(), image.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    Fills fills;
    const GradientBuffer<T> out(fills, clip, {batch, clip.size(1), 4}, clip.scalar_type(), true, deterministic, face_id.numel() * 4);
    launch_fill<0>(device, fills);
    const SurfaceView<T> surface{data<T>(clip), data<int32_t>(faces), data<int32_t>(neighbours), clip.size(1), faces.size(0), int32_t(height), int32_t(width)};
    if (face_id.numel()) {
      accumulate(deterministic, [&](auto tag) {
        LAUNCH_AFTER((backward<T, A, decltype(tag)::mode>), grid_of(height * width * 2, batch), kBlock, device, surface, batch, data<T>(grad), data<A>(image),
               data<int32_t>(face_id), channels, out.sums());
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
