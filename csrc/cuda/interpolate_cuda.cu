// interpolate on CUDA, and its gradients.
#include "../inputs.h"
#include "tiles.cuh"
#include "warp_sums.cuh"

namespace facerender {
namespace {

template <class T, class A>
__global__ void __launch_bounds__(kBlock, 4)
    forward(InterpolateShape s, const A* attributes, const int32_t* faces, const int32_t* face_id, const T* bary,
            const A* background, A* out) {
  const int64_t i = global_thread_id(), C = s.channels;
  if (i >= s.pixels) return;
  for (int64_t n = blockIdx.y; n < s.batch; n += gridDim.y) {
    const int64_t at = n * s.pixels + i;
    A* o = out + at * C;
    Corners f;
    if (!visible_corners(faces, face_id[at], s.num_faces, s.num_vertices, f)) {
      for (int64_t c = 0; c < C; ++c) o[c] = background ? background[c] : A(0.f);
      continue;
    }
    const A* a = attributes + n * s.attribute_stride;
    const A *p = a + f.v[0] * C, *q = a + f.v[1] * C, *r = a + f.v[2] * C;
    const T b0 = bary[3 * at], b1 = bary[3 * at + 1], b2 = bary[3 * at + 2];
    for (int64_t c = 0; c < C; ++c) o[c] = A(T(p[c]) * b0 + T(q[c]) * b1 + T(r[c]) * b2);
  }
}

Tensor interpolate_cuda(const Tensor& attributes_, const Tensor& faces_, const Tensor& face_id_, const Tensor& bary_,
                        const std::optional<Tensor>& background_) {
  const Tensor attributes = as_contiguous(attributes_), faces = as_contiguous(faces_),
               face_id = as_contiguous(face_id_), bary = as_contiguous(bary_);
  const Tensor background = background_ ? as_contiguous(*background_) : attributes;
  const InterpolateShape s = interpolate_shape(attributes, faces, face_id, bary);
  check_same_device(attributes, background);
  check(!background_ || (background.numel() == s.channels && background.scalar_type() == attributes.scalar_type()),
        "facerender: background must be [C] and of the attributes' dtype");
  const Device device(attributes);
  std::vector<int64_t> sizes(face_id.sizes().begin(), face_id.sizes().end());
  sizes.push_back(s.channels);
  Tensor out = empty(attributes, sizes, attributes.scalar_type());
  if (out.numel() == 0) return out;
  dispatch_attribute(bary.scalar_type(), attributes.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    LAUNCH((forward<T, A>), grid_for(s.pixels, s.batch), kBlock, device.stream, s, data<A>(attributes),
           data<int32_t>(faces), data<int32_t>(face_id), data<T>(bary), background_ ? data<A>(background) : nullptr,
           mutable_data<A>(out));
    device.launched();
  });
  return out;
}

// Writes three numbers of each of a warp's pixels, four rows of eight, to `out` [rows,width,3]; with 16-byte stores if
// `aligned` (rows_aligned). Every lane must call it.
template <class T>
__device__ inline void store_by_warp(T* out, const Vec3<T>& v, const PatchPixel& p, int32_t rows, int32_t width,
                                     bool aligned) {
  if (!aligned) {
    if (p.inside) {
      T* const at = out + (int64_t(p.row) * width + p.col) * 3;
      at[0] = v.x, at[1] = v.y, at[2] = v.z;
    }
    return;
  }
  constexpr int32_t kChunks = 24 * int32_t(sizeof(T)) / 16;  // per row
  __shared__ Chunk16 per_warp[kSumBlock / kWarp][4 * kChunks];
  Chunk16* const chunks = per_warp[threadIdx.x / kWarp];
  const int32_t lane = int32_t(threadIdx.x % kWarp);
  T* const staged = reinterpret_cast<T*>(chunks) + 3 * lane;
  staged[0] = v.x, staged[1] = v.y, staged[2] = v.z;
  __syncwarp();
  Chunk16* const first = reinterpret_cast<Chunk16*>(out + (int64_t(p.row - lane / 8) * width + (p.col - lane % 8)) * 3);
  const int32_t pitch = width / 8 * kChunks;  // of the image, in chunks
  UNROLL
  for (int32_t i = lane; i < 4 * kChunks; i += int32_t(kWarp))
    if (p.row - lane / 8 + i / kChunks < rows && p.col - lane % 8 < width)
      first[i / kChunks * pitch + i % kChunks] = chunks[i];
  __syncwarp();
}

// kValues: staged numbers per vertex at a time (3 also means three channels); 0 if pixels add directly, or if
// attributes have no gradient. The fragments of an image are arranged in `rows` of `width`, of which the last may be
// incomplete.
template <class T, class A, SumMode mode, int kValues>
__global__ void __launch_bounds__(kSumBlock, kValues ? 16 : 12)
    backward(InterpolateShape s, int32_t rows, int32_t width, int32_t patches, const A* grad, const A* attributes,
             const int32_t* faces, const int32_t* face_id, const T* bary, VertexSums<T> grad_attributes, T* grad_bary,
             bool aligned) {
  constexpr int kMaxFacesToSort = 10;
  __shared__ PatchIds ids;
  const PatchPixel p = patch_pixel(rows, width, patches, 0);
  const int64_t C = kValues == 3 ? 3 : s.channels, pixel = int64_t(p.row) * width + p.col;
  const auto inside = [&](int k) {
    return p.row < rows && p.col + k * kPatchWidth < width && pixel + k * kPatchWidth < s.pixels;
  };
  for (int64_t n = blockIdx.z; n < s.batch; n += gridDim.z) {
    const int64_t first = n * s.pixels + pixel;
    const A* const a = attributes + n * s.attribute_stride;
    uint32_t live = ids.load(patches, face_id + first, kPatchWidth, inside);
    // Inputs of the first patch in which the warp has a visible face; later those of the next one, in flight while the
    // previous one is summed.
    int32_t next = -1;
    Vec3<int32_t> face{};
    Vec3<T> weights{};
    Vec3<A> grad3{};
    const auto load_next = [&] {
      const int k = __ffs(int(live)) - 1;
      next = ids.at(k);
      if (next < 0 || next >= s.num_faces) return void(next = -1);
      face = load3_plain(faces + int64_t(next) * 3), weights = load3_plain(bary + 3 * (first + k * kPatchWidth));
      if constexpr (kValues == 3) grad3 = load3_plain(grad + 3 * (first + k * kPatchWidth));
    };
    if (live) load_next();
    pdl_wait();
    const auto store_bary = [&](int k, const Vec3<T>& sum) {
      store_by_warp(grad_bary + n * s.pixels * 3, sum, {p.row, p.col + k * kPatchWidth, inside(k)}, rows, width,
                    aligned);
    };
    if (grad_bary) {
      NO_UNROLL
      for (int k = 0; k < patches; ++k)
        if (!(live >> k & 1)) store_bary(k, {T(0), T(0), T(0)});
    }
    NO_UNROLL
    while (live) {
      const int k = __ffs(int(live)) - 1;
      const int64_t at = first + k * kPatchWidth;
      const int32_t id = next;
      const Corners f{face.x, face.y, face.z};
      const bool visible = id >= 0 && indices_valid(f, s.num_vertices), any = __ballot_sync(kAllLanes, visible);
      const Vec3<T> b = weights, pixel_grad = convert3<T>(grad3);
      const auto gradient = [&](int64_t c) {
        return kValues == 3 ? (c == 0 ? pixel_grad.x : c == 1 ? pixel_grad.y : pixel_grad.z) : T(grad[at * C + c]);
      };
      live &= live - 1;
      if (grad_bary) {
        T sum[3] = {T(0), T(0), T(0)};
        if (visible)
          for (int64_t c = 0; c < C; ++c) {
            const T g = gradient(c);
            for (int i = 0; i < 3; ++i) sum[i] += g * T(a[f.v[i] * C + c]);
          }
        store_bary(k, {sum[0], sum[1], sum[2]});
      }
      if (live) load_next();
      if (!grad_attributes.values) continue;
      if constexpr (kValues > 0) {
        if (!any) continue;
        __shared__ WarpVertexSums<kValues, kValues> memories[kSumBlock / kWarp];
        WarpVertexSums<kValues, kValues>& sums = memories[threadIdx.x / kWarp];
        const PixelOrder order = mode == kFixedPoint ? PixelOrder() : PixelOrder(visible, id, kMaxFacesToSort);
        sums.begin(order, visible, f);
        for (int64_t c0 = 0; c0 < C; c0 += kValues) {
          const int32_t count = int32_t(C - c0 < kValues ? C - c0 : kValues);
          if (visible)
            for (int32_t c = 0; c < count; ++c) {
              const T g = gradient(c0 + c);
              sums.put(order.slot, 0, c, b.x * g), sums.put(order.slot, 1, c, b.y * g);
              sums.put(order.slot, 2, c, b.z * g);
            }
          __syncwarp();
          VertexSums<T> to = grad_attributes;
          to.values += n * s.attribute_stride + c0, to.fixed += n * s.attribute_stride + c0;
          if (order.face_ends)
            sums.sum_by_faces(order.face_ends, [&](int, int32_t c, int32_t& stride) {
              stride = int32_t(C);
              return c < count ? to.values + c : nullptr;
            });
          else
            sums.template sum_by_corners<0>([&](int, int32_t c, const int32_t* v, const float* values) {
              if (c >= count) return;
              for (int i = 0; i < 3; ++i) add_to<T, mode>(to, v[i] * C + c, values[i]);
            });
          __syncwarp();
        }
      } else if (visible) {
        const T weight[3] = {b.x, b.y, b.z};
        for (int i = 0; i < 3; ++i) {
          const int64_t vertex = n * s.attribute_stride + f.v[i] * C;
          for (int64_t c = 0; c < C; ++c) add_to<T, mode>(grad_attributes, vertex + c, weight[i] * gradient(c));
        }
      }
    }
  }
  publish_warp_max<T, mode>(grad_attributes);
}

std::tuple<Tensor, Tensor> interpolate_backward_cuda(const Tensor& grad_, const Tensor& attributes_,
                                                     const Tensor& faces_, const Tensor& face_id_, const Tensor& bary_,
                                                     bool want_attributes, bool want_bary, bool deterministic) {
  const Tensor grad = as_contiguous(grad_), attributes = as_contiguous(attributes_), faces = as_contiguous(faces_),
               face_id = as_contiguous(face_id_), bary = as_contiguous(bary_);
  const InterpolateShape s = interpolate_shape(attributes, faces, face_id, bary);
  check_same_device(grad, attributes);
  check(grad.numel() == s.batch * s.pixels * s.channels && grad.scalar_type() == attributes.scalar_type(),
        "facerender: interpolate_backward got a gradient that does not fit");
  const Device device(attributes);
  const auto dtype = bary.scalar_type();
  std::vector<int64_t> sizes(bary.sizes().begin(), bary.sizes().end());
  Tensor grad_bary = empty(attributes, want_bary ? sizes : std::vector<int64_t>{0}, dtype), result;
  dispatch_attribute(dtype, attributes.scalar_type(), [&](auto geometry, auto attribute) {
    using T = decltype(geometry);
    using A = decltype(attribute);
    FillList fills;
    const GradientBuffer<T> out(fills, attributes, {attributes.size(0), s.num_vertices, s.channels}, dtype,
                                want_attributes, deterministic, face_id.numel() * 3);
    launch_fill<0>(device, fills);
    if (face_id.numel()) {
      // [H,W] and [H,W,K] as images of H rows; other shapes (a list of points, say) as sixteen rows.
      const int64_t height = face_id.size(1), width = s.pixels / height;
      constexpr int64_t kFlat = 16;
      const bool flat = height < kFlat || width < kFlat || height > 65535 * kPatchHeight;
      const int64_t rows = flat ? kFlat : height, in_row = flat ? (s.pixels + kFlat - 1) / kFlat : width;
      const PatchGrid patches(device, rows, in_row, s.batch);
      VertexSums<T> sums = out.sums();
      if (!want_attributes) sums.values = nullptr;
      const auto run = [&](auto mode, auto values) {
        LAUNCH_PDL((backward<T, A, decltype(mode)::mode, decltype(values)::value>), patches.grid, kSumBlock, device, s,
                   int32_t(rows), int32_t(in_row), patches.patches, data<A>(grad), data<A>(attributes),
                   data<int32_t>(faces), data<int32_t>(face_id), data<T>(bary), sums,
                   want_bary ? mutable_data<T>(grad_bary) : nullptr,
                   s.pixels == rows * in_row && rows_aligned(data<T>(grad_bary), in_row));
        device.launched();
      };
      accumulate_by_warp<T>(deterministic && want_attributes, [&](auto mode, auto staged) {
        if constexpr (!decltype(staged)::value)
          run(mode, std::integral_constant<int, 0>{});
        else if (!want_attributes)
          run(mode, std::integral_constant<int, 0>{});
        else if (s.channels == 3)
          run(mode, std::integral_constant<int, 3>{});
        else
          run(mode, std::integral_constant<int, 8>{});
      });
      out.finish(device);
    }
    result = out.values;
  });
  return {result, grad_bary};
}

}  // namespace

CUDA_LIBRARY(m) {
  m.impl("interpolate", TORCH_BOX(&interpolate_cuda));
  m.impl("interpolate_backward", TORCH_BOX(&interpolate_backward_cuda));
}

}  // namespace facerender
