#include "../fused.h"
#include "../inputs.h"

#include "light.cuh"
#include "strips.cuh"
#include "visibility.cuh"
#include "warp_sums.cuh"

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
  BatchView part(int64_t n, int64_t images) const {
    BatchView view = *this;
    view.first = image(n), view.batch = images;
    if (view.coefficients) view.coefficients += n * light_stride;
    return view;
  }
  HD FaceView<T, A> image(int64_t n) const {
    FaceView<T, A> view = first;
    view.clip += n * view.num_vertices * 4, view.albedo += n * albedo_stride;
    if (view.normals) view.normals += n * normals_stride;
    if (view.background) view.background += n * background_stride;
    return view;
  }
};

template <class T, class A, int kTiles>
__global__ void __launch_bounds__(kStripBlock, sizeof(T) == 4 ? 8 : 4) shade(BatchView<T, A> all, const __grid_constant__ ShPreset preset, const uint64_t* keys, A* out, int32_t* face_id, bool rows) {
  using Pixels = Strip<kTiles>;
  struct alignas(16) Memory {
    A colours[4][kStripPitch<kTiles, 3, sizeof(A)>];
    int32_t ids[4][kStripPitch<kTiles, 1, 4>];
    ShLight<T> light;
  };
  __shared__ Memory memories[kStripWarps];
  Memory& memory = memories[threadIdx.x / kWarp];
  const Pixels strip(all.first.height, all.first.width);
  const int64_t n = blockIdx.z, first = strip.before(blockIdx.z);
  keys = in_global(kept(keys + first)), face_id = in_global(kept(face_id + first)), out = in_global(kept(out + first * 3));
  const T number = all.coefficients && strip.lane < 27 ? all.coefficients[n * all.light_stride + strip.lane] : T(0);
  wait_for_previous();
  int32_t id[kTiles];
  const bool seen = strip.sees(keys, id), colourful = seen || all.first.background;
  if (colourful) {
    UNROLL
    for (int j = 0; j < kTiles; ++j) memory.ids[strip.row_of(j)][strip.col_of()] = id[j];
    __syncwarp();
    FaceView<T, A> view = all.image(n);
    view.clip = in_global(kept(view.clip)), view.albedo = in_global(kept(view.albedo)), view.faces = in_global(kept(view.faces));
    const int32_t row = strip.lane / 8, first_col = strip.lane % 8;
    const auto corners = [&](int32_t face) { return face >= 0 ? begin_load3(view.faces, face) : Loading3<int32_t>{0, 0, 0}; };
    int32_t face = kTiles == 1 ? id[0] : memory.ids[row][first_col];
    Loading3<int32_t> f = corners(face);
    if (seen && all.coefficients) put_light_by_warp(number, preset, memory.light);
    const auto go = [&](auto lit) {
      constexpr bool kLit = decltype(lit)::value;
      if constexpr (kLit) view.normals = in_global(kept(view.normals));
      UNROLL_NOT
      for (int32_t begin = 0; begin < Pixels::kWide; begin += 8) {
        const int32_t col = begin + first_col, next = begin + 8 < Pixels::kWide ? memory.ids[row][col + 8] : -1, image_row = strip.row + row, image_col = strip.col + col;
        const Loading3<int32_t> following = corners(next);  // under way while this tile is shaded
        Vec3<T> c{T(0), T(0), T(0)};
        if (face >= 0)
          c = seen_pixel<kLit>(view, memory.light, end_load3<int32_t>(f, view.faces, face), image_row, image_col);
        else if (image_row < strip.height && image_col < strip.width)
          c = background_pixel(view, image_row, image_col);
        A* const to = memory.colours[row] + 3 * col;
        to[0] = A(c.x), to[1] = A(c.y), to[2] = A(c.z);
        face = next, f = following;
      }
    };
    all.first.normals ? go(std::true_type{}) : go(std::false_type{});
    __syncwarp();
  }
  if (rows) {
    strip.template put<1>(face_id, memory.ids, seen, -1);
    strip.template put<3>(out, memory.colours, colourful, A(0.f));
  } else {
    UNROLL_NOT
    for (int j = 0; j < kTiles; ++j)
      if (strip.inside(j)) {
        face_id[strip.pixel(j)] = seen ? memory.ids[strip.row_of(j)][strip.col_of()] : -1;
        for (int c = 0; c < 3; ++c) out[3 * strip.pixel(j) + c] = colourful ? memory.colours[strip.row_of(j)][3 * strip.col_of() + c] : A(0.f);
      }
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
  dispatch_attribute(in.clip.scalar_type(), in.albedo.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    const BatchMesh<T> mesh{data<T>(in.clip), data<int32_t>(in.faces), in.batch, in.num_vertices, in.num_faces, int32_t(height), int32_t(width), cull};
    Search<T> search(device, in.clip, mesh, false);
    search.in_parts([&](const BatchMesh<T>& part, int64_t n) {
      const uint64_t* const keys = search.find(part);
      A* const to = mutable_data<A>(image) + n * height * width * 3;
      by_strips(device, height, width, part.batch, [&](auto tiles, int64_t first, int64_t images) {
        constexpr int kTiles = decltype(tiles)::value;
        A* const here = to + first * height * width * 3;
        int32_t* const ids = mutable_data<int32_t>(face_id) + (n + first) * height * width;
        LAUNCH_AFTER((shade<T, A, kTiles>), grid_of_strips<kTiles>(height, width, images), kStripBlock, device, (BatchView<T, A>(in).part(n + first, images)), sh_preset(preset),
               keys + first * height * width, here, ids, whole_rows(here, width) && whole_rows(ids, width));
      });
      device.launched();
    });
  });
  return {image, face_id};
}

template <class T, Mode mode>
struct SumSink {
  VertexSums<T> clip_sums, normal_sums, albedo_sums;
  __device__ void clip(int, int32_t v, Vec4<T> g) const { add4<T, mode>(clip_sums, v, g); }
  __device__ void normal(int, int32_t v, Vec3<T> g) const { add3<T, mode>(normal_sums, v, g); }
  __device__ void albedo(int, int32_t v, Vec3<T> g) const { add3<T, mode>(albedo_sums, v, g); }
  __device__ SumSink image(int64_t n, int64_t vertices, int64_t normals_stride, int64_t albedo_stride) const {
    SumSink s = *this;
    s.clip_sums.values += n * vertices * 4, s.clip_sums.fixed += n * vertices * 4;
    s.normal_sums.values += n * normals_stride, s.normal_sums.fixed += n * normals_stride;
    s.albedo_sums.values += n * albedo_stride, s.albedo_sums.fixed += n * albedo_stride;
    return s;
  }
};

// Into the warp's sums: three numbers of a vertex for each gradient. That of clip has no z, and goes out as it is, four numbers at once, where the pixels are not summed by faces.
template <int kValues, Mode mode>
struct WarpSink {
  static constexpr int kClip = 0, kAlbedo = 3, kNormals = 6;
  WarpSums<kValues, 3>& sums;
  const VertexSums<float>& clip_sums;
  int32_t place;
  bool clip_waits;
  __device__ void clip(int k, int32_t v, Vec4<float> g) const {
    if (clip_waits)
      put3(k, kClip, {g.x, g.y, g.w});
    else
      add4<float, mode>(clip_sums, v, g);
  }
  __device__ void albedo(int k, int32_t, Vec3<float> g) const { put3(k, kAlbedo, g); }
  __device__ void normal(int k, int32_t, Vec3<float> g) const {
    if constexpr (kValues > kNormals) put3(k, kNormals, g);
  }
  __device__ void put3(int k, int at, Vec3<float> g) const { sums.put(place, k, at, g.x), sums.put(place, k, at + 1, g.y), sums.put(place, k, at + 2, g.z); }
};

// The shared memory of a warp: its light, its vertices' sums, and after them the light's.
template <class T, int kValues>
union WarpMemory {
  WarpSums<kValues, 3> vertices;
  LightProducts<T> light;
};
template <class T>
union WarpMemory<T, 0> {
  LightProducts<T> light;
};

constexpr int kFewFaces = 16;

// Blocks of shade_backward that share a multiprocessor, as far as that takes no spills.
template <class T, class A, Mode mode, int kValues>
constexpr int backward_blocks() {
  if (sizeof(T) == 8) return 4;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if (mode == kAdd) return __CUDA_ARCH__ >= 900 && kValues != 6 && sizeof(A) == 4 ? 12 : 10;
#endif
  return 8;
}

// kValues: room for 6 or 9 numbers of a vertex, which a warp sums in shared memory, or only moves to neighbouring lanes; 0 where every pixel adds its own (float64)
// or nothing is summed but the light.
template <class T, class A, Mode mode, int kValues>
__global__ void __launch_bounds__(kSumBlock, backward_blocks<T, A, mode, kValues>())
    shade_backward(BatchView<T, A> all, const __grid_constant__ ShPreset preset, FaceWants wants, int32_t patches, const A* grad, const int32_t* face_id, SumSink<T, mode> sums, T* partial) {
  constexpr int kWarps = kSumBlock / kWarp;
  if constexpr (kValues == 0 && mode == kAdd && sizeof(T) == 4) wants = {false, false, false, wants.light};
  __shared__ ChannelLight<T> lights[kWarps];
  __shared__ WarpMemory<T, kValues> memories[kWarps];
  __shared__ T light_sums[kWarps][kWarp];
  __shared__ PatchIds ids;
  const int32_t lane = int32_t(threadIdx.x % kWarp), warp = int32_t(threadIdx.x / kWarp);
  const int32_t height = all.first.height, width = all.first.width;
  const int64_t V = all.first.num_vertices, pixels = int64_t(height) * width;
  ChannelLight<T>& light = lights[warp];
  WarpMemory<T, kValues>& memory = memories[warp];
  let_next_start();
  for (int64_t n = blockIdx.z; n < all.batch; n += gridDim.z) {
    const int32_t* const image_ids = face_id + n * pixels;
    const A* const image_grad = grad + n * pixels * 3;
    const PatchPixel first = patch_pixel(height, width, patches, 0);
    uint32_t live = ids.look(patches, image_ids + first.row * width + first.col, kPatchWidth, [&](int k) { return first.row < height && first.col + k * kPatchWidth < width; });
    // What the first patch that sees a face needs; later that of the next one, while the one before it is summed.
    int32_t id = -1;
    Three<int32_t> face;
    Three<A> to_colour;
    const auto load_next = [&] {
      const int k = __ffs(int(live)) - 1;
      const PatchPixel p = patch_pixel(height, width, patches, k);
      id = ids.at(k);
      if (id < 0 || id >= all.num_faces) return void(id = -1);
      face.start(all.first.faces + int64_t(id) * 3), to_colour.start(image_grad + (p.row * width + p.col) * 3);
    };
    if (live) load_next();
    if (live && all.coefficients) light.load(all.coefficients + n * all.light_stride, preset);
    light_sums[warp][lane] = T(0);
    wait_for_previous();
    const FaceView<T, A> view = all.image(n);
    const SumSink<T, mode> sink = sums.image(n, V, all.normals_stride, all.albedo_stride);
    UNROLL_NOT
    while (live) {
      const Corners f{face.v[0], face.v[1], face.v[2]};
      const bool seen = id >= 0 && sound(f, V), any = __ballot_sync(kAllLanes, seen);
      Vec3<T> normal, grad_shading;
      const auto go = [&](const auto& to) {
        const auto on_light = [&](const Vec3<T>& at, const Vec3<T>& g) { normal = at, grad_shading = g; };
        const PatchPixel p = patch_pixel(height, width, patches, __ffs(int(live)) - 1);
        if (seen) face_pixel_backward(view, light, wants, f.v, p.row, p.col, to_colour.template get<T>(), to, on_light);
      };
      PixelOrder order;
      if (any) {
        if constexpr (kValues > 0) {
#ifdef __CUDA_ARCH__
          if (kValues > WarpSink<kValues, mode>::kNormals) __builtin_assume(view.normals != nullptr);
#endif
          if (mode == kAdd) order = PixelOrder(seen, id, kFewFaces);
          memory.vertices.enter(order, seen, f);
          go(WarpSink<kValues, mode>{memory.vertices, sink.clip_sums, order.place, mode == kFixed || order.ends});
        } else {
          go(sink);
        }
      }
      live &= live - 1;
      if (live) load_next();
      if (!any) continue;
      __syncwarp();
      if constexpr (kValues > 0) {
        const WarpSums<kValues, 3>& vertices = memory.vertices;
        if (mode == kAdd && order.ends) {
          vertices.by_faces(order.ends, [&](int32_t group, int32_t k, int32_t& stride) -> float* {
            stride = group == 0 ? 4 : 3;
            if (group == 0) return wants.clip ? sink.clip_sums.values + (k == 2 ? 3 : k) : nullptr;
            if (group == 1) return wants.albedo ? sink.albedo_sums.values + k : nullptr;
            return wants.normals ? sink.normal_sums.values + k : nullptr;
          });
        } else {
          T *const to_albedo = kept(sink.albedo_sums.values), *const to_normals = kept(sink.normal_sums.values);
          vertices.template by_corners<mode == kAdd ? 1 : 0>([&](int group, int32_t k, const int32_t* v, const float* values) {
            if (!(group == 0 ? wants.clip : group == 1 ? wants.albedo : wants.normals)) return;
            if constexpr (mode == kAdd) {
              T* const to = kept((group == 1 ? to_albedo : to_normals) + k);
              for (int i = 0; i < 3; ++i) atomicAdd(in_global(to) + int64_t(kept(v[i])) * 3, values[i]);
            } else {
              const VertexSums<T>& to = group == 0 ? sink.clip_sums : group == 1 ? sink.albedo_sums : sink.normal_sums;
              for (int i = 0; i < 3; ++i) add_to<T, mode>(to, group == 0 ? int64_t(v[i]) * 4 + (k == 2 ? 3 : k) : int64_t(v[i]) * 3 + k, values[i]);
            }
          });
        }
        __syncwarp();
      }
      if (partial && mode != kMeasure) {
        const Vec3<T> zero{T(0), T(0), T(0)};
        light_sums[warp][lane] += memory.light.sum(seen ? normal : zero, seen ? grad_shading : zero);
      }
    }
    measured_by_warp<T, mode>(sink.clip_sums), measured_by_warp<T, mode>(sink.normal_sums), measured_by_warp<T, mode>(sink.albedo_sums);
    if (partial && mode != kMeasure) {
      __syncthreads();
      if (threadIdx.x < 27) {
        T sum = T(0);
        UNROLL
        for (int w = 0; w < kWarps; ++w) sum += light_sums[w][threadIdx.x];
        partial[((n * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x) * 27 + threadIdx.x] = sum;
      }
      __syncthreads();
    }
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
  const Sizes light_sizes = wants.light ? Sizes{in.coefficients.size(0), 9, 3} : Sizes{0};
  Tensor grad_coefficients = face_id.numel() ? empty(in.clip, light_sizes, dtype) : zeros(in.clip, light_sizes, dtype);
  dispatch_attribute(dtype, in.albedo.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    Fills fills;
    const GradientBuffer<T> clip_out(fills, in.clip, {in.batch, in.num_vertices, 4}, dtype, wants.clip, deterministic, face_id.numel() * 3);
    const GradientBuffer<T> normals_out(fills, in.clip, {in.normals.size(0), in.num_vertices, 3}, dtype, wants.normals, deterministic, face_id.numel() * 3);
    const GradientBuffer<T> albedo_out(fills, in.clip, {in.albedo.size(0), in.num_vertices, 3}, dtype, wants.albedo, deterministic, face_id.numel() * 3);
    launch_fill<0>(device, fills);
    if (face_id.numel()) {
      const PatchGrid patches(device, in.height, in.width, in.batch);
      const int64_t blocks = int64_t(patches.grid.x) * patches.grid.y;
      const Tensor partial = empty(in.clip, wants.light ? Sizes{in.batch, blocks, 27} : Sizes{0}, dtype);
      const ShPreset p = sh_preset(preset);
      const bool summed = wants.clip || wants.normals || wants.albedo, in_order = deterministic && summed;
      const auto run = [&](auto mode_tag, auto values) {
        constexpr Mode mode = decltype(mode_tag)::mode;
        LAUNCH_AFTER((shade_backward<T, A, mode, decltype(values)::value>), patches.grid, kSumBlock, device, (BatchView<T, A>(in)), p, wants, patches.patches, data<A>(grad), data<int32_t>(face_id),
               (SumSink<T, mode>{clip_out.sums(), normals_out.sums(), albedo_out.sums()}), wants.light ? mutable_data<T>(partial) : nullptr);
        device.launched();
      };
      sum_by_warps<T>(in_order, [&](auto mode, auto by_warps) {
        if constexpr (!decltype(by_warps)::value)
          run(mode, std::integral_constant<int, 0>{});
        else if (!summed)
          run(mode, std::integral_constant<int, 0>{});
        else if (wants.normals)
          run(mode, std::integral_constant<int, 9>{});
        else
          run(mode, std::integral_constant<int, 6>{});
      });
      if (wants.light) finish_light_gradients<T>(device, partial, in.batch, blocks, p, grad_coefficients);
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
