// render_face on the CPU, and its gradients: float32 by the SIMD kernels of lanes/, other types and the rest of a row
// one pixel at a time. The mathematics of a pixel is in ../fused.h.
#include "../fused.h"

#include "../inputs.h"
#include "face_indices.h"
#include "parallel.h"
#include "vertex_ranges.h"
#include "visibility_cpu.h"

namespace facerender {
namespace {

constexpr int64_t kRows = 16;  // rows per band; the light gradients of a band are summed first, then the bands in order

struct Inputs : RenderInputs {
  using RenderInputs::RenderInputs;

  template <class T, class A>
  FaceView<T, A> view(int64_t n) const {
    const bool one_color = background.numel() == 3;
    return {data<T>(clip) + n * num_vertices * 4,
            lit ? data<A>(normals) + n * batch_stride(normals, batch) : nullptr,
            data<A>(albedo) + n * batch_stride(albedo, batch),
            data<int32_t>(faces),
            has_background ? data<A>(background) + (one_color ? 0 : n * batch_stride(background, batch)) : nullptr,
            one_color ? 0 : 3,
            num_vertices,
            int32_t(height),
            int32_t(width)};
  }
  template <class T>
  ShLight<T> light(int64_t n, const ShPreset& preset) const {
    return lit ? sh_light(data<T>(coefficients) + n * batch_stride(coefficients, batch), preset) : ShLight<T>{};
  }
};

// Returns (image [N,H,W,3], face_id [N,H,W]).
std::tuple<Tensor, Tensor> render_face_cpu(const Tensor& clip, const std::optional<Tensor>& normals,
                                           const Tensor& albedo, const std::optional<Tensor>& coefficients,
                                           const Tensor& faces, const std::optional<Tensor>& background, int64_t height,
                                           int64_t width, int64_t cull, int64_t preset) {
  const Inputs in(clip, normals, albedo, coefficients, faces, background, height, width);
  const int64_t pixels = height * width;
  std::atomic<uint32_t> largest{0};
  Tensor image = empty(in.clip, {in.batch, height, width, 3}, in.albedo.scalar_type());
  Tensor face_id = empty(in.clip, {in.batch, height, width}, ScalarType::Int);
  dispatch_attribute(in.clip.scalar_type(), in.albedo.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    const ShPreset p = sh_preset(preset);
    struct Scratch {
      ScreenVertices<T> screen;
      std::unique_ptr<uint64_t[]> keys;
    };
    const auto make = [&] {
      return Scratch{ScreenVertices<T>(in.num_vertices),
                     std::unique_ptr<uint64_t[]>(new uint64_t[static_cast<size_t>(pixels)])};
    };
    for_images(in.batch, make, [&](int64_t n, bool split, const Scratch& scratch) {
      const FaceView<T, A> view = in.view<T, A>(n);
      const MeshView<T> mesh{view.clip, view.faces, in.num_vertices, in.num_faces, view.height, view.width, cull};
      const ShLight<T> light = in.light<T>(n, p);
      const uint64_t* keys = scratch.keys.get();
      const uint32_t index =
          find_visible(mesh, scratch.screen, static_cast<const uint64_t*>(nullptr), scratch.keys.get(), split);
      if (int64_t(index) >= in.num_vertices) largest = index;
      A* out = mutable_data<A>(image) + n * pixels * 3;
      int32_t* ids = mutable_data<int32_t>(face_id) + n * pixels;
      for_chunks(height, 16, split, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          int64_t col = 0;
          if constexpr (std::is_same_v<A, float>)
            col = lanes().render_row(view.clip, view.normals, view.albedo, view.faces, view.background,
                                     view.background_step, view.height, view.width, in.num_vertices, light.k[0], keys,
                                     row, out, ids);
          for (; col < width; ++col) {
            const int64_t i = row * width + col;
            ids[i] = key_face(keys[i]);
            const Vec3<T> c = pixel_color(view, light, ids[i], int32_t(row), int32_t(col));
            out[3 * i] = A(c.x), out[3 * i + 1] = A(c.y), out[3 * i + 2] = A(c.z);
          }
        }
      });
    });
  });
  check_face_index(largest, in.num_faces, in.num_vertices);
  return {image, face_id};
}

// The sink of covered_pixel_backward: adds to the vertices [v0, v1); arrays that are not wanted are null.
template <class T>
struct RangeSink {
  T *clip_out = nullptr, *normals_out = nullptr, *albedo_out = nullptr;
  int64_t v0 = 0, v1 = 0;
  bool in_range(int32_t v) const { return v >= v0 && v < v1; }
  void clip(int, int32_t v, Vec4<T> g) const {
    if (!in_range(v)) return;
    T* o = clip_out + int64_t(v) * 4;
    o[0] += g.x, o[1] += g.y, o[3] += g.w;
  }
  void add3(T* out, int32_t v, Vec3<T> g) const {
    if (!in_range(v)) return;
    T* o = out + int64_t(v) * 3;
    o[0] += g.x, o[1] += g.y, o[2] += g.z;
  }
  void normal(int, int32_t v, Vec3<T> g) const { add3(normals_out, v, g); }
  void albedo(int, int32_t v, Vec3<T> g) const { add3(albedo_out, v, g); }
};

// Returns (d clip [N,V,4], d normals [N or 1,V,3], d albedo [N or 1,V,3], d coefficients [N or 1,9,3]) in the
// geometry's dtype; those that are not wanted are empty.
std::tuple<Tensor, Tensor, Tensor, Tensor> render_face_backward_cpu(
    const Tensor& grad_, const Tensor& clip, const std::optional<Tensor>& normals, const Tensor& albedo,
    const std::optional<Tensor>& coefficients, const Tensor& faces, const Tensor& face_id_, int64_t preset,
    bool want_clip, bool want_normals, bool want_albedo, bool want_coefficients, bool) {
  const Tensor grad = as_contiguous(grad_), face_id = as_contiguous(face_id_);
  check_ids(face_id);
  const Inputs in(clip, normals, albedo, coefficients, faces, std::nullopt, face_id.size(1), face_id.size(2));
  const int64_t pixels = in.height * in.width, V = in.num_vertices;
  check_same_device(in.clip, grad, face_id);
  check(face_id.size(0) == in.batch && grad.numel() == in.batch * pixels * 3 &&
            grad.scalar_type() == in.albedo.scalar_type(),
        "facerender: render_face_backward got a gradient that does not fit");
  const auto dtype = in.clip.scalar_type();
  const WantedGradients wants{want_clip, want_normals && in.lit, want_albedo, want_coefficients && in.lit};
  Tensor grad_clip = wants.clip ? empty_for(in.batch, in.clip, {in.batch, V, 4}, dtype) : empty(in.clip, {0}, dtype);
  Tensor grad_normals =
      wants.normals ? empty_for(in.batch, in.clip, {in.normals.size(0), V, 3}, dtype) : empty(in.clip, {0}, dtype);
  Tensor grad_albedo =
      wants.albedo ? empty_for(in.batch, in.clip, {in.albedo.size(0), V, 3}, dtype) : empty(in.clip, {0}, dtype);
  Tensor grad_coefficients =
      wants.light ? zeros(in.clip, {in.coefficients.size(0), 9, 3}, dtype) : empty(in.clip, {0}, dtype);
  const bool shared =
      in.batch > 1 && ((wants.normals && in.normals.size(0) == 1) || (wants.albedo && in.albedo.size(0) == 1));
  const bool ranges = shared || split_images(in.batch);
  const int64_t bands = (in.height + kRows - 1) / kRows;
  dispatch_attribute(dtype, in.albedo.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    const ShPreset p = sh_preset(preset);
    std::vector<T> partial(wants.light ? size_t(in.batch * bands * 27) : 0, T(0));
    const auto for_band = [&](int64_t n, int64_t band, const WantedGradients& band_wants, T* light_gradient,
                              const RangeSink<T>& sink) {
      const FaceView<T, A> view = in.view<T, A>(n);
      const ShLight<T> light = in.light<T>(n, p);
      for (int64_t row = band * kRows; row < std::min(in.height, (band + 1) * kRows); ++row) {
        const int64_t first = n * pixels + row * in.width;
        const int32_t* ids = data<int32_t>(face_id) + first;
        const A* g = data<A>(grad) + 3 * first;
        int64_t col = 0;
        if constexpr (std::is_same_v<A, float>)
          col = lanes().render_row_backward(
              view.clip, view.normals, view.albedo, view.faces, view.height, view.width, light.k[0], row, ids, g,
              {in.num_faces, V, sink.v0, sink.v1}, band_wants.clip ? sink.clip_out : nullptr,
              band_wants.normals ? sink.normals_out : nullptr, band_wants.albedo ? sink.albedo_out : nullptr,
              band_wants.light ? light_gradient : nullptr);
        for (; col < in.width; ++col) {
          Corners f;
          if (!visible_corners(view.faces, ids[col], in.num_faces, V, f)) continue;
          if (!band_wants.light && !(sink.in_range(f.v[0]) || sink.in_range(f.v[1]) || sink.in_range(f.v[2]))) continue;
          covered_pixel_backward(view, light, band_wants, f.v, int32_t(row), int32_t(col), load3<T>(g + 3 * col), sink,
                                 [&](const Vec3<T>& normal, const Vec3<T>& grad_shading) {
                                   if (band_wants.light) sh_light_gradient(normal, grad_shading, light_gradient);
                                 });
        }
      }
    };
    if (wants.light && ranges) {  // every vertex range visits all pixels, so the light is summed separately
      for_range(in.batch * bands, 1, true, [&](int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; ++k)
          for_band(k / bands, k % bands, WantedGradients{false, false, false, true}, partial.data() + k * 27,
                   RangeSink<T>{});
      });
    }
    const VertexWorkload workload{data<int32_t>(face_id), data<int32_t>(in.faces), pixels, in.num_faces, V};
    for_vertices(in.batch, shared, workload, [&](int64_t n0, int64_t n1, int64_t v0, int64_t v1) {
      // An array that all images share is cleared once, with the first image.
      for (int64_t n = n0; n < n1; ++n) {
        const RangeSink<T> sink{
            wants.clip ? mutable_data<T>(grad_clip) + n * V * 4 : nullptr,
            wants.normals ? mutable_data<T>(grad_normals) + n * batch_stride(in.normals, in.batch) : nullptr,
            wants.albedo ? mutable_data<T>(grad_albedo) + n * batch_stride(in.albedo, in.batch) : nullptr, v0, v1};
        clear(sink.clip_out, 4, v0, v1);
        if (n == n0 || in.normals.size(0) > 1) clear(sink.normals_out, 3, v0, v1);
        if (n == n0 || in.albedo.size(0) > 1) clear(sink.albedo_out, 3, v0, v1);
        WantedGradients band_wants = wants;
        band_wants.light = wants.light && !ranges;
        for (int64_t band = 0; band < bands; ++band)
          for_band(n, band, band_wants, band_wants.light ? partial.data() + (n * bands + band) * 27 : nullptr, sink);
      }
    });
    if (wants.light)
      add_light_gradients(partial.data(), in.batch, bands, batch_stride(in.coefficients, in.batch), p,
                          mutable_data<T>(grad_coefficients));
  });
  return {grad_clip, grad_normals, grad_albedo, grad_coefficients};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(facerender, CPU, m) {
  m.impl("render_face", TORCH_BOX(&render_face_cpu));
  m.impl("render_face_backward", TORCH_BOX(&render_face_backward_cpu));
}

}  // namespace facerender
