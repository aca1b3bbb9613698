#include "visibility.cuh"
#include "warp_sums.cuh"

namespace facerender {
namespace {

template <class T>
__global__ void __launch_bounds__(kBlock) resolve(BatchMesh<T> mesh, const uint64_t* keys, int64_t layers, int64_t layer, int32_t* face_id, T* bary, T* depth, bool rows) {
  const TilePixel p = tile_pixel(mesh.height, mesh.width);
  wait_for_previous();
  for (int64_t n = blockIdx.z; n < mesh.batch; n += gridDim.z) {
    const int64_t at = (n * mesh.height + p.row) * mesh.width + p.col, o = at * layers + layer;
    const int32_t face = p.inside ? key_face(keys[at]) : -1;
    T b[3] = {T(0), T(0), T(0)}, d = T(1);
    if (face >= 0) {
      const Vec3<int32_t> f = load3<int32_t>(mesh.faces + int64_t(face) * 3);
      const T* base = mesh.clip + n * mesh.num_vertices * 4;
      const Vec4<T> clip[3] = {load4(base + int64_t(f.x) * 4), load4(base + int64_t(f.y) * 4), load4(base + int64_t(f.z) * 4)};
      const Barycentrics<T> pixel(clip, p.col, p.row, mesh.width, mesh.height);
      b[0] = pixel.b[0], b[1] = pixel.b[1], b[2] = pixel.b[2];
      d = interpolated_depth(clip, pixel.b);
    }
    if (p.inside) face_id[o] = face, depth[o] = d;
    if (!bary) continue;
    if (layers == 1)
      put_pixels(bary + n * mesh.height * mesh.width * 3, Vec3<T>{b[0], b[1], b[2]}, p, mesh.height, mesh.width, rows);
    else if (p.inside)
      bary[3 * o] = b[0], bary[3 * o + 1] = b[1], bary[3 * o + 2] = b[2];
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
        T* const to = want_bary ? mutable_data<T>(bary) + 3 * o : nullptr;
        LAUNCH_AFTER((resolve<T>), grid_of_tiles(height, width, part.batch), kBlock, device, part, keys, layers, k, mutable_data<int32_t>(face_id) + o, to, mutable_data<T>(depth) + o,
                     layers == 1 && whole_rows(to, width));
        device.launched();
      }
    });
  });
  return {face_id, bary, depth};
}

// kWarps: a warp that sees few faces sums them first, and sums without an order go out by neighbouring lanes. Where it sees many, four numbers of a vertex go out as one, and to look for vertices that its pixels share takes longer.
template <class T, Mode mode, bool kWarps>
__global__ void __launch_bounds__(kBlock, kWarps ? 4 : 2)
    fragments_backward(BatchMesh<T> mesh, const T* grad_bary, const T* grad_depth, const int32_t* face_id, int64_t layers, VertexSums<T> out) {
  const TilePixel p = tile_pixel(mesh.height, mesh.width);
  for (int64_t n = blockIdx.z; n < mesh.batch; n += gridDim.z) {
    VertexSums<T> image = out;
    image.values += n * mesh.num_vertices * 4, image.fixed += n * mesh.num_vertices * 4;
    for (int64_t layer = 0; layer < layers; ++layer) {
      const int64_t at = ((n * mesh.height + p.row) * mesh.width + p.col) * layers + layer;
      const int32_t id = p.inside ? face_id[at] : -1;
      Corners f;
      const bool seen = seen_corners(mesh.faces, id, mesh.num_faces, mesh.num_vertices, f);
      wait_for_previous();
      if (kWarps && !__ballot_sync(kAllLanes, seen)) continue;
      Vec4<T> grad[3];
      if (seen)
        fragment_backward(mesh.clip + n * mesh.num_vertices * 4, f.v, p.row, p.col, mesh.height, mesh.width, grad_bary ? grad_bary + 3 * at : nullptr,
                          grad_depth ? grad_depth + at : nullptr, grad);
      if constexpr (kWarps) {
        __shared__ WarpSums<4, 4> memories[kBlock / kWarp];
        WarpSums<4, 4>& sums = memories[threadIdx.x / kWarp];
        const SeenFaces faces(seen, id);
        if (mode == kFixed || faces.few()) {
          sums.enter(seen, f);
          if (seen)
            for (int i = 0; i < 3; ++i) sums.put(i, 0, grad[i].x), sums.put(i, 1, grad[i].y), sums.put(i, 2, grad[i].z), sums.put(i, 3, grad[i].w);
          if constexpr (mode == kFixed)
            sums.each_corner([&](int, int32_t vertex, int32_t c, float value) { add_to<T, mode>(image, int64_t(vertex) * 4 + c, value); });
          else
            sums.by_faces(faces, [&](int, int32_t c, int32_t& stride) {
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
      const auto run = [&](auto mode, auto by_warps) {
        LAUNCH_AFTER((fragments_backward<T, decltype(mode)::mode, decltype(by_warps)::value>), grid_of_tiles(height, width, batch), kBlock, device, mesh,
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
