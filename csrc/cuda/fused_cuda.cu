#include "../fused.h"
#include "../inputs.h"

#include "light.cuh"
#include "visibility.cuh"

namespace facerender {
namespace {

// The views of all images: that of image n is this one, moved by n strides.
template <class T, class A>
struct BatchView {
  FaceView<T, A> first;
  const T* coefficients;
  int64_t batch, num_faces, normals_stride, albedo_stride, background_stride, light_stride;

  explicit BatchView(const RenderInputs& in)
      : first{data<T>(in.clip), in.lit ? data<A>(in.normals) : nullptr, data<A>(in.albedo), data<int32_t>(in.faces),
              in.has_background ? data<A>(in.background) : nullptr, in.background.numel() == 3 ? 0 : 3, in.num_vertices, int32_t(in.height), int32_t(in.width)},
        coefficients(in.lit ? data<T>(in.coefficients) : nullptr), batch(in.batch), num_faces(in.num_faces), normals_stride(batch_stride(in.normals, in.batch)),
        albedo_stride(batch_stride(in.albedo, in.batch)), background_stride(in.background.numel() == 3 ? 0 : batch_stride(in.background, in.batch)),
        light_stride(batch_stride(in.coefficients, in.batch)) {}
  __device__ FaceView<T, A> image(int64_t n) const {
    FaceView<T, A> view = first;
    view.clip += n * view.num_vertices * 4, view.albedo += n * albedo_stride;
    if (view.normals) view.normals += n * normals_stride;
    if (view.background) view.background += n * background_stride;
    return view;
  }
};

template <class T, class A>
__global__ void __launch_bounds__(kBlock) shade(BatchView<T, A> all, const __grid_constant__ ShPreset preset, const uint64_t* keys, A* out, int32_t* face_id) {
  __shared__ ShLight<T> light;
  const int64_t pixels = int64_t(all.first.height) * all.first.width, i = item();
  for (int64_t n = blockIdx.y; n < all.batch; n += gridDim.y) {
    if (all.coefficients) load_light(all.coefficients + n * all.light_stride, preset, light);
    if (i >= pixels) continue;
    const int64_t at = n * pixels + i;
    const int32_t face = key_face(keys[at]);
    const Vec3<T> c = face_pixel(all.image(n), light, face, int32_t(i / all.first.width), int32_t(i % all.first.width));
    out[3 * at] = A(c.x), out[3 * at + 1] = A(c.y), out[3 * at + 2] = A(c.z);
    face_id[at] = face;
  }
}

std::tuple<Tensor, Tensor> render_face_cuda(const Tensor& clip, const std::optional<Tensor>& normals, const Tensor& albedo,
                                            const std::optional<Tensor>& coefficients, const Tensor& faces, const std::optional<Tensor>& background,
                                            int64_t height, int64_t width, int64_t cull, int64_t preset) {
  const RenderInputs in(clip, normals, albedo, coefficients, faces, background, height, width);
  const Device device(in.clip);
  Tensor image = empty(in.clip, {in.batch, height, width, 3}, in.albedo.scalar_type());
  Tensor face_id = empty(in.clip, {in.batch, height, width}, ScalarType::Int);
  if (face_id.numel() == 0) return {image, face_id};
  Tensor keys = empty(in.clip, {in.batch, height, width}, ScalarType::Long);
  dispatch_attribute(in.clip.scalar_type(), in.albedo.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    const BatchMesh<T> mesh{data<T>(in.clip), data<int32_t>(in.faces), in.batch, in.num_vertices, in.num_faces, int32_t(height), int32_t(width), cull};
    uint64_t* seen = static_cast<uint64_t*>(keys.mutable_data_ptr());
    find_visible(device, in.clip, mesh, static_cast<const uint64_t*>(nullptr), seen);
    LAUNCH((shade<T, A>), grid_of(height * width, in.batch), kBlock, device.stream, (BatchView<T, A>(in)), sh_preset(preset), seen, mutable_data<A>(image), mutable_data<int32_t>(face_id));
    device.launched();
  });
  return {image, face_id};
}

template <class T, Mode mode>
struct SumSink {
  VertexSums<T> clip_sums, normal_sums, albedo_sums;
  __device__ void clip(int32_t v, Vec4<T> g) const { add4<T, mode>(clip_sums, v, g); }
  __device__ void normal(int32_t v, Vec3<T> g) const { add3<T, mode>(normal_sums, v, g); }
  __device__ void albedo(int32_t v, Vec3<T> g) const { add3<T, mode>(albedo_sums, v, g); }
};

template <class T, class A, Mode mode>
__global__ void __launch_bounds__(kBlock)
    shade_backward(BatchView<T, A> all, const __grid_constant__ ShPreset preset, FaceWants wants, const A* grad, const int32_t* face_id, SumSink<T, mode> sums, T* partial) {
  __shared__ ShLight<T> light;
  const int64_t pixels = int64_t(all.first.height) * all.first.width, i = item(), V = all.first.num_vertices;
  for (int64_t n = blockIdx.y; n < all.batch; n += gridDim.y) {
    if (all.coefficients) load_light(all.coefficients + n * all.light_stride, preset, light);
    T light_gradient[27] = {};
    Corners f;
    if (i < pixels && seen_corners(all.first.faces, face_id[n * pixels + i], all.num_faces, V, f)) {
      SumSink<T, mode> sink = sums;
      sink.clip_sums.values += n * V * 4, sink.clip_sums.fixed += n * V * 4;
      sink.normal_sums.values += n * all.normals_stride, sink.normal_sums.fixed += n * all.normals_stride;
      sink.albedo_sums.values += n * all.albedo_stride, sink.albedo_sums.fixed += n * all.albedo_stride;
      face_pixel_backward(all.image(n), light, wants, f.v, int32_t(i / all.first.width), int32_t(i % all.first.width), load3<T>(grad + (n * pixels + i) * 3), sink,
                          light_gradient);
    }
    if (partial) block_sum27(light_gradient, partial + (n * gridDim.x + blockIdx.x) * 27);
  }
}

std::tuple<Tensor, Tensor, Tensor, Tensor> render_face_backward_cuda(const Tensor& grad_, const Tensor& clip, const std::optional<Tensor>& normals,
                                                                     const Tensor& albedo, const std::optional<Tensor>& coefficients, const Tensor& faces,
                                                                     const Tensor& face_id_, int64_t preset, bool want_clip, bool want_normals,
                                                                     bool want_albedo, bool want_coefficients, bool deterministic) {
  const Tensor grad = as_contiguous(grad_), face_id = as_contiguous(face_id_);
  check_ids(face_id);
  const RenderInputs in(clip, normals, albedo, coefficients, faces, std::nullopt, face_id.size(1), face_id.size(2));
  check_same_device(in.clip, grad, face_id);
  check(face_id.size(0) == in.batch && grad.numel() == face_id.numel() * 3 && grad.scalar_type() == in.albedo.scalar_type(),
        "facerender: render_face_backward got a gradient that does not fit");
  const Device device(in.clip);
  const auto dtype = in.clip.scalar_type();
  const FaceWants wants{want_clip, want_normals && in.lit, want_albedo, want_coefficients && in.lit};
  using Sizes = std::vector<int64_t>;
  Tensor grad_clip, grad_normals, grad_albedo;
  Tensor grad_coefficients = zeros(in.clip, wants.light ? Sizes{in.coefficients.size(0), 9, 3} : Sizes{0}, dtype);
  dispatch_attribute(dtype, in.albedo.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    const GradientBuffer<T> clip_out(in.clip, {in.batch, in.num_vertices, 4}, dtype, wants.clip, deterministic, face_id.numel() * 3);
    const GradientBuffer<T> normals_out(in.clip, {in.normals.size(0), in.num_vertices, 3}, dtype, wants.normals, deterministic, face_id.numel() * 3);
    const GradientBuffer<T> albedo_out(in.clip, {in.albedo.size(0), in.num_vertices, 3}, dtype, wants.albedo, deterministic, face_id.numel() * 3);
    if (face_id.numel()) {
      const dim3 grid = grid_of(in.height * in.width, in.batch);
      Tensor partial = empty(in.clip, wants.light ? Sizes{in.batch, int64_t(grid.x), 27} : Sizes{0}, dtype);
      const ShPreset p = sh_preset(preset);
      accumulate(deterministic && (wants.clip || wants.normals || wants.albedo), [&](auto tag) {
        constexpr Mode mode = decltype(tag)::mode;
        LAUNCH((shade_backward<T, A, mode>), grid, kBlock, device.stream, (BatchView<T, A>(in)), p, wants, data<A>(grad), data<int32_t>(face_id),
               (SumSink<T, mode>{clip_out.sums(), normals_out.sums(), albedo_out.sums()}), wants.light ? mutable_data<T>(partial) : nullptr);
        device.launched();
      });
      if (wants.light) {
        LAUNCH((sum_light_gradients<T>), unsigned(in.coefficients.size(0)), kWarp, device.stream, data<T>(partial), in.batch, int64_t(grid.x),
               in.batch > 0 && in.coefficients.size(0) == 1, p, mutable_data<T>(grad_coefficients));
        device.launched();
      }
      clip_out.finish(device), normals_out.finish(device), albedo_out.finish(device);
    }
    grad_clip = clip_out.values, grad_normals = normals_out.values, grad_albedo = albedo_out.values;
  });
  return {grad_clip, grad_normals, grad_albedo, grad_coefficients};
}

}  // namespace

CUDA_LIBRARY(m) {
  m.impl("render_face", TORCH_BOX(&render_face_cuda));
  m.impl("render_face_backward", TORCH_BOX(&render_face_backward_cuda));
}

}  // namespace facerender
