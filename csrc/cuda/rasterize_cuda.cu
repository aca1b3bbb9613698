// rasterize on CUDA: a kernel that turns the visibility buffer into face ids, barycentrics and depth (resolve), and the
// gradient of the latter two (fragments_backward). The mathematics is in ../raster.h.
#include "tiles.cuh"
#include "visibility.cuh"
#include "warp_sums.cuh"

namespace facerender {
namespace {

// Staged face ids, and depths. A depth of 4 bytes takes the place of its id when its tile is resolved.
template <class T, int kTiles>
union StagedPixels {
  int32_t ids[4][kTilePitch<kTiles, 1, 4>];
  T depth[4][kTilePitch<kTiles, 1, 4>];
};
template <int kTiles>
union StagedPixels<double, kTiles> {
  struct {
    int32_t ids[4][kTilePitch<kTiles, 1, 4>];
    double depth[4][kTilePitch<kTiles, 1, 8>];
  };
};

template <class T>
constexpr int resolve_blocks() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if (sizeof(T) == 4) return 12;
#endif
  return 6;
}

// Visibility keys of one layer to the outputs of rasterize. `aligned`: whether rows_aligned holds for all of them.
template <class T, int kTiles>
__global__ void __launch_bounds__(kTileBlock, resolve_blocks<T>())
    resolve(BatchMesh<T> mesh, const uint64_t* keys, int64_t layers, int64_t layer, int32_t* face_id, T* bary, T* depth,
            bool aligned) {
  using Tiles = TileRow<kTiles>;
  struct alignas(16) Memory {
    T bary[4][kTilePitch<kTiles, 3, sizeof(T)>];
    StagedPixels<T, kTiles> staged;
  };
  __shared__ Memory memories[kTileWarps];
  Memory& memory = memories[threadIdx.x / kWarp];
  const Tiles tiles(mesh.height, mesh.width);
  const int64_t n = blockIdx.z, first = tiles.first_pixel(blockIdx.z), o = first * layers + layer;
  const bool want_bary = bary;
  keys = assume_global(launder(keys + first)), face_id = assume_global(launder(face_id + o)),
  depth = assume_global(launder(depth + o)), bary = launder(bary + o * 3);
  pdl_wait();
  int32_t id[kTiles];
  const bool visible = tiles.load_face_ids(keys, id);
  if (visible) {
    UNROLL
    for (int j = 0; j < kTiles; ++j) memory.staged.ids[tiles.row_of(j)][tiles.col_of()] = id[j];
    __syncwarp();
  }
  if (aligned) {
    tiles.template store<1>(face_id, memory.staged.ids, visible, -1);
  } else {
    UNROLL
    for (int j = 0; j < kTiles; ++j)
      if (tiles.inside(j)) face_id[tiles.pixel(j) * layers] = id[j];
  }
  if (visible) {
    __syncwarp();
    const T* const clip = assume_global(launder(mesh.clip + n * mesh.num_vertices * 4));
    const int32_t* const faces = assume_global(launder(mesh.faces));
    const int32_t row = tiles.lane / 8, first_col = tiles.lane % 8;
    const auto prefetch_corners = [&](int32_t face) {
      return face >= 0 ? prefetch3(faces, face) : Prefetched3<int32_t>{0, 0, 0};
    };
    int32_t face = kTiles == 1 ? id[0] : memory.staged.ids[row][first_col];
    Prefetched3<int32_t> f = prefetch_corners(face);
    NO_UNROLL
    for (int32_t begin = 0; begin < Tiles::kWidth; begin += 8) {
      const int32_t col = begin + first_col, next = begin + 8 < Tiles::kWidth ? memory.staged.ids[row][col + 8] : -1;
      const Prefetched3<int32_t> following = prefetch_corners(next);  // in flight while this tile is resolved
      T b[3] = {T(0), T(0), T(0)}, d = T(1);
      if (face >= 0) {
        const Vec3<int32_t> v = finish_prefetch3<int32_t>(f, faces, face);
        const Vec4<T> corner[3] = {load4(clip + int64_t(v.x) * 4), load4(clip + int64_t(v.y) * 4),
                                   load4(clip + int64_t(v.z) * 4)};
        const Barycentrics<T> pixel(corner, tiles.col + col, tiles.row + row, tiles.width, tiles.height);
        b[0] = pixel.b[0], b[1] = pixel.b[1], b[2] = pixel.b[2];
        d = interpolated_depth(corner, pixel.b);
      }
      T* const to = memory.bary[row] + 3 * col;
      to[0] = b[0], to[1] = b[1], to[2] = b[2];
      memory.staged.depth[row][col] = d;
      face = next, f = following;
    }
    __syncwarp();
  }
  if (aligned) {
    tiles.template store<1>(depth, memory.staged.depth, visible, T(1));
    if (want_bary) tiles.template store<3>(assume_global(bary), memory.bary, visible, T(0));
  } else {
    NO_UNROLL
    for (int j = 0; j < kTiles; ++j)
      if (tiles.inside(j)) {
        const int64_t at = tiles.pixel(j) * layers;
        depth[at] = visible ? memory.staged.depth[tiles.row_of(j)][tiles.col_of()] : T(1);
        if (want_bary)
          for (int c = 0; c < 3; ++c)
            bary[3 * at + c] = visible ? memory.bary[tiles.row_of(j)][3 * tiles.col_of() + c] : T(0);
      }
  }
}

std::tuple<Tensor, Tensor, Tensor> rasterize_cuda(const Tensor& clip_, const Tensor& faces_, int64_t height,
                                                  int64_t width, int64_t cull, int64_t layers, bool want_bary) {
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
    const BatchMesh<T> mesh{data<T>(clip), data<int32_t>(faces), batch,          clip.size(1),
                            faces.size(0), int32_t(height),      int32_t(width), cull};
    if (face_id.numel() == 0) return;
    VisibilityPass<T> visibility(device, clip, mesh, layers > 1);
    visibility.in_parts([&](const BatchMesh<T>& part, int64_t n) {
      const int64_t o = n * pixels * layers;
      for (int64_t k = 0; k < layers; ++k) {
        const uint64_t* const keys = visibility.find(part, k);
        launch_by_tiles(device, height, width, part.batch, [&](auto tiles, int64_t first, int64_t images) {
          constexpr int kTiles = decltype(tiles)::value;
          const int64_t at = o + first * pixels * layers;
          BatchMesh<T> mesh_part = part;
          mesh_part.clip += first * part.num_vertices * 4;
          int32_t* const ids = mutable_data<int32_t>(face_id) + at;
          T* const to = want_bary ? mutable_data<T>(bary) + 3 * at : nullptr;
          T* const depths = mutable_data<T>(depth) + at;
          LAUNCH_PDL((resolve<T, kTiles>), grid_for_tiles<kTiles>(height, width, images), kTileBlock, device, mesh_part,
                     keys + first * pixels, layers, k, ids, to, depths,
                     layers == 1 && rows_aligned(ids, width) && rows_aligned(to, width) && rows_aligned(depths, width));
        });
        device.launched();
      }
    });
  });
  return {face_id, bary, depth};
}

// Blocks of fragments_backward per multiprocessor: as many as possible without register spills.
constexpr int fragment_blocks(bool staged) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
  if (staged) return 12;
#endif
  return staged ? 14 : 8;
}

// The gradient of clip, given those of barycentrics and depth. kStaged: a warp with few visible faces sums by faces,
// and reproducible sums add by corners (warp_sums.cuh). A warp with many adds four numbers with one 16-byte atomic.
template <class T, SumMode mode, bool kStaged>
__global__ void __launch_bounds__(kSumBlock, fragment_blocks(kStaged))
    fragments_backward(BatchMesh<T> mesh, int32_t patches, const T* grad_bary, const T* grad_depth,
                       const int32_t* face_id, int64_t layers, VertexSums<T> out) {
  constexpr int kMaxFacesToSort = 10;
  __shared__ PatchIds ids;
  const PatchPixel first = patch_pixel(mesh.height, mesh.width, patches, 0);
  for (int64_t n = blockIdx.z; n < mesh.batch; n += gridDim.z) {
    const T* const positions = mesh.clip + n * mesh.num_vertices * 4;
    VertexSums<T> image = out;
    image.values += n * mesh.num_vertices * 4, image.fixed += n * mesh.num_vertices * 4;
    for (int64_t layer = 0; layer < layers; ++layer) {
      const int64_t at = ((n * mesh.height + first.row) * mesh.width + first.col) * layers + layer;
      uint32_t live = ids.load(patches, face_id + at, kPatchWidth * layers, [&](int k) {
        return first.row < mesh.height && first.col + k * kPatchWidth < mesh.width;
      });
      // Inputs of the first patch in which the warp has a visible face; later those of the next one, in flight while
      // the previous one is summed.
      int32_t next = -1;
      Vec3<int32_t> face{};
      Vec3<T> pixel_grad_bary{};
      T pixel_grad_depth = T(0);
      const auto load_next = [&] {
        const int k = __ffs(int(live)) - 1;
        next = ids.at(k);
        if (next < 0 || next >= mesh.num_faces) return void(next = -1);
        face = load3_plain(mesh.faces + int64_t(next) * 3);
        const int64_t fragment = at + k * kPatchWidth * layers;
        if (grad_bary) pixel_grad_bary = load3_plain(grad_bary + 3 * fragment);
        if (grad_depth) pixel_grad_depth = grad_depth[fragment];
      };
      if (live) load_next();
      pdl_wait();
      NO_UNROLL
      while (live) {
        const int32_t id = next, col = first.col + (__ffs(int(live)) - 1) * kPatchWidth;
        const Corners f{face.x, face.y, face.z};
        const bool visible = id >= 0 && indices_valid(f, mesh.num_vertices), any = __ballot_sync(kAllLanes, visible);
        Vec4<T> grad[3];
        if (visible)
          fragment_backward(positions, f.v, first.row, col, mesh.height, mesh.width, pixel_grad_bary, pixel_grad_depth,
                            grad);
        live &= live - 1;
        if (live) load_next();
        if constexpr (kStaged) {
          if (!any) continue;
          __shared__ WarpVertexSums<4, 4> memories[kSumBlock / kWarp];
          WarpVertexSums<4, 4>& sums = memories[threadIdx.x / kWarp];
          const PixelOrder order = mode == kFixedPoint ? PixelOrder() : PixelOrder(visible, id, kMaxFacesToSort);
          if (mode == kFixedPoint || order.face_ends) {
            sums.begin(order, visible, f);
            if (visible)
              for (int i = 0; i < 3; ++i) {
                sums.put(order.slot, i, 0, grad[i].x), sums.put(order.slot, i, 1, grad[i].y);
                sums.put(order.slot, i, 2, grad[i].z), sums.put(order.slot, i, 3, grad[i].w);
              }
            __syncwarp();
            if constexpr (mode == kFixedPoint)
              sums.template sum_by_corners<0>([&](int, int32_t c, const int32_t* v, const float* values) {
                for (int i = 0; i < 3; ++i) add_to<T, mode>(image, int64_t(v[i]) * 4 + c, values[i]);
              });
            else
              sums.sum_by_faces(order.face_ends, [&](int, int32_t c, int32_t& stride) {
                stride = 4;
                return image.values + c;
              });
            __syncwarp();
            continue;
          }
        }
        if (visible)
          for (int c = 0; c < 3; ++c) add4<T, mode>(image, f.v[c], grad[c]);
      }
    }
    publish_warp_max<T, mode>(image);
  }
}

Tensor rasterize_backward_cuda(const std::optional<Tensor>& grad_bary_, const std::optional<Tensor>& grad_depth_,
                               const Tensor& clip_, const Tensor& faces_, const Tensor& face_id_, bool deterministic) {
  const Tensor clip = aligned(clip_), faces = as_contiguous(faces_), face_id = as_contiguous(face_id_);
  check_mesh(clip, 4, faces), check_ids(face_id),
      check(face_id.dim() == 4, "facerender: rasterize_backward takes face ids [N,H,W,K]");
  const Tensor grad_bary = grad_bary_ ? as_contiguous(*grad_bary_) : clip,
               grad_depth = grad_depth_ ? as_contiguous(*grad_depth_) : clip;
  check_same_device(clip, faces, face_id, grad_bary, grad_depth);
  const Device device(clip);
  const int64_t batch = clip.size(0), height = face_id.size(1), width = face_id.size(2), layers = face_id.size(3);
  check(face_id.size(0) == batch && (!grad_bary_ || grad_bary.numel() == face_id.numel() * 3) &&
            (!grad_depth_ || grad_depth.numel() == face_id.numel()) && grad_bary.scalar_type() == clip.scalar_type() &&
            grad_depth.scalar_type() == clip.scalar_type(),
        "facerender: rasterize_backward got shapes that do not fit");
  Tensor result;
  dispatch_geometry(clip.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    FillList fills;
    const GradientBuffer<T> out(fills, clip, {batch, clip.size(1), 4}, clip.scalar_type(), true, deterministic,
                                face_id.numel() * 3);
    launch_fill<0>(device, fills);
    const BatchMesh<T> mesh{data<T>(clip), data<int32_t>(faces), batch,          clip.size(1),
                            faces.size(0), int32_t(height),      int32_t(width), 0};
    if (face_id.numel()) {
      const PatchGrid patches(device, height, width, batch);
      const auto run = [&](auto mode, auto staged) {
        LAUNCH_PDL((fragments_backward<T, decltype(mode)::mode, decltype(staged)::value>), patches.grid, kSumBlock,
                   device, mesh, patches.patches, grad_bary_ ? data<T>(grad_bary) : nullptr,
                   grad_depth_ ? data<T>(grad_depth) : nullptr, data<int32_t>(face_id), layers, out.sums());
        device.launched();
      };
      accumulate_by_warp<T>(deterministic, run);
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
