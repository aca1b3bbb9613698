#include "strips.cuh"
#include "visibility.cuh"
#include "warp_sums.cuh"

namespace facerender {
namespace {

// The shared memory of a warp: ids until a tile is resolved, then its depths in their place, where these are of the same size.
template <class T, int kTiles>
union ResolvedDepths {
  int32_t ids[4][kStripPitch<kTiles, 1, 4>];
  T depth[4][kStripPitch<kTiles, 1, 4>];
};
template <int kTiles>
union ResolvedDepths<double, kTiles> {
  struct {
    int32_t ids[4][kStripPitch<kTiles, 1, 4>];
    double depth[4][kStripPitch<kTiles, 1, 8>];
  };
};

template <class T>
constexpr int resolve_blocks() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if (sizeof(T) == 4) return 12;
#endif
  return 6;
}

template <class T, int kTiles>
__global__ void __launch_bounds__(kStripBlock, resolve_blocks<T>()) resolve(BatchMesh<T> mesh, const uint64_t* keys, int64_t layers, int64_t layer, int32_t* face_id, T* bary, T* depth, bool rows) {
  using Pixels = Strip<kTiles>;
  struct alignas(16) Memory {
    T bary[4][kStripPitch<kTiles, 3, sizeof(T)>];
    ResolvedDepths<T, kTiles> of;
  };
  __shared__ Memory memories[kStripWarps];
  Memory& memory = memories[threadIdx.x / kWarp];
  const Pixels strip(mesh.height, mesh.width);
  const int64_t n = blockIdx.z, first = strip.before(blockIdx.z), o = first * layers + layer;
  const bool want_bary = bary;
  keys = in_global(kept(keys + first)), face_id = in_global(kept(face_id + o)), depth = in_global(kept(depth + o)), bary = kept(bary + o * 3);
  wait_for_previous();
  int32_t id[kTiles];
  const bool seen = strip.sees(keys, id);
  if (seen) {
    UNROLL
    for (int j = 0; j < kTiles; ++j) memory.of.ids[strip.row_of(j)][strip.col_of()] = id[j];
    __syncwarp();
  }
  if (rows) {
    strip.template put<1>(face_id, memory.of.ids, seen, -1);
  } else {
    UNROLL
    for (int j = 0; j < kTiles; ++j)
      if (strip.inside(j)) face_id[strip.pixel(j) * layers] = id[j];
  }
  if (seen) {
    __syncwarp();
    const T* const clip = in_global(kept(mesh.clip + n * mesh.num_vertices * 4));
    const int32_t* const faces = in_global(kept(mesh.faces));
    const int32_t row = strip.lane / 8, first_col = strip.lane % 8;
    const auto corners = [&](int32_t face) { return face >= 0 ? begin_load3(faces, face) : Loading3<int32_t>{0, 0, 0}; };
    int32_t face = kTiles == 1 ? id[0] : memory.of.ids[row][first_col];
    Loading3<int32_t> f = corners(face);
    UNROLL_NOT
    for (int32_t begin = 0; begin < Pixels::kWide; begin += 8) {
      const int32_t col = begin + first_col, next = begin + 8 < Pixels::kWide ? memory.of.ids[row][col + 8] : -1;
      const Loading3<int32_t> following = corners(next);  // under way while this tile is resolved
      T b[3] = {T(0), T(0), T(0)}, d = T(1);
      if (face >= 0) {
        const Vec3<int32_t> v = end_load3<int32_t>(f, faces, face);
        const Vec4<T> at[3] = {load4(clip + int64_t(v.x) * 4), load4(clip + int64_t(v.y) * 4), load4(clip + int64_t(v.z) * 4)};
        const Barycentrics<T> pixel(at, strip.col + col, strip.row + row, strip.width, strip.height);
        b[0] = pixel.b[0], b[1] = pixel.b[1], b[2] = pixel.b[2];
        d = interpolated_depth(at, pixel.b);
      }
      T* const to = memory.bary[row] + 3 * col;
      to[0] = b[0], to[1] = b[1], to[2] = b[2];
      memory.of.depth[row][col] = d;
      face = next, f = following;
    }
    __syncwarp();
  }
  if (rows) {
    strip.template put<1>(depth, memory.of.depth, seen, T(1));
    if (want_bary) strip.template put<3>(in_global(bary), memory.bary, seen, T(0));
  } else {
    UNROLL_NOT
    for (int j = 0; j < kTiles; ++j)
      if (strip.inside(j)) {
        const int64_t at = strip.pixel(j) * layers;
        depth[at] = seen ? memory.of.depth[strip.row_of(j)][strip.col_of()] : T(1);
        if (want_bary)
          for (int c = 0; c < 3; ++c) bary[3 * at + c] = seen ? memory.bary[strip.row_of(j)][3 * strip.col_of() + c] : T(0);
      }
  }
}

std::tuple<Tensor, Tensor, Tensor> rasterize_cuda(const Tensor& clip_, const Tensor& faces_, int64_t height, int64_t width, int64_t cull, int64_t layers, bool want_bary) {
  const Tensor clip = aligned(clip_), faces = as_contiguous(faces_);
  check_mesh(clip, 4, faces), check_size(height, width, layers);
  check_same_device(clip, faces);
  const Device device(clip);
  const int64_t batch = clip.size(0), pixels = height * width;
  Tensor face_id = empty(clip, {batch, height, width, layers}, ScalarType::Int);
  Tensor bary = empty(clip, {batch, height, width, layers, want_bary ? 3 : 0}, clip.scalar_type());
  Tensor depth = empty(clip, {batch, height, width, layers}, clip.scalar_type());
  dispatch_geometry(clip.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const BatchMesh<T> mesh{data<T>(clip), data<int32_t>(faces), batch, clip.size(1), faces.size(0), int32_t(height), int32_t(width), cull};
    if (face_id.numel() == 0) return;
    Search<T> search(device, clip, mesh, layers > 1);
    search.in_parts([&](const BatchMesh<T>& part, int64_t n) {
      const int64_t o = n * pixels * layers;
      for (int64_t k = 0; k < layers; ++k) {
        const uint64_t* const keys = search.find(part, k);
        by_strips(device, height, width, part.batch, [&](auto tiles, int64_t first, int64_t images) {
          constexpr int kTiles = decltype(tiles)::value;
          const int64_t at = o + first * pixels * layers;
          BatchMesh<T> here = part;
          here.clip += first * part.num_vertices * 4;
          int32_t* const ids = mutable_data<int32_t>(face_id) + at;
          T *const to = want_bary ? mutable_data<T>(bary) + 3 * at : nullptr, *const depths = mutable_data<T>(depth) + at;
          LAUNCH_AFTER((resolve<T, kTiles>), grid_of_strips<kTiles>(height, width, images), kStripBlock, device, here, keys + first * pixels, layers, k,
                 ids, to, depths, layers == 1 && whole_rows(ids, width) && whole_rows(to, width) && whole_rows(depths, width));
        });
        device.launched();
      }
    });
  });
  return {face_id, bary, depth};
}

// Blocks of fragments_backward that share a multiprocessor, as far as that takes no spills.
constexpr int fragment_blocks(bool warps) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
  if (warps) return 12;
#endif
  return warps ? 14 : 8;
}

// kWarps: a warp that sees few faces sums them first, and sums without an order go out by neighbouring lanes. Where it sees many, four numbers of a vertex go out as one.
template <class T, Mode mode, bool kWarps>
__global__ void __launch_bounds__(kSumBlock, fragment_blocks(kWarps))
    fragments_backward(BatchMesh<T> mesh, int32_t patches, const T* grad_bary, const T* grad_depth, const int32_t* face_id, int64_t layers, VertexSums<T> out) {
  constexpr int kFewFaces = 10;
  __shared__ PatchIds ids;
  const PatchPixel first = patch_pixel(mesh.height, mesh.width, patches, 0);
  for (int64_t n = blockIdx.z; n < mesh.batch; n += gridDim.z) {
    const T* const positions = mesh.clip + n * mesh.num_vertices * 4;
    VertexSums<T> image = out;
    image.values += n * mesh.num_vertices * 4, image.fixed += n * mesh.num_vertices * 4;
    for (int64_t layer = 0; layer < layers; ++layer) {
      const int64_t at = ((n * mesh.height + first.row) * mesh.width + first.col) * layers + layer;
      uint32_t live = ids.look(patches, face_id + at, kPatchWidth * layers, [&](int k) { return first.row < mesh.height && first.col + k * kPatchWidth < mesh.width; });
      // What the first patch that sees a face needs; later that of the next one, while the one before it is summed.
      int32_t next = -1;
      Three<int32_t> face;
      Three<T> to_bary;
      T to_depth = T(0);
      const auto load_next = [&] {
        const int k = __ffs(int(live)) - 1;
        next = ids.at(k);
        if (next < 0 || next >= mesh.num_faces) return void(next = -1);
        face.start(mesh.faces + int64_t(next) * 3);
        const int64_t fragment = at + k * kPatchWidth * layers;
        if (grad_bary) to_bary.start(grad_bary + 3 * fragment);
        if (grad_depth) to_depth = grad_depth[fragment];
      };
      if (live) load_next();
      wait_for_previous();
      UNROLL_NOT
      while (live) {
        const int32_t id = next, col = first.col + (__ffs(int(live)) - 1) * kPatchWidth;
        const Corners f{face.v[0], face.v[1], face.v[2]};
        const bool seen = id >= 0 && sound(f, mesh.num_vertices), any = __ballot_sync(kAllLanes, seen);
        Vec4<T> grad[3];
        if (seen) fragment_backward(positions, f.v, first.row, col, mesh.height, mesh.width, to_bary.template get<T>(), to_depth, grad);
        live &= live - 1;
        if (live) load_next();
        if constexpr (kWarps) {
          if (!any) continue;
          __shared__ WarpSums<4, 4> memories[kSumBlock / kWarp];
          WarpSums<4, 4>& sums = memories[threadIdx.x / kWarp];
          const PixelOrder order = mode == kFixed ? PixelOrder() : PixelOrder(seen, id, kFewFaces);
          if (mode == kFixed || order.ends) {
            sums.enter(order, seen, f);
            if (seen)
              for (int i = 0; i < 3; ++i) sums.put(order.place, i, 0, grad[i].x), sums.put(order.place, i, 1, grad[i].y), sums.put(order.place, i, 2, grad[i].z), sums.put(order.place, i, 3, grad[i].w);
            __syncwarp();
            if constexpr (mode == kFixed)
              sums.template by_corners<0>([&](int, int32_t c, const int32_t* v, const float* values) {
                for (int i = 0; i < 3; ++i) add_to<T, mode>(image, int64_t(v[i]) * 4 + c, values[i]);
              });
            else
              sums.by_faces(order.ends, [&](int, int32_t c, int32_t& stride) {
                stride = 4;
                return image.values + c;
              });
            __syncwarp();
            continue;
          }
        }
        if (seen)
          for (int c = 0; c < 3; ++c) add4<T, mode>(image, f.v[c], grad[c]);
      }
    }
    measured_by_warp<T, mode>(image);
  }
}

Tensor rasterize_backward_cuda(const std::optional<Tensor>& grad_bary_, const std::optional<Tensor>& grad_depth_, const Tensor& clip_, const Tensor& faces_,
                               const Tensor& face_id_, bool deterministic) {
  const Tensor clip = aligned(clip_), faces = as_contiguous(faces_), face_id = as_contiguous(face_id_);
  check_mesh(clip, 4, faces), check_ids(face_id), check(face_id.dim() == 4, "facerender: rasterize_backward takes face ids [N,H,W,K]");
  const Tensor grad_bary = grad_bary_ ? as_contiguous(*grad_bary_) : clip, grad_depth = grad_depth_ ? as_contiguous(*grad_depth_) : clip;
  check_same_device(clip, faces, face_id, grad_bary, grad_depth);
  const Device device(clip);
  const int64_t batch = clip.size(0), height = face_id.size(1), width = face_id.size(2), layers = face_id.size(3);
  check(face_id.size(0) == batch && (!grad_bary_ || grad_bary.numel() == face_id.numel() * 3) && (!grad_depth_ || grad_depth.numel() == face_id.numel()) &&
            grad_bary.scalar_type() == clip.scalar_type() && grad_depth.scalar_type() == clip.scalar_type(),
        "facerender: rasterize_backward got shapes that do not fit");
  Tensor result;
  dispatch_geometry(clip.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    Fills fills;
    const GradientBuffer<T> out(fills, clip, {batch, clip.size(1), 4}, clip.scalar_type(), true, deterministic, face_id.numel() * 3);
    launch_fill<0>(device, fills);
    const BatchMesh<T> mesh{data<T>(clip), data<int32_t>(faces), batch, clip.size(1), faces.size(0), int32_t(height), int32_t(width), 0};
    if (face_id.numel()) {
      const PatchGrid patches(device, height, width, batch);
      const auto run = [&](auto mode, auto by_warps) {
        LAUNCH_AFTER((fragments_backward<T, decltype(mode)::mode, decltype(by_warps)::value>), patches.grid, kSumBlock, device, mesh, patches.patches,
               grad_bary_ ? data<T>(grad_bary) : nullptr, grad_depth_ ? data<T>(grad_depth) : nullptr, data<int32_t>(face_id), layers, out.sums());
        device.launched();
      };
      sum_by_warps<T>(deterministic, run);
      out.finish(device);
    }
    result = out.values;
  });
  return result;
}

}  // namespace

CUDA_LIBRARY(m) {
  m.impl("rasterize", TORCH_BOX(&rasterize_cuda));
  m.impl("rasterize_backward", TORCH_BOX(&rasterize_backward_cuda));
}

}  // namespace facerender
