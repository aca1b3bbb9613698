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
    VisibilityBuffers keys;
    if (face_id.numel() == 0) return;
    in_parts(device, mesh, [&](const BatchMesh<T>& part, int64_t n) {
      keys.hold(clip, part, layers > 1);
      const int64_t o = n * pixels * layers;
      for (int64_t k = 0; k < layers; ++k) {
        find_visible(device, part, k ? keys.of[(k + 1) % 2] : nullptr, keys.of[k % 2]);
        T* const to = want_bary ? mutable_data<T>(bary) + 3 * o : nullptr;
        LAUNCH_AFTER((resolve<T>), grid_of_tiles(height, width, part.batch), kBlock, device, part, keys.of[k % 2], layers, k, mutable_data<int32_t>(face_id) + o, to, mutable_data<T>(depth) + o,
               layers == 1 && whole_rows(to, width));
        device.launched();
      }
    });
  });
  return {face_id, bary, depth};
}

// kWarps: a warp that sees few faces sums them first, and sums without an order go out by neighbouring lanes. Where it sees many, four numbers of a vertex go out as one.
template <class T, Mode mode, bool kWarps>
__global__ void __launch_bounds__(kSumBlock, kWarps ? 14 : 8)
    fragments_backward(BatchMesh<T> mesh, int32_t strips, const T* grad_bary, const T* grad_depth, const int32_t* face_id, int64_t layers, VertexSums<T> out) {
  constexpr int kFewFaces = 10;
  __shared__ StripIds ids;
  const TilePixel first = strip_pixel(mesh.height, mesh.width, strips, 0);
  for (int64_t n = blockIdx.z; n < mesh.batch; n += gridDim.z) {
    const T* const positions = mesh.clip + n * mesh.num_vertices * 4;
    VertexSums<T> image = out;
    image.values += n * mesh.num_vertices * 4, image.fixed += n * mesh.num_vertices * 4;
    for (int64_t layer = 0; layer < layers; ++layer) {
      const int64_t at = ((n * mesh.height + first.row) * mesh.width + first.col) * layers + layer;
      uint32_t live = ids.look(strips, face_id + at, kStripWidth * layers, [&](int k) { return first.row < mesh.height && first.col + k * kStripWidth < mesh.width; });
      // What the first strip that sees a face needs; later that of the next one, while the one before it is summed.
      int32_t next = -1;
      Three<int32_t> face;
      Three<T> to_bary;
      T to_depth = T(0);
      const auto load_next = [&] {
        const int k = __ffs(int(live)) - 1;
        next = ids.at(k);
        if (next < 0 || next >= mesh.num_faces) return void(next = -1);
        face.start(mesh.faces + int64_t(next) * 3);
        const int64_t fragment = at + k * kStripWidth * layers;
        if (grad_bary) to_bary.start(grad_bary + 3 * fragment);
        if (grad_depth) to_depth = grad_depth[fragment];
      };
      if (live) load_next();
      wait_for_previous();
      UNROLL_NOT
      while (live) {
        const int32_t id = next, col = first.col + (__ffs(int(live)) - 1) * kStripWidth;
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
      const StripGrid strips(device, height, width, batch);
      const auto run = [&](auto mode, auto by_warps) {
        LAUNCH_AFTER((fragments_backward<T, decltype(mode)::mode, decltype(by_warps)::value>), strips.grid, kSumBlock, device, mesh, strips.strips,
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
