// The visibility pass of a batch on CUDA: which face is visible at each pixel, the part of rasterization that
// `rasterize` and `render_face` share. Read by rasterize_cuda.cu and fused_cuda.cu.
//
// At training resolutions most triangles of a face mesh cover no pixel center or one, and the pass is bound by
// instructions, not memory. A warp takes one work item, a meshlet in one image, draws it (draw_meshlets.cuh) and then
// takes the next free one, because the time for an item depends on the pixels that it covers. Warps never wait for each
// other. Triangles that would need more registers are deferred to a second kernel, draw_deferred.
#pragma once

#include <algorithm>

#include "draw_meshlets.cuh"

namespace facerender {

constexpr int32_t kDrawBlock = 128;
constexpr int kDrawBlocks = 8;  // per multiprocessor: 64 registers a thread

// The work items of a draw: `count` pairs of a meshlet of `triangles_each` triangles and an image, all meshlets of one
// image before those of the next. A warp's first item is that of its own number; it takes further ones from a counter.
struct WorkItems {
  int32_t triangles_each, meshlets;
  uint32_t count;
  const Meshlet* built;
  int32_t use_meshlets;  // 0: items of at most 32 triangles with three vertices each, and no meshlets are built
  uint32_t* next;        // the counter, which starts at ~0

  // The number of items taken before, less 1. atomicInc, because ptxas would combine the atomicAdd of a warp's lanes
  // and wait for the result here; its wrap-around at `count` is never reached.
  __device__ uint32_t take() const {
#ifdef __CUDA_ARCH__
    return atomicInc(next, count);
#else
    return atomicAdd(next, 1u);
#endif
  }
};

template <class T, bool kPeel>
__global__ void __launch_bounds__(kDrawBlock, sizeof(T) == 4 ? kDrawBlocks - kPeel : 4)
    draw(BatchMesh<T> mesh, Orientation drawn, VisibilityKeys<kPeel> keys, DeferredMask deferred, WorkItems items) {
  constexpr int32_t kWarps = kDrawBlock / kWarp;
  __shared__ WarpTriangles<T> per_warp[kWarps];
  static_assert(sizeof(per_warp) < 1 << 16, "CornerOffsets has 16 bits per offset");
  pdl_trigger();
  const char* const block = reinterpret_cast<const char*>(per_warp);
  WarpTriangles<T>& s = per_warp[threadIdx.x / kWarp];
  const int32_t lane = int32_t(threadIdx.x % kWarp);
  const uint32_t warps = gridDim.x * kWarps;
  uint32_t queued = 0;
  for (uint32_t item = blockIdx.x * kWarps + threadIdx.x / kWarp; item < items.count;) {
    uint32_t next = items.count;
    if (items.count > warps) {
      pdl_wait();
      if (lane == 0) next = items.take();
    }
    const int32_t image = int32_t(item / uint32_t(items.meshlets)), meshlet = int32_t(item) - image * items.meshlets,
                  begin = meshlet * items.triangles_each;
    const int32_t end =
        mesh.num_faces - begin < items.triangles_each ? int32_t(mesh.num_faces) : begin + items.triangles_each;
    bool use_meshlet = items.use_meshlets;
    for (int32_t first = begin; first < end;) {
      uint32_t vertex[WarpTriangles<T>::kGroups];
      int32_t count = end - first, vertices = 0;
      if (use_meshlet) {
        pdl_wait();
        vertices = s.load_meshlet(items.built[meshlet], block, count, vertex, lane);
        use_meshlet = vertices <= kMeshletVertices;
      }
      if (!use_meshlet) {
        count = count < int32_t(kWarp) ? count : int32_t(kWarp);
        vertices = s.load_triangles(mesh, block, first, count, vertex, lane);
      }
      if (vertices) {
        const bool outside =
            s.project(mesh, launder(mesh.clip + int64_t(image) * mesh.num_vertices * 4), vertex, vertices, lane);
        pdl_wait();
        queued = s.draw_meshlet(mesh, block, drawn, keys, deferred, image, first, count, outside, queued, lane);
      }
      first += count;
    }
    item = warps + 1 + __shfl_sync(kAllLanes, next, 0);
  }
  s.drain_queues(mesh, drawn, keys, queued, true, lane);
  pdl_wait();
}

// Draws the deferred triangles. A thread looks at 64 bits of the mask, and a warp draws a triangle; in large images
// several warps (gridDim.z) share the rows of one.
template <class T, bool kPeel>
__global__ void __launch_bounds__(kBlock)
    draw_deferred(BatchMesh<T> mesh, VisibilityKeys<kPeel> all, DeferredMask deferred) {
  const int64_t pixels = int64_t(mesh.height) * mesh.width, pairs = deferred.words / 2;
  const int32_t lane = int32_t(threadIdx.x % kWarp), stripe = int32_t(blockIdx.z), stripes = int32_t(gridDim.z);
  pdl_trigger();
  pdl_wait();
  for (int64_t first = global_thread_id() - lane; first < mesh.batch * pairs; first += int64_t(gridDim.x) * kBlock) {
    const unsigned long long bits = first + lane < mesh.batch * pairs
                                        ? ~reinterpret_cast<const unsigned long long*>(deferred.bits)[first + lane]
                                        : 0;
    for (uint32_t lanes = __ballot_sync(kAllLanes, bits != 0); lanes; lanes &= lanes - 1) {
      const int32_t owner = __ffs(int(lanes)) - 1;
      const int64_t n = (first + owner) / pairs;
      const VisibilityKeys<kPeel> keys = all.image(n, pixels);
      for (unsigned long long faces_left = __shfl_sync(kAllLanes, bits, owner); faces_left;
           faces_left &= faces_left - 1) {
        const int32_t face = int32_t((first + owner - n * pairs) * 64) + (__ffsll(int64_t(faces_left)) - 1);
        Corners f;
        load_corners(mesh.faces, face, mesh.num_vertices, f);
        Vec4<T> clip[3];
        ScreenVertex<T> v[3];
        for (int i = 0; i < 3; ++i) {
          clip[i] = load4(mesh.clip + (n * mesh.num_vertices + f.v[i]) * 4);
          v[i] = screen_vertex<T, int32_t>(clip[i].x, clip[i].y, clip[i].z, clip[i].w, mesh.width, mesh.height);
        }
        if (v[0].first_center == kInvalidVertex || v[1].first_center == kInvalidVertex ||
            v[2].first_center == kInvalidVertex)
          continue;
        if (needs_homogeneous(v[0].first_center, v[1].first_center, v[2].first_center)) {
          draw_homogeneous_by_warp(mesh, clip, face, keys, lane, stripe, stripes);
        } else {
          const Box box = center_box(v[0].first_center, v[1].first_center, v[2].first_center);
          draw_box_by_warp(mesh, triangle_setup<T, int64_t>(v[0], v[1], v[2], box, mesh.cull), box, face, keys, lane,
                           stripe, stripes);
        }
      }
    }
  }
}

// Fills memory with ones and, in its first blocks, builds the meshlets.
template <class T>
__global__ void __launch_bounds__(kBlock)
    prepare(const __grid_constant__ FillList fills, BatchMesh<T> mesh, WorkItems items, Meshlet* built) {
  constexpr int32_t kWarps = kBlock / kWarp;
  __shared__ MeshletBuilder per_warp[kWarps];
  pdl_trigger();
  pdl_wait();
  const int32_t builders = (items.meshlets + kWarps - 1) / kWarps;
  if (int32_t(blockIdx.x) >= builders)
    return fill_ranges<~0u>(fills, int32_t(blockIdx.x) - builders, int32_t(gridDim.x) - builders);
  const int32_t meshlet = int32_t(blockIdx.x * kWarps + threadIdx.x / kWarp), first = meshlet * items.triangles_each;
  if (meshlet < items.meshlets)
    per_warp[threadIdx.x / kWarp].build(
        mesh, first,
        mesh.num_faces - first < items.triangles_each ? int32_t(mesh.num_faces) - first : items.triangles_each,
        built[meshlet], int32_t(threadIdx.x % kWarp));
}

constexpr int64_t kMinImagesForMeshlets = 3;  // with fewer images, building meshlets costs more than it saves
constexpr int64_t kMinItemsPerWarp = 3;       // else smaller meshlets
constexpr int64_t kLargeTrianglePixels = 64;  // image pixels per triangle, above which most boxes are large
constexpr int64_t kMaxPdlPixels = 1 << 18;    // above, overlapping kernels is slower; see docs/notes/kernels.md

// Runs the visibility pass of a batch part by part, and owns its memory. The keys of a part fit into half of the L2
// cache, so the kernel that reads them finds them there, and all parts reuse one part's memory.
template <class T>
class VisibilityPass {
 public:
  // layers: whether there is more than one depth layer.
  VisibilityPass(const Device& device, const Tensor& like, const BatchMesh<T>& mesh, bool layers)
      : device_(device), mesh_(mesh), pixels_(int64_t(mesh.height) * mesh.width) {
    const int64_t fit = std::min<int64_t>(device.l2_bytes() / 16 / std::max<int64_t>(pixels_, 1),
                                          (int64_t(1) << 31) / (mesh.num_faces / 4 + 1));
    const int64_t parts = (mesh.batch + std::max<int64_t>(fit, 1) - 1) / std::max<int64_t>(fit, 1);
    part_ = parts ? (mesh.batch + parts - 1) / parts : 0;
    device.allow_pdl = part_ * pixels_ <= kMaxPdlPixels;
    // Items for as many warps as the device holds at a time. In a triangle strip, 124 triangles have 126 to 128
    // vertices, which is four per lane; 60 have 62 or 64, and 28 have 30 or 32. Meshlets of four triangles are for
    // large triangles, which a warp draws one by one.
    warps_ = std::max<int64_t>(device.multiprocessors() * kDrawBlocks * (kDrawBlock / kWarp), 6);
    use_meshlets_ = part_ >= kMinImagesForMeshlets;
    for (const int32_t each : {124, 60, 28, 4}) {
      if (each == 4 ? pixels_ <= kLargeTrianglePixels * mesh.num_faces : each > int32_t(kWarp) && !use_meshlets_)
        continue;
      triangles_each_ = each == 28 && !use_meshlets_ ? int32_t(kWarp) : each,
      num_meshlets_ = (mesh.num_faces + triangles_each_ - 1) / triangles_each_;
      if (num_meshlets_ * part_ >= kMinItemsPerWarp * warps_) break;
    }
    words_ = (mesh.num_faces + 2 * kWarp - 1) / (2 * kWarp);
    size_ = (part_ * (pixels_ + words_) + 1 + 1) / 2 * 2;
    memory_ =
        empty(like, {(layers ? 2 : 1) * size_ + (use_meshlets_ ? num_meshlets_ * int64_t(sizeof(Meshlet)) / 8 : 0)},
              ScalarType::Long);
    keys_ = static_cast<uint64_t*>(memory_.mutable_data_ptr());
    meshlets_ = reinterpret_cast<Meshlet*>(keys_ + (layers ? 2 : 1) * size_);
  }

  // Calls run(part, n) for each part of the batch; n: its first image.
  template <class F>
  void in_parts(const F& run) {
    for (int64_t n = 0; n < mesh_.batch; n += part_) {
      BatchMesh<T> part = mesh_;
      part.clip += n * mesh_.num_vertices * 4, part.batch = std::min(part_, mesh_.batch - n);
      run(part, n);
    }
  }

  // Launches the pass for one depth layer of a part, after that for the layer in front. Returns its keys [N,H,W].
  const uint64_t* find(const BatchMesh<T>& part, int64_t layer = 0) {
    uint64_t* const keys = keys_ + layer % 2 * size_;
    const int64_t count = part.batch * (pixels_ + words_);  // keys and masks; the counter of work items follows
    WorkItems items{triangles_each_, int32_t(num_meshlets_), uint32_t(num_meshlets_ * part.batch),
                    meshlets_,       use_meshlets_,          reinterpret_cast<uint32_t*>(keys + count)};
    FillList fills;
    fills.add(keys, count + 1);
    if (use_meshlets_ && !ready_) {
      const int64_t builders = (num_meshlets_ + kBlock / kWarp - 1) / (kBlock / kWarp);
      LAUNCH_PDL((prepare<T>), unsigned(builders + fill_blocks(device_, fills)), kBlock, device_, fills, part, items,
                 meshlets_);
      device_.launched();
      ready_ = true;
    } else {
      launch_fill<~0u>(device_, fills);
    }
    const DeferredMask deferred{reinterpret_cast<uint32_t*>(keys + part.batch * pixels_), 2 * words_};
    if (layer)
      launch(part, VisibilityKeys<true>{keys, keys_ + (layer + 1) % 2 * size_}, deferred, items);
    else
      launch(part, VisibilityKeys<false>{keys, nullptr}, deferred, items);
    return keys;
  }

 private:
  const Device& device_;
  BatchMesh<T> mesh_;
  int64_t pixels_, part_, warps_, num_meshlets_ = 0, words_, size_;
  int32_t triangles_each_;
  bool use_meshlets_, ready_ = false;
  Tensor memory_;
  uint64_t* keys_;
  Meshlet* meshlets_;

  template <bool kPeel>
  void launch(const BatchMesh<T>& part, const VisibilityKeys<kPeel>& keys, const DeferredMask& deferred,
              const WorkItems& items) {
    if (items.count == 0) return;
    constexpr int64_t kWarps = kDrawBlock / kWarp;
    LAUNCH_PDL((draw<T, kPeel>), unsigned((std::min<int64_t>(items.count, warps_) + kWarps - 1) / kWarps), kDrawBlock,
               device_, part, Orientation(part.cull), keys, deferred, items);
    dim3 grid = grid_for(words_ * part.batch, 1);
    grid.x = std::min(grid.x, unsigned(std::max<int64_t>(2 * device_.multiprocessors(), 1)));
    grid.z = unsigned(std::clamp<int64_t>(pixels_ >> 16, 1, 16));
    LAUNCH_PDL((draw_deferred<T, kPeel>), grid, kBlock, device_, part, keys, deferred);
    device_.launched();
  }
};

}  // namespace facerender
