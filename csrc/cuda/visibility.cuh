// Which face each pixel sees, for a batch: the part of rasterization that `rasterize` and `render_face` share on CUDA.
//
// At the sizes that networks train on, most triangles of a face hold no pixel centre or one, and the time goes into instructions, not memory. So
// a warp takes a run of triangles in one image, transforms each of their vertices once (which those are is found out beforehand, once for all images), and
// then takes another run, whichever is next: how long one takes depends on how many pixels it covers. Nothing here waits for other warps. A triangle without a
// pixel centre is dropped by comparing cells. The centres of boxes with one or two are listed, and then every lane tests one of them; boxes with more wait
// in a queue until there is one for every lane, over runs too. What is left over (too wide for 32 bits, or in need of the homogeneous path) is
// marked, one bit a triangle, and drawn by a second kernel: so the first one needs few registers.
#pragma once

#include <algorithm>

#include "../raster.h"
#include "launch.h"

namespace facerender {

constexpr uint32_t kLargeBox = 0xFFF0FFF0u;  // a box with one of these bits in its size, 16 columns or rows, is drawn by the whole warp

template <class T>
struct BatchMesh {
  const T* clip;         // [N,V,4]
  const int32_t* faces;  // [F,3]
  int64_t batch, num_vertices, num_faces;
  int32_t height, width;
  int64_t cull;
};

// The keys of one image; with kBehind also those of the layer that it lies behind.
template <bool kBehind>
struct Visibility {
  uint64_t* keys;
  const uint64_t* in_front;

  __device__ Visibility image(int64_t n, int64_t pixels) const { return {kept(keys + n * pixels), kBehind ? kept(in_front + n * pixels) : nullptr}; }
  __device__ void claim(uint32_t pixel, float depth, int32_t face) const {
    if (!(fabsf(depth) <= 1.f)) return;  // in_depth_range
    const uint64_t key = visibility_key(depth, face);
    if (kBehind && key <= in_front[pixel]) return;
#ifdef __CUDA_ARCH__
    asm volatile("red.relaxed.gpu.global.min.u64 [%0], %1;" ::"l"(keys + pixel), "l"(key) : "memory");
#else
    atomicMin(reinterpret_cast<unsigned long long*>(keys + pixel), static_cast<unsigned long long>(key));
#endif
  }
};

// Triangles that wait for draw_marked: those whose bit is not set, of `words` words an image.
struct Marks {
  uint32_t* bits;
  int64_t words;

  __device__ void leave(int64_t n, int32_t face) const { atomicAnd(bits + n * words + face / int32_t(kWarp), ~(1u << (face % int32_t(kWarp)))); }
};

// A vertex on the screen, loaded at once.
template <class T>
struct alignas(sizeof(T) == 4 ? 16 : 8) PlacedVertex {
  int32_t x, y, cell;
  T z;
};

// Which triangles are drawn: the sign that makes their areas positive. Where one orientation is culled it is always that of the other, so that
// no point is inside.
struct Orientation {
  int32_t either, fixed;

  explicit Orientation(int64_t cull) : either(cull == kCullNone ? -1 : 0), fixed(cull == kCullBack ? -1 : 1) {}
  __device__ int32_t sign(int32_t signed_area) const { return (signed_area >> 31 & either) | fixed; }
};

template <class T, class I>
__device__ inline float depth_at(const Setup<T, I>& s, I e1, I e2) {
  return float(plane_depth(s.z0, s.dz1, s.dz2, s.inv_area, e1, e2));
}

// One pixel of a narrow triangle: Setup and its test with what is not needed left out. Ties are broken only where a centre lies on an edge.
template <class T, class V>
__device__ inline void one_pixel(const BatchMesh<T>& mesh, Orientation drawn, const PlacedVertex<T>& a, const PlacedVertex<T>& b, const PlacedVertex<T>& c, uint32_t at, uint32_t first_pixel, int32_t face,
                                 const V& to) {
  const int32_t abx = b.x - a.x, aby = b.y - a.y, acx = c.x - a.x, acy = c.y - a.y, signed_area = abx * acy - aby * acx;
  const int32_t col = int32_t(at & 0xFFFF), row = int32_t(at >> 16), s = drawn.sign(signed_area);
  const int32_t px = s * ((col << kSubpixelBits) + kSubpixels / 2 - a.x), py = s * ((row << kSubpixelBits) + kSubpixels / 2 - a.y);
  const int32_t area = s * signed_area, e1 = acy * px - acx * py, e2 = abx * py - aby * px, e0 = area - e1 - e2;
  if ((e0 | e1 | e2) < 0) return;
  if (e0 == 0 || e1 == 0 || e2 == 0) {
    if (area == 0 || ((e0 + tie_break(s * (acx - abx), s * (acy - aby))) | (e1 + tie_break(-s * acx, -s * acy)) | (e2 + tie_break(s * abx, s * aby))) < 0) return;
  }
  to.claim(first_pixel + uint32_t(row * mesh.width + col), float(plane_depth(a.z, b.z - a.z, c.z - a.z, reciprocal(T(area)), e1, e2)), face);
}

// A triangle by a warp, eight by four pixels at a time; of `stripes` warps that share it this is number `stripe`.
template <class T, class I, class V>
__device__ void warp_box(const BatchMesh<T>& mesh, const Setup<T, I>& s, const Box& box, int32_t face, const V& to, int32_t lane, int32_t stripe = 0, int32_t stripes = 1) {
  if (!s.drawn) return;
  for (int32_t y = stripe * 4 + lane / 8; y < box.y1 - box.y0; y += 4 * stripes)
    UNROLL_NOT
    for (int32_t x = lane % 8; x < box.x1 - box.x0; x += 8) {
      const I right = I(x) << kSubpixelBits, down = I(y) << kSubpixelBits;
      const I e1 = s.e1 + s.dx1 * down - s.dy1 * right, e2 = s.e2 + s.dx2 * down - s.dy2 * right, e0 = s.area - e1 - e2;
      if (((e0 + s.tie0) | (e1 + s.tie1) | (e2 + s.tie2)) >= 0) to.claim(uint32_t((box.y0 + y) * mesh.width + box.x0 + x), depth_at(s, e1, e2), face);
    }
}

template <class T, class V>
__device__ void warp_homogeneous(const BatchMesh<T>& mesh, const Vec4<T>* clip, int32_t face, const V& to, int32_t lane, int32_t stripe, int32_t stripes) {
  HomogeneousVertex v[3];
  for (int i = 0; i < 3; ++i) v[i] = homogeneous_vertex(clip[i], mesh.width, mesh.height);
  const HomogeneousSetup s(v, mesh.width, mesh.height, mesh.cull);
  if (!s.drawn) return;
  const int32_t pixels = mesh.height * mesh.width;
  for (int32_t i = stripe * int32_t(kWarp) + lane; i < pixels; i += stripes * int32_t(kWarp)) {
    float depth;
    if (s.covers(i % mesh.width, i / mesh.width, depth)) to.claim(uint32_t(i), depth, face);
  }
}

constexpr int32_t kDrawBlock = 128;
constexpr int kDrawBlocks = 8;  // of a multiprocessor: 64 registers a thread
constexpr int32_t kMostTriangles = 128, kMostVertices = 128;  // of a run of triangles; 96 corners of 32 triangles always fit

// Where a triangle's corners are, in bytes from where the places of its run's vertices begin (later, from the block's shared memory): the first two in one word. All
// three are the same for a triangle that is not there or names a vertex that is not: it has no area.
struct alignas(8) CornerPlaces {
  uint32_t first_two, third;
};
template <class T>
__device__ inline CornerPlaces corner_places(uint32_t a, uint32_t b, uint32_t c) {
  constexpr uint32_t size = sizeof(PlacedVertex<T>);
  return {a * size | b * size << 16, c * size};
}

// A run of triangles: its vertices, each once, and where among them the corners are.
struct alignas(16) Run {
  CornerPlaces corner[kMostTriangles];
  uint32_t vertex[kMostVertices];  // beyond the last they are vertex 0
  int32_t vertices;                // how many; more than kMostVertices where there is no room for them, and nothing above holds
};

// What a warp needs to find the vertices of a run.
struct RunFinder {
  static constexpr int32_t kSlots = 512;
  int32_t table[kSlots];  // open addressing by number
  uint16_t number[kSlots];

  template <class T>
  __device__ void find(const BatchMesh<T>& mesh, int32_t first, int32_t count, Run& run, int32_t lane) {
    for (int32_t s = lane; s < kSlots; s += int32_t(kWarp)) table[s] = -1;
    __syncwarp();
    int32_t vertices = 0;
    UNROLL_NOT
    for (int32_t t = lane; t < kMostTriangles; t += int32_t(kWarp)) {
      Corners f{};
      const bool sound = t < count && load_corners(mesh.faces, first + t, mesh.num_vertices, f);
      int32_t slot[3];
      UNROLL
      for (int i = 0; i < 3; ++i) {
        int32_t s = f.v[i] & (kSlots - 1), held = 0;
        const int32_t step = int32_t(uint32_t(f.v[i]) * 2654435769u >> 20) | 1;  // grids, whose vertices differ by multiples, spread
        while (sound) {
          held = atomicCAS(&table[s], -1, f.v[i]);
          if (held == -1 || held == f.v[i]) break;
          s = (s + step) & (kSlots - 1);
        }
        const uint32_t found = __ballot_sync(kAllLanes, held == -1);
        if (held == -1) {
          const int32_t n = vertices + int32_t(__popc(found & lanes_below()));
          number[s] = uint16_t(n);
          if (n < kMostVertices) run.vertex[n] = uint32_t(f.v[i]);
        }
        vertices += int32_t(__popc(found));
        slot[i] = s;
      }
      __syncwarp();
      run.corner[t] = sound ? corner_places<T>(number[slot[0]], number[slot[1]], number[slot[2]]) : CornerPlaces{0, 0};
    }
    for (int32_t n = vertices + lane; n < kMostVertices; n += int32_t(kWarp)) run.vertex[n] = 0;
    if (lane == 0) run.vertices = vertices;
    __syncwarp();
  }
};

// What a warp knows of its triangles: where their vertices are in the image at hand; and those of this and earlier runs that wait.
template <class T>
struct WarpTriangles {
  static constexpr int32_t kQueue = 96;
  struct alignas(16) QueuedPlace {
    uint32_t corner[3];  // from the centre of the box's first pixel, y in the upper half
    uint32_t pixel;      // that pixel, from the first of the first image
  };
  struct alignas(16) QueuedDepth {
    T z[3];
    int32_t face;
  };
  static constexpr int kGroups = kMostVertices / kWarp;  // vertices of a lane

  PlacedVertex<T> placed[kMostVertices];
  CornerPlaces corner[kMostTriangles];  // from the block's shared memory
  QueuedPlace queued_place[kQueue];
  // Two queues, which grow from both ends: of boxes of two by two pixels and less, and of larger ones. So the lanes of a warp have like work.
  QueuedDepth queued_depth[kQueue];
  uint32_t queued_size[kQueue];  // columns, and rows in the upper half
  // Of the run at hand: from the start, pixels of triangles with one or two (the triangle's number, and kBeside or kBelow with the second); from the end, triangles with more.
  static constexpr int32_t kListed = 2 * kMostTriangles;
  static constexpr uint32_t kBeside = 0x100, kBelow = 0x200;
  uint16_t listed[kListed];

  static __device__ PlacedVertex<T> at(const char* block, uint32_t offset) { return *reinterpret_cast<const PlacedVertex<T>*>(block + offset); }
  static __device__ uint32_t cell_at(const char* block, uint32_t offset) { return uint32_t(reinterpret_cast<const PlacedVertex<T>*>(block + offset)->cell); }
  __device__ void put_corners(const char* block, int32_t t, CornerPlaces places) {
    const uint32_t start = uint32_t(reinterpret_cast<const char*>(placed) - block);
    corner[t] = {places.first_two + start * 0x10001u, places.third + start};
  }

  // A lane's vertices, numbers `lane`, 32 + lane and so on, and the corners: those of a run, or of up to 32 triangles, each of which has three of its own. Return how many vertices there are.
  __device__ int32_t take(const Run& run, const char* block, int32_t count, uint32_t (&vertex)[kGroups], int32_t lane) {
    UNROLL
    for (int k = 0; k < kGroups; ++k) vertex[k] = run.vertex[k * int32_t(kWarp) + lane];
    UNROLL
    for (int k = 0; k < kGroups; ++k)
      if (k * int32_t(kWarp) < count) put_corners(block, k * int32_t(kWarp) + lane, run.corner[k * int32_t(kWarp) + lane]);
    return run.vertices;
  }
  __device__ int32_t take_each(const BatchMesh<T>& mesh, const char* block, int32_t first, int32_t count, uint32_t (&vertex)[kGroups], int32_t lane) {
    Corners f;
    const bool sound = lane < count && load_corners(mesh.faces, first + lane, mesh.num_vertices, f);
    UNROLL
    for (int i = 0; i < 3; ++i) vertex[i] = sound ? uint32_t(f.v[i]) : 0;
    const uint32_t own = uint32_t(lane);
    put_corners(block, lane, sound ? corner_places<T>(own, kWarp + own, 2 * kWarp + own) : CornerPlaces{0, 0});
    return mesh.num_vertices ? 3 * int32_t(kWarp) : 0;
  }

  // Where the vertices are in an image. Returns whether one of them lies outside it, or needs the homogeneous path: then boxes say nothing of how wide triangles are.
  __device__ bool place(const BatchMesh<T>& mesh, const T* clip, const uint32_t (&vertex)[kGroups], int32_t vertices, int32_t lane) {
    uint32_t most_x = 0, most_y = 0, flags = 0;  // a vertex to the left of the image, or above it, is a very large one
    // So many for each lane, whose loads are under way at the same time: nothing may branch between them.
    const auto together = [&](auto many, int begin = 0) {
      constexpr int kMany = decltype(many)::value;
      Vec4<T> p[kMany];
      UNROLL
      for (int k = 0; k < kMany; ++k) p[k] = load4(clip + uint64_t(vertex[begin + k]) * 4);
      UNROLL
      for (int k = 0; k < kMany; ++k) {
        const ScreenVertex<T> v = screen_vertex<T, int32_t, false>(p[k].x, p[k].y, p[k].z, p[k].w, mesh.width, mesh.height);
        placed[(begin + k) * int32_t(kWarp) + lane] = {v.x, v.y, v.cell, v.z};
        most_x = most_x > uint32_t(v.x) ? most_x : uint32_t(v.x);
        most_y = most_y > uint32_t(v.y) ? most_y : uint32_t(v.y);
        flags |= uint32_t(v.cell);
      }
    };
    static_assert(kGroups == 4);
    if constexpr (sizeof(T) == 8) {
      UNROLL
      for (int k = 0; k < kGroups; ++k)
        if (k * int32_t(kWarp) < vertices) together(std::integral_constant<int, 1>{}, k);
    } else if (vertices > 3 * int32_t(kWarp)) {
      together(std::integral_constant<int, 4>{});
    } else if (vertices > 2 * int32_t(kWarp)) {
      together(std::integral_constant<int, 3>{});
    } else if (vertices > int32_t(kWarp)) {
      together(std::integral_constant<int, 2>{});
    } else {
      together(std::integral_constant<int, 1>{});
    }
    const bool outside = most_x > uint32_t(mesh.width) << kSubpixelBits || most_y > uint32_t(mesh.height) << kSubpixelBits || (flags & uint32_t(kHomogeneousCell));
    __syncwarp();
    return __ballot_sync(kAllLanes, outside);
  }
  static __device__ bool narrow(const PlacedVertex<T>& a, const PlacedVertex<T>& b, const PlacedVertex<T>& c) {
    const int32_t wide = max3(a.x, b.x, c.x) - min3(a.x, b.x, c.x), high = max3(a.y, b.y, c.y) - min3(a.y, b.y, c.y);
    return wide < kNarrow * kSubpixels && high < kNarrow * kSubpixels;
  }

  // One of the triangles that wait: Setup, with the first pixel's centre at the origin.
  struct Waiting {
    int32_t dx1, dy1, dx2, dy2, tie1, tie2, whole;  // an inner edge function is the same as 0 or more with its tie added; all three add up to `whole`
    int32_t first1, first2;                         // with their ties, at the first pixel
    int32_t columns, rows, face;
    uint32_t pixel;
    T z0, slope1, slope2, inverse;

    __device__ Waiting(const QueuedPlace& q, const QueuedDepth& d, uint32_t size, Orientation drawn) : columns(int32_t(size & 0xFFFF)), face(d.face), pixel(q.pixel), z0(d.z[0]) {
      const auto x = [&](int i) { return int32_t(q.corner[i] << 16) >> 16; };
      const auto y = [&](int i) { return int32_t(q.corner[i]) >> 16; };
      const int32_t ax = x(0), ay = y(0), signed_area = (x(1) - ax) * (y(2) - ay) - (y(1) - ay) * (x(2) - ax), o = drawn.sign(signed_area), area = o * signed_area;
      dx1 = o * (ax - x(2)), dy1 = o * (ay - y(2)), dx2 = o * (x(1) - ax), dy2 = o * (y(1) - ay);
      tie1 = tie_break(dx1, dy1), tie2 = tie_break(dx2, dy2), whole = area + tie_break(-dx1 - dx2, -dy1 - dy2) + tie1 + tie2;
      first1 = dy1 * ax - dx1 * ay + tie1, first2 = dy2 * ax - dx2 * ay + tie2;
      rows = area > 0 ? int32_t(size >> 16) : 0;
      inverse = reciprocal(T(area)), slope1 = d.z[1] - d.z[0], slope2 = d.z[2] - d.z[0];
    }
    __device__ uint32_t outside(int32_t e1, int32_t e2) const { return uint32_t((whole - e1 - e2) | e1 | e2) >> 31; }  // 1 or 0
    __device__ float depth(int32_t e1, int32_t e2) const { return float(plane_depth(z0, slope1, slope2, inverse, e1 - tie1, e2 - tie2)); }
  };

  // Draws `count`, at most 32, of the triangles that wait: each by a lane, two by two pixels at a time.
  template <class V>
  __device__ void draw_queued(const BatchMesh<T>& mesh, Orientation drawn, const V& to, int32_t first, int32_t count, int32_t lane) {
    __syncwarp();
    if (lane < count) {
      const Waiting t(queued_place[first + lane], queued_depth[first + lane], queued_size[first + lane], drawn);
      const int32_t right1 = t.dy1 << kSubpixelBits, right2 = t.dy2 << kSubpixelBits, down1 = t.dx1 << kSubpixelBits, down2 = t.dx2 << kSubpixelBits;
      int32_t row1 = t.first1, row2 = t.first2;
      uint32_t pixel = t.pixel;
      UNROLL_NOT
      for (int32_t down = 0; down < t.rows; down += 2, row1 += 2 * down1, row2 += 2 * down2, pixel += 2 * uint32_t(mesh.width)) {
        int32_t g1 = row1, g2 = row2;
        UNROLL_NOT
        for (int32_t right = 0; right < t.columns; right += 2, g1 -= 2 * right1, g2 -= 2 * right2) {
          uint32_t covered =
              15u ^ (t.outside(g1, g2) | t.outside(g1 - right1, g2 - right2) << 1 | t.outside(g1 + down1, g2 + down2) << 2 | t.outside(g1 + down1 - right1, g2 + down2 - right2) << 3);
          if (right + 1 == t.columns) covered &= 5;  // beyond the box there may be no image
          if (down + 1 == t.rows) covered &= 3;
          UNROLL_NOT
          for (; covered; covered &= covered - 1) {
            const int32_t i = __ffs(int(covered)) - 1, below = i >> 1, beside = i & 1;
            to.claim(pixel + uint32_t(below * mesh.width + right + beside), t.depth(g1 + below * down1 - beside * right1, g2 + below * down2 - beside * right2), t.face);
          }
        }
      }
    }
    __syncwarp();
  }

  // Lists what there is to draw of `count` triangles in an image: returns the number of pixels, and in the upper half that of triangles.
  __device__ uint32_t list(const char* block, const Marks& marks, int64_t n, int32_t first, int32_t count, bool outside, int32_t lane) {
    uint32_t lengths = 0;
    const uint32_t below = lanes_below();
    UNROLL_NOT
    for (int32_t t = lane; t < count + lane; t += int32_t(kWarp)) {
      const CornerPlaces of = corner[t];
      const uint32_t ca = cell_at(block, of.first_two & 0xFFFF), cb = cell_at(block, of.first_two >> 16), cc = cell_at(block, of.third);
      const uint32_t size = max3_halves(ca, cb, cc) - min3_halves(ca, cb, cc), rows = size >> 16;
      uint32_t pixels = (size & 0xFFFF) * rows;
      if (outside) {  // few images have such vertices
        const bool homogeneous = needs_homogeneous(int32_t(ca), int32_t(cb), int32_t(cc));
        if (homogeneous || (pixels && !narrow(at(block, of.first_two & 0xFFFF), at(block, of.first_two >> 16), at(block, of.third)))) {
          if (of.third != of.first_two >> 16) marks.leave(n, first + t);
          pixels = 0;
        }
      }
      const bool some = pixels - 1 < 2, two = pixels == 2, more = pixels > 2;
      const uint32_t with_some = __ballot_sync(kAllLanes, some), with_two = __ballot_sync(kAllLanes, two), with_more = __ballot_sync(kAllLanes, more);
      uint16_t* const to = listed + int32_t(lengths & 0xFFFF) + __popc(with_some & below) + __popc(with_two & below);
      if (some) to[0] = uint16_t(t);
      if (two) to[1] = uint16_t(uint32_t(t) + rows * kBeside);
      if (more) listed[kListed - 1 - int32_t(lengths >> 16) - int32_t(__popc(with_more & below))] = uint16_t(t);
      lengths += uint32_t(__popc(with_some)) + uint32_t(__popc(with_two)) + (uint32_t(__popc(with_more)) << 16);
    }
    __syncwarp();
    return lengths;
  }

  // Draws those that wait as long as there is one for every lane, or `all` of them; returns how many are left, those of larger boxes in the upper half.
  template <class V>
  __device__ uint32_t draw_waiting(const BatchMesh<T>& mesh, Orientation drawn, const V& to, uint32_t lengths, bool all, int32_t lane) {
    while ((lengths & 0x200020u) || (all && lengths)) {
      const bool upper = (lengths & 0x20u) == 0 && ((lengths & 0x200000u) || (lengths & 0xFFFF) == 0);
      const int32_t length = int32_t(upper ? lengths >> 16 : lengths & 0xFFFF), now = length < int32_t(kWarp) ? length : int32_t(kWarp);
      draw_queued(mesh, drawn, to, upper ? kQueue - length : length - now, now, lane);
      lengths -= upper ? uint32_t(now) << 16 : uint32_t(now);
    }
    return lengths;
  }

  // Draws `count` triangles in an image, but for those that wait; takes and returns how many of these there are.
  template <class V>
  __device__ uint32_t draw_run(const BatchMesh<T>& mesh, const char* block, Orientation drawn, const V& to, const Marks& marks, int32_t image, int32_t first, int32_t count, bool outside, uint32_t lengths,
                               int32_t lane) {
    const uint32_t first_pixel = uint32_t(image) * uint32_t(mesh.height * mesh.width), here = list(block, marks, image, first, count, outside, lane);
    UNROLL_NOT
    for (int32_t i = lane; i < int32_t(here & 0xFFFF); i += int32_t(kWarp)) {
      const uint32_t entry = listed[i], t = entry & (kBeside - 1);
      const CornerPlaces of = corner[t];
      const PlacedVertex<T> a = at(block, of.first_two & 0xFFFF), b = at(block, of.first_two >> 16), c = at(block, of.third);
      const uint32_t pixel = min3_halves(uint32_t(a.cell), uint32_t(b.cell), uint32_t(c.cell)) + (entry & kBeside) / kBeside + (entry & kBelow) * (0x10000 / kBelow);
      one_pixel(mesh, drawn, a, b, c, pixel, first_pixel, first + int32_t(t), to);
    }
    const int32_t more = int32_t(here >> 16);
    UNROLL_NOT
    for (int32_t begin = 0; begin < more; begin += int32_t(kWarp)) {
      const bool mine = begin + lane < more;
      const int32_t t = mine ? listed[kListed - 1 - begin - lane] : 0;
      const CornerPlaces of = corner[t];
      const PlacedVertex<T> a = at(block, of.first_two & 0xFFFF), b = at(block, of.first_two >> 16), c = at(block, of.third);
      const uint32_t low = min3_halves(uint32_t(a.cell), uint32_t(b.cell), uint32_t(c.cell)), size = max3_halves(uint32_t(a.cell), uint32_t(b.cell), uint32_t(c.cell)) - low;
      const bool large = mine && (size & kLargeBox), waits = mine && !large, larger = waits && ((size - 0x10001u) & 0xFFFEFFFEu) != 0;
      const uint32_t few = __ballot_sync(kAllLanes, waits && !larger), many = __ballot_sync(kAllLanes, larger);
      if (waits) {
        const int32_t before = int32_t(__popc((larger ? many : few) & lanes_below())), at = larger ? kQueue - 1 - int32_t(lengths >> 16) - before : int32_t(lengths & 0xFFFF) + before;
        const int32_t ox = int32_t(low << kSubpixelBits & 0xFFFF00u) + kSubpixels / 2, oy = int32_t(low >> (16 - kSubpixelBits) & 0xFFFF00u) + kSubpixels / 2;
        const auto from_origin = [&](const PlacedVertex<T>& v) { return low_halves(uint32_t(v.x - ox), uint32_t(v.y - oy)); };
        queued_place[at] = {{from_origin(a), from_origin(b), from_origin(c)}, first_pixel + (low >> 16) * uint32_t(mesh.width) + (low & 0xFFFF)};
        queued_depth[at] = {{a.z, b.z, c.z}, first + t};
        queued_size[at] = size;
      }
      lengths += uint32_t(__popc(few)) | uint32_t(__popc(many)) << 16;
      for (uint32_t left = __ballot_sync(kAllLanes, large); left; left &= left - 1)
        draw_large(mesh, block, to.image(image, int64_t(mesh.height) * mesh.width), marks, image, first, __shfl_sync(kAllLanes, t, __ffs(int(left)) - 1), lane);
      lengths = draw_waiting(mesh, drawn, to, lengths, false, lane);
    }
    __syncwarp();
    return lengths;
  }
  template <class V>
  __device__ void draw_large(const BatchMesh<T>& mesh, const char* block, const V& to, const Marks& marks, int64_t n, int32_t first, int32_t t, int32_t lane) {
    const CornerPlaces of = corner[t];
    const PlacedVertex<T> a = at(block, of.first_two & 0xFFFF), b = at(block, of.first_two >> 16), c = at(block, of.third);
    const Box box = centre_box(a.cell, b.cell, c.cell);
    if (narrow(a, b, c))
      warp_box(mesh, Setup<T, int32_t>(a.x, a.y, a.z, b.x, b.y, b.z, c.x, c.y, c.z, box.x0, box.y0, mesh.cull), box, first + t, to, lane);
    else if (lane == 0)
      marks.leave(n, first + t);
  }
};

// What the warps of a search share out: `count` pairs of a run, of `each` triangles, and an image, one image's runs after the other's. The first of a warp is that of its own number, the others are
// whichever come next.
struct Units {
  int32_t each, runs;
  uint32_t count;
  const Run* found;
  int32_t shared;   // 0: runs have 32 triangles at most, with three vertices each, and nothing is found
  uint32_t* taken;  // from ~0 on

  // How many were taken before, less 1; it has time to come. Not atomicAdd, of which ptxas would add up those of a warp, and wait for the sum. It does not come to `count`, where it would begin anew.
  __device__ uint32_t take() const {
#ifdef __CUDA_ARCH__
    return atomicInc(taken, count);
#else
    return atomicAdd(taken, 1u);
#endif
  }
};

template <class T, bool kBehind>
__global__ void __launch_bounds__(kDrawBlock, sizeof(T) == 4 ? kDrawBlocks - kBehind : 4) draw(BatchMesh<T> mesh, Orientation drawn, Visibility<kBehind> to, Marks marks, Units units) {
  constexpr int32_t kWarps = kDrawBlock / kWarp;
  __shared__ WarpTriangles<T> of_warps[kWarps];
  static_assert(sizeof(of_warps) < 1 << 16, "corners say in 16 bits where vertices lie");
  let_next_start();
  const char* const block = reinterpret_cast<const char*>(of_warps);
  WarpTriangles<T>& s = of_warps[threadIdx.x / kWarp];
  const int32_t lane = int32_t(threadIdx.x % kWarp);
  const uint32_t warps = gridDim.x * kWarps;
  uint32_t lengths = 0;
  for (uint32_t unit = blockIdx.x * kWarps + threadIdx.x / kWarp; unit < units.count;) {
    uint32_t next = units.count;
    if (units.count > warps) {
      wait_for_previous();
      if (lane == 0) next = units.take();
    }
    const int32_t image = int32_t(unit / uint32_t(units.runs)), run = int32_t(unit) - image * units.runs, begin = run * units.each;
    const int32_t end = mesh.num_faces - begin < units.each ? int32_t(mesh.num_faces) : begin + units.each;
    bool together = units.shared;
    for (int32_t first = begin; first < end;) {
      uint32_t vertex[WarpTriangles<T>::kGroups];
      int32_t count = end - first, vertices = 0;
      if (together) {
        wait_for_previous();
        vertices = s.take(units.found[run], block, count, vertex, lane);
        together = vertices <= kMostVertices;
      }
      if (!together) {
        count = count < int32_t(kWarp) ? count : int32_t(kWarp);
        vertices = s.take_each(mesh, block, first, count, vertex, lane);
      }
      if (vertices) {
        const bool outside = s.place(mesh, kept(mesh.clip + int64_t(image) * mesh.num_vertices * 4), vertex, vertices, lane);
        wait_for_previous();
        lengths = s.draw_run(mesh, block, drawn, to, marks, image, first, count, outside, lengths, lane);
      }
      first += count;
    }
    unit = warps + 1 + __shfl_sync(kAllLanes, next, 0);
  }
  s.draw_waiting(mesh, drawn, to, lengths, true, lane);
  wait_for_previous();
}

// One thread 64 marks to look at, one warp a triangle to draw; in large images several, gridDim.z, which share its rows.
template <class T, bool kBehind>
__global__ void __launch_bounds__(kBlock) draw_marked(BatchMesh<T> mesh, Visibility<kBehind> all, Marks marks) {
  const int64_t pixels = int64_t(mesh.height) * mesh.width, pairs = marks.words / 2;
  const int32_t lane = int32_t(threadIdx.x % kWarp), stripe = int32_t(blockIdx.z), stripes = int32_t(gridDim.z);
  let_next_start();
  wait_for_previous();
  for (int64_t first = item() - lane; first < mesh.batch * pairs; first += int64_t(gridDim.x) * kBlock) {
    const unsigned long long mine = first + lane < mesh.batch * pairs ? ~reinterpret_cast<const unsigned long long*>(marks.bits)[first + lane] : 0;
    for (uint32_t lanes = __ballot_sync(kAllLanes, mine != 0); lanes; lanes &= lanes - 1) {
      const int32_t owner = __ffs(int(lanes)) - 1;
      const int64_t n = (first + owner) / pairs;
      const Visibility<kBehind> to = all.image(n, pixels);
      for (unsigned long long waiting = __shfl_sync(kAllLanes, mine, owner); waiting; waiting &= waiting - 1) {
        const int32_t face = int32_t((first + owner - n * pairs) * 64) + (__ffsll(int64_t(waiting)) - 1);
        Corners f;
        load_corners(mesh.faces, face, mesh.num_vertices, f);
        Vec4<T> clip[3];
        ScreenVertex<T> v[3];
        for (int i = 0; i < 3; ++i) {
          clip[i] = load4(mesh.clip + (n * mesh.num_vertices + f.v[i]) * 4);
          v[i] = screen_vertex<T, int32_t>(clip[i].x, clip[i].y, clip[i].z, clip[i].w, mesh.width, mesh.height);
        }
        if (v[0].cell == kInvalidCell || v[1].cell == kInvalidCell || v[2].cell == kInvalidCell) continue;
        if (needs_homogeneous(v[0].cell, v[1].cell, v[2].cell)) {
          warp_homogeneous(mesh, clip, face, to, lane, stripe, stripes);
        } else {
          const Box box = centre_box(v[0].cell, v[1].cell, v[2].cell);
          warp_box(mesh, triangle_setup<T, int64_t>(v[0], v[1], v[2], box, mesh.cull), box, face, to, lane, stripe, stripes);
        }
      }
    }
  }
}

// Fills memory with ones and, in the first blocks, finds the vertices of runs.
template <class T>
__global__ void __launch_bounds__(kBlock) prepare(const __grid_constant__ Fills fills, BatchMesh<T> mesh, Units units, Run* found) {
  constexpr int32_t kWarps = kBlock / kWarp;
  __shared__ RunFinder of_warps[kWarps];
  let_next_start();
  wait_for_previous();
  const int32_t finders = (units.runs + kWarps - 1) / kWarps;
  if (int32_t(blockIdx.x) >= finders) return fill_all<~0u>(fills, int32_t(blockIdx.x) - finders, int32_t(gridDim.x) - finders);
  const int32_t run = int32_t(blockIdx.x * kWarps + threadIdx.x / kWarp), first = run * units.each;
  if (run < units.runs) of_warps[threadIdx.x / kWarp].find(mesh, first, mesh.num_faces - first < units.each ? int32_t(mesh.num_faces) - first : units.each, found[run], int32_t(threadIdx.x % kWarp));
}

constexpr int64_t kImagesToShare = 3;  // from so many images on it pays to find the vertices that triangles share
constexpr int64_t kFewestUnits = 3;    // for each warp, where runs can be shorter
constexpr int64_t kLargeTriangles = 64;  // pixels of the image for each triangle, from which on most boxes are large
constexpr int64_t kFewPixels = 1 << 18;  // kernels overlap up to here; for 64 images of 224 pixels it was slower

// The search over a batch, part by part, and the memory that it needs. Parts are of so many images that their keys fit into half of the L2 cache: what the search has left is still
// there for the kernel that reads it, and the memory of one part serves them all.
template <class T>
class Search {
 public:
  // layers: whether some lie behind others.
  Search(const Device& device, const Tensor& like, const BatchMesh<T>& mesh, bool layers) : device_(device), mesh_(mesh), pixels_(int64_t(mesh.height) * mesh.width) {
    const int64_t fit = std::min<int64_t>(device.l2_bytes() / 16 / std::max<int64_t>(pixels_, 1), (int64_t(1) << 31) / (mesh.num_faces / 4 + 1));
    const int64_t parts = (mesh.batch + std::max<int64_t>(fit, 1) - 1) / std::max<int64_t>(fit, 1);
    part_ = parts ? (mesh.batch + parts - 1) / parts : 0;
    device.overlaps = part_ * pixels_ <= kFewPixels;
    // As many warps as the device holds at a time. 124 triangles of a strip have 126 to 128 vertices, which is four for a lane; 60 have 62 or 64, and 28 have 30 or 32. Of
    // triangles that a warp draws one by one, a few.
    warps_ = std::max<int64_t>(device.multiprocessors() * kDrawBlocks * (kDrawBlock / kWarp), 6);
    shared_ = part_ >= kImagesToShare;
    for (const int32_t each : {124, 60, 28, 4}) {
      if (each == 4 ? pixels_ <= kLargeTriangles * mesh.num_faces : each > int32_t(kWarp) && !shared_) continue;
      each_ = each == 28 && !shared_ ? int32_t(kWarp) : each, runs_ = (mesh.num_faces + each_ - 1) / each_;
      if (runs_ * part_ >= kFewestUnits * warps_) break;
    }
    words_ = (mesh.num_faces + 2 * kWarp - 1) / (2 * kWarp);
    size_ = (part_ * (pixels_ + words_) + 1 + 1) / 2 * 2;
    memory_ = empty(like, {(layers ? 2 : 1) * size_ + (shared_ ? runs_ * int64_t(sizeof(Run)) / 8 : 0)}, ScalarType::Long);
    keys_ = static_cast<uint64_t*>(memory_.mutable_data_ptr());
    found_ = reinterpret_cast<Run*>(keys_ + (layers ? 2 : 1) * size_);
  }

  // run(part of the mesh's images, the first of them)
  template <class F>
  void in_parts(const F& run) {
    for (int64_t n = 0; n < mesh_.batch; n += part_) {
      BatchMesh<T> part = mesh_;
      part.clip += n * mesh_.num_vertices * 4, part.batch = std::min(part_, mesh_.batch - n);
      run(part, n);
    }
  }

  // Launches the search for a part's layer, after that for the one in front of it. Returns its keys [N,H,W].
  const uint64_t* find(const BatchMesh<T>& part, int64_t layer = 0) {
    uint64_t* const keys = keys_ + layer % 2 * size_;
    const int64_t count = part.batch * (pixels_ + words_);  // keys, marks, and how many units are taken
    Units units{each_, int32_t(runs_), uint32_t(runs_ * part.batch), found_, shared_, reinterpret_cast<uint32_t*>(keys + count)};
    Fills fills;
    fills.add(keys, count + 1);
    if (shared_ && !ready_) {
      const int64_t finders = (runs_ + kBlock / kWarp - 1) / (kBlock / kWarp);
      LAUNCH_AFTER((prepare<T>), unsigned(finders + blocks_to_fill(device_, fills)), kBlock, device_, fills, part, units, found_);
      device_.launched();
      ready_ = true;
    } else {
      launch_fill<~0u>(device_, fills);
    }
    const Marks marks{reinterpret_cast<uint32_t*>(keys + part.batch * pixels_), 2 * words_};
    if (layer)
      launch(part, Visibility<true>{keys, keys_ + (layer + 1) % 2 * size_}, marks, units);
    else
      launch(part, Visibility<false>{keys, nullptr}, marks, units);
    return keys;
  }

 private:
  const Device& device_;
  BatchMesh<T> mesh_;
  int64_t pixels_, part_, warps_, runs_ = 0, words_, size_;
  int32_t each_;
  bool shared_, ready_ = false;
  Tensor memory_;
  uint64_t* keys_;
  Run* found_;

  template <bool kBehind>
  void launch(const BatchMesh<T>& part, const Visibility<kBehind>& to, const Marks& marks, const Units& units) {
    if (units.count == 0) return;
    constexpr int64_t kWarps = kDrawBlock / kWarp;
    LAUNCH_AFTER((draw<T, kBehind>), unsigned((std::min<int64_t>(units.count, warps_) + kWarps - 1) / kWarps), kDrawBlock, device_, part, Orientation(part.cull), to, marks, units);
    dim3 grid = grid_of(words_ * part.batch, 1);
    grid.x = std::min(grid.x, unsigned(std::max<int64_t>(2 * device_.multiprocessors(), 1)));
    grid.z = unsigned(std::clamp<int64_t>(pixels_ >> 16, 1, 16));
    LAUNCH_AFTER((draw_marked<T, kBehind>), grid, kBlock, device_, part, to, marks);
    device_.launched();
  }
};

}  // namespace facerender
