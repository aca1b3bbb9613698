// render_face on CUDA: a kernel that shades the visibility buffer (shade), and its gradient (shade_backward). The
// mathematics of a pixel is in ../fused.h.
#include "../fused.h"
#include "../inputs.h"
#include "light.cuh"
#include "tiles.cuh"
#include "visibility.cuh"
#include "warp_sums.cuh"

namespace facerender {
namespace {

// A FaceView for each image of a batch: that of image n is `first`, advanced by n strides.
template <class T, class A>
struct BatchView {
  FaceView<T, A> first;
  const T* coefficients;
  int64_t batch, num_faces, normals_stride, albedo_stride, background_stride, light_stride;

  explicit BatchView(const RenderInputs& in)
      : first{data<T>(in.clip),
              in.lit ? data<A>(in.normals) : nullptr,
              data<A>(in.albedo),
              data<int32_t>(in.faces),
              in.has_background ? data<A>(in.background) : nullptr,
              in.background.numel() == 3 ? 0 : 3,
              in.num_vertices,
              int32_t(in.height),
              int32_t(in.width)},
        coefficients(in.lit ? data<T>(in.coefficients) : nullptr),
        batch(in.batch),
        num_faces(in.num_faces),
        normals_stride(batch_stride(in.normals, in.batch)),
        albedo_stride(batch_stride(in.albedo, in.batch)),
        background_stride(in.background.numel() == 3 ? 0 : batch_stride(in.background, in.batch)),
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

// Visibility keys to color and face id. `aligned`: whether rows_aligned holds for both.
template <class T, class A, int kTiles>
__global__ void __launch_bounds__(kTileBlock, sizeof(T) == 4 ? 8 : 4)
    shade(BatchView<T, A> all, const __grid_constant__ ShPreset preset, const uint64_t* keys, A* out, int32_t* face_id,
          bool aligned) {
  using Tiles = TileRow<kTiles>;
  struct alignas(16) Memory {
    A colors[4][kTilePitch<kTiles, 3, sizeof(A)>];
    int32_t ids[4][kTilePitch<kTiles, 1, 4>];
    ShLight<T> light;
  };
  __shared__ Memory memories[kTileWarps];
  Memory& memory = memories[threadIdx.x / kWarp];
  const Tiles tiles(all.first.height, all.first.width);
  const int64_t n = blockIdx.z, first = tiles.first_pixel(blockIdx.z);
  keys = assume_global(launder(keys + first)), face_id = assume_global(launder(face_id + first)),
  out = assume_global(launder(out + first * 3));
  const T number = all.coefficients && tiles.lane < 27 ? all.coefficients[n * all.light_stride + tiles.lane] : T(0);
  pdl_wait();
  int32_t id[kTiles];
  const bool visible = tiles.load_face_ids(keys, id), has_color = visible || all.first.background;
  if (has_color) {
    UNROLL
    for (int j = 0; j < kTiles; ++j) memory.ids[tiles.row_of(j)][tiles.col_of()] = id[j];
    __syncwarp();
    FaceView<T, A> view = all.image(n);
    view.clip = assume_global(launder(view.clip)), view.albedo = assume_global(launder(view.albedo)),
    view.faces = assume_global(launder(view.faces));
    const int32_t row = tiles.lane / 8, first_col = tiles.lane % 8;
    const auto prefetch_corners = [&](int32_t face) {
      return face >= 0 ? prefetch3(view.faces, face) : Prefetched3<int32_t>{0, 0, 0};
    };
    int32_t face = kTiles == 1 ? id[0] : memory.ids[row][first_col];
    Prefetched3<int32_t> f = prefetch_corners(face);
    if (visible && all.coefficients) store_light_by_warp(number, preset, memory.light);
    const auto shade_tiles = [&](auto lit) {
      constexpr bool kLit = decltype(lit)::value;
      if constexpr (kLit) view.normals = assume_global(launder(view.normals));
      NO_UNROLL
      for (int32_t begin = 0; begin < Tiles::kWidth; begin += 8) {
        const int32_t col = begin + first_col, next = begin + 8 < Tiles::kWidth ? memory.ids[row][col + 8] : -1,
                      image_row = tiles.row + row, image_col = tiles.col + col;
        const Prefetched3<int32_t> following = prefetch_corners(next);  // in flight while this tile is shaded
        Vec3<T> c{T(0), T(0), T(0)};
        if (face >= 0)
          c = covered_pixel_color<kLit>(view, memory.light, finish_prefetch3<int32_t>(f, view.faces, face), image_row,
                                        image_col);
        else if (image_row < tiles.height && image_col < tiles.width)
          c = background_color(view, image_row, image_col);
        A* const to = memory.colors[row] + 3 * col;
        to[0] = A(c.x), to[1] = A(c.y), to[2] = A(c.z);
        face = next, f = following;
      }
    };
    all.first.normals ? shade_tiles(std::true_type{}) : shade_tiles(std::false_type{});
    __syncwarp();
  }
  if (aligned) {
    tiles.template store<1>(face_id, memory.ids, visible, -1);
    tiles.template store<3>(out, memory.colors, has_color, A(0.f));
  } else {
    NO_UNROLL
    for (int j = 0; j < kTiles; ++j)
      if (tiles.inside(j)) {
        face_id[tiles.pixel(j)] = visible ? memory.ids[tiles.row_of(j)][tiles.col_of()] : -1;
        for (int c = 0; c < 3; ++c)
          out[3 * tiles.pixel(j) + c] = has_color ? memory.colors[tiles.row_of(j)][3 * tiles.col_of() + c] : A(0.f);
      }
  }
}

std::tuple<Tensor, Tensor> render_face_cuda(const Tensor& clip, const std::optional<Tensor>& normals,
                                            const Tensor& albedo, const std::optional<Tensor>& coefficients,
                                            const Tensor& faces, const std::optional<Tensor>& background,
                                            int64_t height, int64_t width, int64_t cull, int64_t preset) {
  const RenderInputs in(clip, normals, albedo, coefficients, faces, background, height, width);
  const Device device(in.clip);
  Tensor image = empty(in.clip, {in.batch, height, width, 3}, in.albedo.scalar_type());
  Tensor face_id = empty(in.clip, {in.batch, height, width}, ScalarType::Int);
  if (face_id.numel() == 0) return {image, face_id};
  dispatch_attribute(in.clip.scalar_type(), in.albedo.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    const BatchMesh<T> mesh{data<T>(in.clip), data<int32_t>(in.faces), in.batch,       in.num_vertices,
                            in.num_faces,     int32_t(height),         int32_t(width), cull};
    VisibilityPass<T> visibility(device, in.clip, mesh, false);
    visibility.in_parts([&](const BatchMesh<T>& part, int64_t n) {
      const uint64_t* const keys = visibility.find(part);
      A* const to = mutable_data<A>(image) + n * height * width * 3;
      launch_by_tiles(device, height, width, part.batch, [&](auto tiles, int64_t first, int64_t images) {
        constexpr int kTiles = decltype(tiles)::value;
        A* const batch_image = to + first * height * width * 3;
        int32_t* const ids = mutable_data<int32_t>(face_id) + (n + first) * height * width;
        LAUNCH_PDL((shade<T, A, kTiles>), grid_for_tiles<kTiles>(height, width, images), kTileBlock, device,
                   (BatchView<T, A>(in).part(n + first, images)), sh_preset(preset), keys + first * height * width,
                   batch_image, ids, rows_aligned(batch_image, width) && rows_aligned(ids, width));
      });
      device.launched();
    });
  });
  return {image, face_id};
}

// Where covered_pixel_backward puts the gradients of a pixel's corners: into global memory.
template <class T, SumMode mode>
struct GlobalSink {
  VertexSums<T> clip_sums, normal_sums, albedo_sums;
  __device__ void clip(int, int32_t v, Vec4<T> g) const { add4<T, mode>(clip_sums, v, g); }
  __device__ void normal(int, int32_t v, Vec3<T> g) const { add3<T, mode>(normal_sums, v, g); }
  __device__ void albedo(int, int32_t v, Vec3<T> g) const { add3<T, mode>(albedo_sums, v, g); }
  __device__ GlobalSink image(int64_t n, int64_t vertices, int64_t normals_stride, int64_t albedo_stride) const {
    GlobalSink s = *this;
    s.clip_sums.values += n * vertices * 4, s.clip_sums.fixed += n * vertices * 4;
    s.normal_sums.values += n * normals_stride, s.normal_sums.fixed += n * normals_stride;
    s.albedo_sums.values += n * albedo_stride, s.albedo_sums.fixed += n * albedo_stride;
    return s;
  }
};

// The same into a warp's staged sums, three numbers per vertex and gradient. The gradient of clip has no z. If it is
// not staged, because the pixels are not summed by faces, it goes to global memory as one 16-byte atomic.
template <int kValues, SumMode mode>
struct WarpSink {
  static constexpr int kClip = 0, kAlbedo = 3, kNormals = 6;
  WarpVertexSums<kValues, 3>& sums;
  const VertexSums<float>& clip_sums;
  int32_t slot;
  bool stage_clip;
  __device__ void clip(int k, int32_t v, Vec4<float> g) const {
    if (stage_clip)
      put3(k, kClip, {g.x, g.y, g.w});
    else
      add4<float, mode>(clip_sums, v, g);
  }
  __device__ void albedo(int k, int32_t, Vec3<float> g) const { put3(k, kAlbedo, g); }
  __device__ void normal(int k, int32_t, Vec3<float> g) const {
    if constexpr (kValues > kNormals) put3(k, kNormals, g);
  }
  __device__ void put3(int k, int at, Vec3<float> g) const {
    sums.put(slot, k, at, g.x), sums.put(slot, k, at + 1, g.y), sums.put(slot, k, at + 2, g.z);
  }
};

// The shared memory of a warp, used first for the sums of vertices and then for the gradient of the light.
template <class T, int kValues>
union WarpMemory {
  WarpVertexSums<kValues, 3> vertices;
  WarpLightGradient<T> light;
};
template <class T>
union WarpMemory<T, 0> {
  WarpLightGradient<T> light;
};

constexpr int kMaxFacesToSort = 16;  // in a warp, up to which it is faster to sum by faces

// Blocks of shade_backward per multiprocessor: as many as possible without register spills.
template <class T, class A, SumMode mode, int kValues>
constexpr int backward_blocks() {
  if (sizeof(T) == 8) return 4;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if (mode == kAtomicAdd) return __CUDA_ARCH__ >= 900 && kValues != 6 && sizeof(A) == 4 ? 12 : 10;
#endif
  return 8;
}

// The gradients of all pixels, and the partial sums of the light's gradient, one per block.
// kValues: staged numbers per vertex: 6, or 9 with normals; 0 if pixels add directly (float64), if only the maximum is
// searched, or if only the light has a gradient.
template <class T, class A, SumMode mode, int kValues>
__global__ void __launch_bounds__(kSumBlock, backward_blocks<T, A, mode, kValues>())
    shade_backward(BatchView<T, A> all, const __grid_constant__ ShPreset preset, WantedGradients wants, int32_t patches,
                   const A* grad, const int32_t* face_id, GlobalSink<T, mode> sums, T* partial) {
  constexpr int kWarps = kSumBlock / kWarp;
  if constexpr (kValues == 0 && mode == kAtomicAdd && sizeof(T) == 4) wants = {false, false, false, wants.light};
  __shared__ ChannelLight<T> lights[kWarps];
  __shared__ WarpMemory<T, kValues> memories[kWarps];
  __shared__ T light_sums[kWarps][kWarp];
  __shared__ PatchIds ids;
  const int32_t lane = int32_t(threadIdx.x % kWarp), warp = int32_t(threadIdx.x / kWarp);
  const int32_t height = all.first.height, width = all.first.width;
  const int64_t V = all.first.num_vertices, pixels = int64_t(height) * width;
  ChannelLight<T>& light = lights[warp];
  WarpMemory<T, kValues>& memory = memories[warp];
  pdl_trigger();
  for (int64_t n = blockIdx.z; n < all.batch; n += gridDim.z) {
    const int32_t* const image_ids = face_id + n * pixels;
    const A* const image_grad = grad + n * pixels * 3;
    const PatchPixel first = patch_pixel(height, width, patches, 0);
    uint32_t live = ids.load(patches, image_ids + first.row * width + first.col, kPatchWidth,
                             [&](int k) { return first.row < height && first.col + k * kPatchWidth < width; });
    // Inputs of the first patch in which the warp has a visible face; later those of the next one, in flight while the
    // previous one is summed.
    int32_t id = -1;
    Vec3<int32_t> face{};
    Vec3<A> grad_color{};
    const auto load_next = [&] {
      const int k = __ffs(int(live)) - 1;
      const PatchPixel p = patch_pixel(height, width, patches, k);
      id = ids.at(k);
      if (id < 0 || id >= all.num_faces) return void(id = -1);
      face = load3_plain(all.first.faces + int64_t(id) * 3);
      grad_color = load3_plain(image_grad + (p.row * width + p.col) * 3);
    };
    if (live) load_next();
    if (live && all.coefficients) light.load(all.coefficients + n * all.light_stride, preset);
    light_sums[warp][lane] = T(0);
    pdl_wait();
    const FaceView<T, A> view = all.image(n);
    const GlobalSink<T, mode> sink = sums.image(n, V, all.normals_stride, all.albedo_stride);
    NO_UNROLL
    while (live) {
      const Corners f{face.x, face.y, face.z};
      const bool visible = id >= 0 && indices_valid(f, V), any = __ballot_sync(kAllLanes, visible);
      Vec3<T> normal, grad_shading;
      const auto backward_to = [&](const auto& target) {
        const auto on_light = [&](const Vec3<T>& at, const Vec3<T>& g) { normal = at, grad_shading = g; };
        const PatchPixel p = patch_pixel(height, width, patches, __ffs(int(live)) - 1);
        if (visible)
          covered_pixel_backward(view, light, wants, f.v, p.row, p.col, convert3<T>(grad_color), target, on_light);
      };
      PixelOrder order;
      if (any) {
        if constexpr (kValues > 0) {
#ifdef __CUDA_ARCH__
          if (kValues > WarpSink<kValues, mode>::kNormals) __builtin_assume(view.normals != nullptr);
#endif
          if (mode == kAtomicAdd) order = PixelOrder(visible, id, kMaxFacesToSort);
          memory.vertices.begin(order, visible, f);
          backward_to(WarpSink<kValues, mode>{memory.vertices, sink.clip_sums, order.slot,
                                              mode == kFixedPoint || order.face_ends});
        } else {
          backward_to(sink);
        }
      }
      live &= live - 1;
      if (live) load_next();
      if (!any) continue;
      __syncwarp();
      if constexpr (kValues > 0) {
        const WarpVertexSums<kValues, 3>& vertices = memory.vertices;
        if (mode == kAtomicAdd && order.face_ends) {
          vertices.sum_by_faces(order.face_ends, [&](int32_t group, int32_t k, int32_t& stride) -> float* {
            stride = group == 0 ? 4 : 3;
            if (group == 0) return wants.clip ? sink.clip_sums.values + (k == 2 ? 3 : k) : nullptr;
            if (group == 1) return wants.albedo ? sink.albedo_sums.values + k : nullptr;
            return wants.normals ? sink.normal_sums.values + k : nullptr;
          });
        } else {
          T *const to_albedo = launder(sink.albedo_sums.values), *const to_normals = launder(sink.normal_sums.values);
          vertices.template sum_by_corners<mode == kAtomicAdd ? 1 : 0>([&](int group, int32_t k, const int32_t* v,
                                                                           const float* values) {
            if (!(group == 0 ? wants.clip : group == 1 ? wants.albedo : wants.normals)) return;
            if constexpr (mode == kAtomicAdd) {
              T* const to = launder((group == 1 ? to_albedo : to_normals) + k);
              for (int i = 0; i < 3; ++i) atomicAdd(assume_global(to) + int64_t(launder(v[i])) * 3, values[i]);
            } else {
              const VertexSums<T>& to = group == 0 ? sink.clip_sums : group == 1 ? sink.albedo_sums : sink.normal_sums;
              for (int i = 0; i < 3; ++i)
                add_to<T, mode>(to, group == 0 ? int64_t(v[i]) * 4 + (k == 2 ? 3 : k) : int64_t(v[i]) * 3 + k,
                                values[i]);
            }
          });
        }
        __syncwarp();
      }
      if (partial && mode != kFindMax) {
        const Vec3<T> zero{T(0), T(0), T(0)};
        light_sums[warp][lane] += memory.light.sum(visible ? normal : zero, visible ? grad_shading : zero);
      }
    }
    publish_warp_max<T, mode>(sink.clip_sums), publish_warp_max<T, mode>(sink.normal_sums),
        publish_warp_max<T, mode>(sink.albedo_sums);
    if (partial && mode != kFindMax) {
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

std::tuple<Tensor, Tensor, Tensor, Tensor> render_face_backward_cuda(
    const Tensor& grad_, const Tensor& clip, const std::optional<Tensor>& normals, const Tensor& albedo,
    const std::optional<Tensor>& coefficients, const Tensor& faces, const Tensor& face_id_, int64_t preset,
    bool want_clip, bool want_normals, bool want_albedo, bool want_coefficients, bool deterministic) {
  const Tensor grad = as_contiguous(grad_), face_id = as_contiguous(face_id_);
  check_ids(face_id);
  const RenderInputs in(clip, normals, albedo, coefficients, faces, std::nullopt, face_id.size(1), face_id.size(2));
  check_same_device(in.clip, grad, face_id);
  check(face_id.size(0) == in.batch && grad.numel() == face_id.numel() * 3 &&
            grad.scalar_type() == in.albedo.scalar_type(),
        "facerender: render_face_backward got a gradient that does not fit");
  const Device device(in.clip);
  const auto dtype = in.clip.scalar_type();
  const WantedGradients wants{want_clip, want_normals && in.lit, want_albedo, want_coefficients && in.lit};
  using Sizes = std::vector<int64_t>;
  Tensor grad_clip, grad_normals, grad_albedo;
  const Sizes light_sizes = wants.light ? Sizes{in.coefficients.size(0), 9, 3} : Sizes{0};
  Tensor grad_coefficients = face_id.numel() ? empty(in.clip, light_sizes, dtype) : zeros(in.clip, light_sizes, dtype);
  dispatch_attribute(dtype, in.albedo.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    FillList fills;
    const GradientBuffer<T> clip_out(fills, in.clip, {in.batch, in.num_vertices, 4}, dtype, wants.clip, deterministic,
                                     face_id.numel() * 3);
    const GradientBuffer<T> normals_out(fills, in.clip, {in.normals.size(0), in.num_vertices, 3}, dtype, wants.normals,
                                        deterministic, face_id.numel() * 3);
    const GradientBuffer<T> albedo_out(fills, in.clip, {in.albedo.size(0), in.num_vertices, 3}, dtype, wants.albedo,
                                       deterministic, face_id.numel() * 3);
    launch_fill<0>(device, fills);
    if (face_id.numel()) {
      const PatchGrid patches(device, in.height, in.width, in.batch);
      const int64_t blocks = int64_t(patches.grid.x) * patches.grid.y;
      const Tensor partial = empty(in.clip, wants.light ? Sizes{in.batch, blocks, 27} : Sizes{0}, dtype);
      const ShPreset p = sh_preset(preset);
      const bool summed = wants.clip || wants.normals || wants.albedo, in_order = deterministic && summed;
      const auto run = [&](auto mode_tag, auto values) {
        constexpr SumMode mode = decltype(mode_tag)::mode;
        LAUNCH_PDL((shade_backward<T, A, mode, decltype(values)::value>), patches.grid, kSumBlock, device,
                   (BatchView<T, A>(in)), p, wants, patches.patches, data<A>(grad), data<int32_t>(face_id),
                   (GlobalSink<T, mode>{clip_out.sums(), normals_out.sums(), albedo_out.sums()}),
                   wants.light ? mutable_data<T>(partial) : nullptr);
        device.launched();
      };
      accumulate_by_warp<T>(in_order, [&](auto mode, auto staged) {
        if constexpr (!decltype(staged)::value)
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
