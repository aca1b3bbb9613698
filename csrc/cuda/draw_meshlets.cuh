// How one warp draws a meshlet in one image; the core of the CUDA visibility pass. Called by the kernel `draw`
// (visibility.cuh).
//
// The warp projects the meshlet's vertices into shared memory and sorts its triangles by the number of pixel centers in
// their bounding boxes. None: dropped. One or two: listed, and each lane tests one pixel. Up to 15 columns and rows:
// queued until 32 are waiting, then one lane draws one triangle. Larger: drawn by the whole warp. Too wide for 32-bit
// edge functions or in need of the homogeneous path: deferred (DeferredMask).
#pragma once

#include "meshlets.cuh"

namespace facerender {

// Bits of a packed box size (columns, rows in the upper half): 16 columns or rows and more.
constexpr uint32_t kLargeBox = 0xFFF0FFF0u;

// The shared memory of a warp: the meshlet at hand, and the queues, which persist from one meshlet to the next.
template <class T>
struct WarpTriangles {
  static constexpr int32_t kQueue = 96;
  struct alignas(16) QueuedCorners {
    uint32_t corner[3];  // relative to the center of the box's first pixel; y in the upper half
    uint32_t pixel;      // index of that pixel in the whole batch
  };
  struct alignas(16) QueuedDepth {
    T z[3];
    int32_t face;
  };
  static constexpr int kGroups = kMeshletVertices / kWarp;  // vertices per lane

  PackedVertex<T> screen[kMeshletVertices];
  CornerOffsets corner[kMeshletTriangles];  // from the start of the block's shared memory
  QueuedCorners queued_corners[kQueue];
  // Two queues that grow towards each other: boxes of up to 2x2 pixels from the start, larger ones from the end, so
  // that the lanes of a warp have similar work.
  QueuedDepth queued_depth[kQueue];
  uint32_t queued_size[kQueue];  // columns; rows in the upper half
  // Of the current meshlet: from the start, single pixels (the triangle's number; for the second pixel of a box of two,
  // plus kBeside or kBelow); from the end, numbers of triangles with larger boxes.
  static constexpr int32_t kWorkList = 2 * kMeshletTriangles;
  static constexpr uint32_t kBeside = 0x100, kBelow = 0x200;
  uint16_t work_list[kWorkList];

  static __device__ PackedVertex<T> vertex_at(const char* block, uint32_t offset) {
    return *reinterpret_cast<const PackedVertex<T>*>(block + offset);
  }
  static __device__ uint32_t first_center_at(const char* block, uint32_t offset) {
    return uint32_t(reinterpret_cast<const PackedVertex<T>*>(block + offset)->first_center);
  }
  __device__ void store_corners(const char* block, int32_t t, CornerOffsets offsets) {
    const uint32_t start = uint32_t(reinterpret_cast<const char*>(screen) - block);
    corner[t] = {offsets.first_two + start * 0x10001u, offsets.third + start};
  }

  // Loads the vertex indices of this lane (numbers lane, 32 + lane, ...) and the corner offsets: those of a meshlet, or
  // of up to 32 triangles whose vertices are taken as distinct. Return the number of vertices.
  __device__ int32_t load_meshlet(const Meshlet& meshlet, const char* block, int32_t count, uint32_t (&vertex)[kGroups],
                                  int32_t lane) {
    UNROLL
    for (int k = 0; k < kGroups; ++k) vertex[k] = meshlet.vertex[k * int32_t(kWarp) + lane];
    UNROLL
    for (int k = 0; k < kGroups; ++k)
      if (k * int32_t(kWarp) < count)
        store_corners(block, k * int32_t(kWarp) + lane, meshlet.corner[k * int32_t(kWarp) + lane]);
    return meshlet.vertices;
  }
  __device__ int32_t load_triangles(const BatchMesh<T>& mesh, const char* block, int32_t first, int32_t count,
                                    uint32_t (&vertex)[kGroups], int32_t lane) {
    Corners f;
    const bool valid = lane < count && load_corners(mesh.faces, first + lane, mesh.num_vertices, f);
    UNROLL
    for (int i = 0; i < 3; ++i) vertex[i] = valid ? uint32_t(f.v[i]) : 0;
    const uint32_t own = uint32_t(lane);
    store_corners(block, lane, valid ? corner_offsets<T>(own, kWarp + own, 2 * kWarp + own) : CornerOffsets{0, 0});
    return mesh.num_vertices ? 3 * int32_t(kWarp) : 0;
  }

  // Projects the vertices in one image. Returns whether a vertex lies outside the image or needs the homogeneous path:
  // then the size of a bounding box, which is clamped to the image, does not bound that of its triangle.
  __device__ bool project(const BatchMesh<T>& mesh, const T* clip, const uint32_t (&vertex)[kGroups], int32_t vertices,
                          int32_t lane) {
    uint32_t most_x = 0, most_y = 0, flags = 0;  // negative coordinates become very large ones
    // A constant number of vertices per lane without a branch between them, so that all loads are in flight at once.
    const auto project_group = [&](auto many, int begin = 0) {
      constexpr int kMany = decltype(many)::value;
      Vec4<T> p[kMany];
      UNROLL
      for (int k = 0; k < kMany; ++k) p[k] = load4(clip + uint64_t(vertex[begin + k]) * 4);
      UNROLL
      for (int k = 0; k < kMany; ++k) {
        const ScreenVertex<T> v =
            screen_vertex<T, int32_t, false>(p[k].x, p[k].y, p[k].z, p[k].w, mesh.width, mesh.height);
        screen[(begin + k) * int32_t(kWarp) + lane] = {v.x, v.y, v.first_center, v.z};
        most_x = most_x > uint32_t(v.x) ? most_x : uint32_t(v.x);
        most_y = most_y > uint32_t(v.y) ? most_y : uint32_t(v.y);
        flags |= uint32_t(v.first_center);
      }
    };
    static_assert(kGroups == 4);
    if constexpr (sizeof(T) == 8) {
      UNROLL
      for (int k = 0; k < kGroups; ++k)
        if (k * int32_t(kWarp) < vertices) project_group(std::integral_constant<int, 1>{}, k);
    } else if (vertices > 3 * int32_t(kWarp)) {
      project_group(std::integral_constant<int, 4>{});
    } else if (vertices > 2 * int32_t(kWarp)) {
      project_group(std::integral_constant<int, 3>{});
    } else if (vertices > int32_t(kWarp)) {
      project_group(std::integral_constant<int, 2>{});
    } else {
      project_group(std::integral_constant<int, 1>{});
    }
    const bool outside = most_x > uint32_t(mesh.width) << kSubpixelBits ||
                         most_y > uint32_t(mesh.height) << kSubpixelBits || (flags & uint32_t(kHomogeneousVertex));
    __syncwarp();
    return __ballot_sync(kAllLanes, outside);
  }
  static __device__ bool narrow(const PackedVertex<T>& a, const PackedVertex<T>& b, const PackedVertex<T>& c) {
    const int32_t wide = max3(a.x, b.x, c.x) - min3(a.x, b.x, c.x), high = max3(a.y, b.y, c.y) - min3(a.y, b.y, c.y);
    return wide < kNarrow * kSubpixels && high < kNarrow * kSubpixels;
  }

  // A queued triangle: the numbers of TriangleSetup, relative to the center of the box's first pixel. They are computed
  // anew, because TriangleSetup has three ties to add at every pixel. Here e1 and e2 include theirs from the start, and
  // `total` - e1 - e2 is e0 with its tie. A culled triangle has a negative area (Orientation) and so no rows.
  struct QueuedTriangle {
    int32_t dx1, dy1, dx2, dy2, tie1, tie2, total;
    int32_t first1, first2;  // e1 and e2 at the first pixel
    int32_t columns, rows, face;
    uint32_t pixel;
    T z0, slope1, slope2, inverse;

    __device__ QueuedTriangle(const QueuedCorners& q, const QueuedDepth& d, uint32_t size, Orientation drawn)
        : columns(int32_t(size & 0xFFFF)), face(d.face), pixel(q.pixel), z0(d.z[0]) {
      const auto x = [&](int i) { return int32_t(q.corner[i] << 16) >> 16; };
      const auto y = [&](int i) { return int32_t(q.corner[i]) >> 16; };
      const int32_t ax = x(0), ay = y(0), signed_area = (x(1) - ax) * (y(2) - ay) - (y(1) - ay) * (x(2) - ax),
                    o = drawn.sign(signed_area), area = o * signed_area;
      dx1 = o * (ax - x(2)), dy1 = o * (ay - y(2)), dx2 = o * (x(1) - ax), dy2 = o * (y(1) - ay);
      tie1 = tie_break(dx1, dy1), tie2 = tie_break(dx2, dy2),
      total = area + tie_break(-dx1 - dx2, -dy1 - dy2) + tie1 + tie2;
      first1 = dy1 * ax - dx1 * ay + tie1, first2 = dy2 * ax - dx2 * ay + tie2;
      rows = area > 0 ? int32_t(size >> 16) : 0;
      inverse = reciprocal(T(area)), slope1 = d.z[1] - d.z[0], slope2 = d.z[2] - d.z[0];
    }
    // `covers` as a number: 0 if the center is covered, else 1.
    __device__ uint32_t outside(int32_t e1, int32_t e2) const {
      return uint32_t(outside_sign(total - e1 - e2, e1, e2)) >> 31;
    }
    __device__ float depth(int32_t e1, int32_t e2) const {
      return float(plane_depth(z0, slope1, slope2, inverse, e1 - tie1, e2 - tie2));
    }
  };

  // Draws `count` <= 32 queued triangles, one per lane, 2x2 pixels at a time.
  template <class V>
  __device__ void draw_queued(const BatchMesh<T>& mesh, Orientation drawn, const V& keys, int32_t first, int32_t count,
                              int32_t lane) {
    __syncwarp();
    if (lane < count) {
      const QueuedTriangle t(queued_corners[first + lane], queued_depth[first + lane], queued_size[first + lane],
                             drawn);
      const int32_t right1 = t.dy1 << kSubpixelBits, right2 = t.dy2 << kSubpixelBits, down1 = t.dx1 << kSubpixelBits,
                    down2 = t.dx2 << kSubpixelBits;
      int32_t row1 = t.first1, row2 = t.first2;
      uint32_t pixel = t.pixel;
      NO_UNROLL
      for (int32_t down = 0; down < t.rows;
           down += 2, row1 += 2 * down1, row2 += 2 * down2, pixel += 2 * uint32_t(mesh.width)) {
        int32_t g1 = row1, g2 = row2;
        NO_UNROLL
        for (int32_t right = 0; right < t.columns; right += 2, g1 -= 2 * right1, g2 -= 2 * right2) {
          uint32_t covered =
              15u ^ (t.outside(g1, g2) | t.outside(g1 - right1, g2 - right2) << 1 |
                     t.outside(g1 + down1, g2 + down2) << 2 | t.outside(g1 + down1 - right1, g2 + down2 - right2) << 3);
          if (right + 1 == t.columns) covered &= 5;  // beyond the box may be beyond the image
          if (down + 1 == t.rows) covered &= 3;
          NO_UNROLL
          for (; covered; covered &= covered - 1) {
            const int32_t i = __ffs(int(covered)) - 1, below = i >> 1, beside = i & 1;
            keys.claim(pixel + uint32_t(below * mesh.width + right + beside),
                       t.depth(g1 + below * down1 - beside * right1, g2 + below * down2 - beside * right2), t.face);
          }
        }
      }
    }
    __syncwarp();
  }

  // Sorts the `count` triangles of a meshlet in one image into `work_list`. Returns the number of single pixels, and in
  // the upper half that of triangles with larger boxes.
  __device__ uint32_t classify(const char* block, const DeferredMask& deferred, int64_t n, int32_t first, int32_t count,
                               bool outside, int32_t lane) {
    uint32_t listed = 0;
    const uint32_t below = lanemask_lt();
    NO_UNROLL
    for (int32_t t = lane; t < count + lane; t += int32_t(kWarp)) {
      const CornerOffsets offsets = corner[t];
      const uint32_t ca = first_center_at(block, offsets.first_two & 0xFFFF),
                     cb = first_center_at(block, offsets.first_two >> 16), cc = first_center_at(block, offsets.third);
      const uint32_t size = max3_halves(ca, cb, cc) - min3_halves(ca, cb, cc), rows = size >> 16;
      uint32_t pixels = (size & 0xFFFF) * rows;
      if (outside) {  // rare
        const bool homogeneous = needs_homogeneous(int32_t(ca), int32_t(cb), int32_t(cc));
        if (homogeneous ||
            (pixels && !narrow(vertex_at(block, offsets.first_two & 0xFFFF), vertex_at(block, offsets.first_two >> 16),
                               vertex_at(block, offsets.third)))) {
          if (offsets.third != offsets.first_two >> 16) deferred.defer(n, first + t);
          pixels = 0;
        }
      }
      const bool some = pixels - 1 < 2, two = pixels == 2, more = pixels > 2;
      const uint32_t with_some = __ballot_sync(kAllLanes, some), with_two = __ballot_sync(kAllLanes, two),
                     with_more = __ballot_sync(kAllLanes, more);
      uint16_t* const out = work_list + int32_t(listed & 0xFFFF) + __popc(with_some & below) + __popc(with_two & below);
      if (some) out[0] = uint16_t(t);
      if (two) out[1] = uint16_t(uint32_t(t) + rows * kBeside);
      if (more) work_list[kWorkList - 1 - int32_t(listed >> 16) - int32_t(__popc(with_more & below))] = uint16_t(t);
      listed += uint32_t(__popc(with_some)) + uint32_t(__popc(with_two)) + (uint32_t(__popc(with_more)) << 16);
    }
    __syncwarp();
    return listed;
  }

  // Draws queued triangles as long as a queue holds one for every lane, or until both are empty if `all`. Takes and
  // returns the lengths of the queues, that of larger boxes in the upper half.
  template <class V>
  __device__ uint32_t drain_queues(const BatchMesh<T>& mesh, Orientation drawn, const V& keys, uint32_t queued,
                                   bool all, int32_t lane) {
    while ((queued & 0x200020u) || (all && queued)) {
      const bool upper = (queued & 0x20u) == 0 && ((queued & 0x200000u) || (queued & 0xFFFF) == 0);
      const int32_t length = int32_t(upper ? queued >> 16 : queued & 0xFFFF),
                    batch = length < int32_t(kWarp) ? length : int32_t(kWarp);
      draw_queued(mesh, drawn, keys, upper ? kQueue - length : length - batch, batch, lane);
      queued -= upper ? uint32_t(batch) << 16 : uint32_t(batch);
    }
    return queued;
  }

  // Draws the `count` triangles of a meshlet in one image, except for those that stay queued; takes and returns the
  // lengths of the queues.
  template <class V>
  __device__ uint32_t draw_meshlet(const BatchMesh<T>& mesh, const char* block, Orientation drawn, const V& keys,
                                   const DeferredMask& deferred, int32_t image, int32_t first, int32_t count,
                                   bool outside, uint32_t queued, int32_t lane) {
    const uint32_t first_pixel = uint32_t(image) * uint32_t(mesh.height * mesh.width),
                   listed = classify(block, deferred, image, first, count, outside, lane);
    NO_UNROLL
    for (int32_t i = lane; i < int32_t(listed & 0xFFFF); i += int32_t(kWarp)) {
      const uint32_t entry = work_list[i], t = entry & (kBeside - 1);
      const CornerOffsets offsets = corner[t];
      const PackedVertex<T> a = vertex_at(block, offsets.first_two & 0xFFFF),
                            b = vertex_at(block, offsets.first_two >> 16), c = vertex_at(block, offsets.third);
      const uint32_t pixel = min3_halves(uint32_t(a.first_center), uint32_t(b.first_center), uint32_t(c.first_center)) +
                             (entry & kBeside) / kBeside + (entry & kBelow) * (0x10000 / kBelow);
      draw_single_pixel(mesh, drawn, a, b, c, pixel, first_pixel, first + int32_t(t), keys);
    }
    const int32_t more = int32_t(listed >> 16);
    NO_UNROLL
    for (int32_t begin = 0; begin < more; begin += int32_t(kWarp)) {
      const bool active = begin + lane < more;
      const int32_t t = active ? work_list[kWorkList - 1 - begin - lane] : 0;
      const CornerOffsets offsets = corner[t];
      const PackedVertex<T> a = vertex_at(block, offsets.first_two & 0xFFFF),
                            b = vertex_at(block, offsets.first_two >> 16), c = vertex_at(block, offsets.third);
      const uint32_t low = min3_halves(uint32_t(a.first_center), uint32_t(b.first_center), uint32_t(c.first_center)),
                     size = max3_halves(uint32_t(a.first_center), uint32_t(b.first_center), uint32_t(c.first_center)) -
                            low;
      const bool large = active && (size & kLargeBox), queue_it = active && !large,
                 larger = queue_it && ((size - 0x10001u) & 0xFFFEFFFEu) != 0;
      const uint32_t few = __ballot_sync(kAllLanes, queue_it && !larger), many = __ballot_sync(kAllLanes, larger);
      if (queue_it) {
        const int32_t before = int32_t(__popc((larger ? many : few) & lanemask_lt())),
                      at = larger ? kQueue - 1 - int32_t(queued >> 16) - before : int32_t(queued & 0xFFFF) + before;
        const int32_t ox = int32_t(low << kSubpixelBits & 0xFFFF00u) + kSubpixels / 2,
                      oy = int32_t(low >> (16 - kSubpixelBits) & 0xFFFF00u) + kSubpixels / 2;
        const auto from_origin = [&](const PackedVertex<T>& v) {
          return low_halves(uint32_t(v.x - ox), uint32_t(v.y - oy));
        };
        queued_corners[at] = {{from_origin(a), from_origin(b), from_origin(c)},
                              first_pixel + (low >> 16) * uint32_t(mesh.width) + (low & 0xFFFF)};
        queued_depth[at] = {{a.z, b.z, c.z}, first + t};
        queued_size[at] = size;
      }
      queued += uint32_t(__popc(few)) | uint32_t(__popc(many)) << 16;
      for (uint32_t left = __ballot_sync(kAllLanes, large); left; left &= left - 1)
        draw_large(mesh, block, keys.image(image, int64_t(mesh.height) * mesh.width), deferred, image, first,
                   __shfl_sync(kAllLanes, t, __ffs(int(left)) - 1), lane);
      queued = drain_queues(mesh, drawn, keys, queued, false, lane);
    }
    __syncwarp();
    return queued;
  }
  template <class V>
  __device__ void draw_large(const BatchMesh<T>& mesh, const char* block, const V& keys, const DeferredMask& deferred,
                             int64_t n, int32_t first, int32_t t, int32_t lane) {
    const CornerOffsets offsets = corner[t];
    const PackedVertex<T> a = vertex_at(block, offsets.first_two & 0xFFFF),
                          b = vertex_at(block, offsets.first_two >> 16), c = vertex_at(block, offsets.third);
    const Box box = center_box(a.first_center, b.first_center, c.first_center);
    if (narrow(a, b, c))
      draw_box_by_warp(
          mesh, TriangleSetup<T, int32_t>(a.x, a.y, a.z, b.x, b.y, b.z, c.x, c.y, c.z, box.x0, box.y0, mesh.cull), box,
          first + t, keys, lane);
    else if (lane == 0)
      deferred.defer(n, first + t);
  }
};

}  // namespace facerender
