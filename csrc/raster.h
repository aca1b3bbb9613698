// Rasterization: which pixels a triangle covers, at which depth, and with which barycentrics. Read by both back ends
// and, through fused.h and edges.h, by the ops that build on it.
//
// Coverage is exact, and `covers` decides it. Vertices are snapped to 1/256 pixel and every decision is an integer
// comparison, so CPU, CUDA and the reference in facerender/reference.py agree bit for bit. A pixel center on an edge is
// treated as if it lay at (x + e, y + e^2) for an infinitesimal e. This is the top-left rule: exactly one of the
// triangles around it covers it.
//
// A triangle with a corner at or behind the camera plane, or too far outside the image for 24.8 fixed point, is
// rasterized without clipping, by the signs of homogeneous determinants (Olano and Greer 1997, "Triangle scan
// conversion using 2D homogeneous coordinates"), also on integers. An edge that it shares with an ordinary triangle is
// the same line in both.
#pragma once

#include "arithmetic.h"

namespace facerender {
ISA_NAMESPACE_BEGIN

enum Cull : int64_t { kCullNone = 0, kCullBack = 1, kCullFront = 2 };

constexpr int kSubpixelBits = 8;
constexpr int32_t kSubpixels = 1 << kSubpixelBits;
// A vertex takes the homogeneous path if it is further than this from the image's corner, in pixels, or if its w is
// outside these bounds.
constexpr float kGuardBand = 16384.f;
constexpr float kSmallestW = 1e-30f, kLargestW = 1e30f;
// Depth has no gradient where w is below kNearest, and barycentrics have none where one over twice the area, in square
// pixels times w^2, is above kSteepest: products of them overflow.
constexpr float kNearest = 1e-12f, kSteepest = 1e18f;
constexpr uint64_t kEmptyKey = ~uint64_t(0);  // the visibility key of a pixel without a face

// A projected vertex. `first_center` packs two numbers: the first pixel column whose center is at the vertex or to its
// right (lower half), and the first pixel row whose center is at the vertex or below it (upper half), both clamped to
// the image. A triangle whose three vertices have the same column, or the same row, covers no center.
template <class T, class I = int32_t>
struct ScreenVertex {
  I x, y;  // 24.8 fixed point, y down
  T z;     // z/w
  I first_center;
};
// Values of first_center that are flags.
constexpr int32_t kHomogeneousVertex = int32_t(0x80008000u);  // this vertex needs the homogeneous path
constexpr int32_t kInvalidVertex = int32_t(0xC000C000u);      // a coordinate is NaN or infinite

// first_center along one axis, of which the image has `side` pixels.
template <class I>
HD I first_center_on_axis(I fixed, int32_t side) {
  const I c = (fixed + (kSubpixels / 2 - 1)) >> kSubpixelBits;
#ifdef __CUDA_ARCH__
  return __vimin_s32_relu(c, side);
#else
  const I zero = c - c, low = select(c < 0, zero, c);
  return select(low > side, zero + side, low);
#endif
}

// |a| <= limit; false for NaN.
template <class T>
HD auto within(T a, float limit) {
#ifdef __CUDA_ARCH__
  return fabs(a) <= limit;
#else
  return (a >= -limit) & (a <= limit);
#endif
}

// |a| > limit; false for NaN.
template <class T>
HD auto beyond(T a, float limit) {
  return (a < -limit) | (a > limit);
}

// kMarkInvalid: whether a vertex that is not finite gets kInvalidVertex; without, it gets kHomogeneousVertex.
template <class T, class I, bool kMarkInvalid = true>
HD ScreenVertex<T, I> screen_vertex(T x, T y, T z, T w, int32_t width, int32_t height) {
  ScreenVertex<T, I> s;
  const T zero = x - x;
  const T inv = reciprocal(w);
  T px = (x * inv + 1.0f) * (float(width) * float(kSubpixels / 2));  // in 1/256 pixel
  T py = (1.0f - y * inv) * (float(height) * float(kSubpixels / 2));
  s.z = z * inv;
  const auto near = (w >= kSmallestW) & (w <= kLargestW) & within(px, kGuardBand * kSubpixels) &
                    within(py, kGuardBand * kSubpixels) & within(s.z, 3e38f);  // false for NaN
#ifndef __CUDA_ARCH__  // on the device, the coordinates of other vertices are never used
  px = select(near, px, zero), py = select(near, py, zero);
#endif
  s.x = round_to_int<I>(px);
  s.y = round_to_int<I>(py);
  const I first = first_center_on_axis(s.x, width) | first_center_on_axis(s.y, height) << 16, none = first - first;
  const auto other = [&] {
    if (!kMarkInvalid) return none + kHomogeneousVertex;
    return select(is_finite((x - x) + (y - y) + (z - z) + (w - w)), none + kHomogeneousVertex, none + kInvalidVertex);
  };
  if constexpr (std::is_arithmetic_v<T>)
    s.first_center = near ? first : other();
  else
    s.first_center = select(near, first, other());
  return s;
}

// Columns are at most 16384 (check_size), so the sign bits of both halves are free for the flag.
HD bool needs_homogeneous(int32_t c0, int32_t c1, int32_t c2) { return ((c0 | c1 | c2) & kHomogeneousVertex) != 0; }

// The minimum, and the maximum, of three unsigned numbers in each half of a word.
HD uint32_t min3_halves(uint32_t a, uint32_t b, uint32_t c) {
#ifdef __CUDA_ARCH__
  return __vimin3_u16x2(a, b, c);
#else
  const auto least = [](uint32_t x, uint32_t y) { return (x & 0xFFFF) < (y & 0xFFFF) ? x & 0xFFFF : y & 0xFFFF; };
  return least(least(a, b), c) | least(least(a >> 16, b >> 16), c >> 16) << 16;
#endif
}
HD uint32_t max3_halves(uint32_t a, uint32_t b, uint32_t c) {
#ifdef __CUDA_ARCH__
  return __vimax3_u16x2(a, b, c);
#else
  return ~min3_halves(~a, ~b, ~c);
#endif
}

// The lower halves of two words, the first in the lower half.
HD uint32_t low_halves(uint32_t a, uint32_t b) {
#ifdef __CUDA_ARCH__
  return __byte_perm(a, b, 0x5410);
#else
  return (a & 0xFFFF) | b << 16;
#endif
}

// The pixel columns [x0, x1) and rows [y0, y1) whose centers are in a triangle's bounding box, from the first_center of
// its vertices.
struct Box {
  int32_t x0, x1, y0, y1;
};
HD int32_t min3(int32_t a, int32_t b, int32_t c) {
  const int32_t m = a < b ? a : b;
  return m < c ? m : c;
}
HD int32_t max3(int32_t a, int32_t b, int32_t c) {
  const int32_t m = a > b ? a : b;
  return m > c ? m : c;
}
HD Box center_box(int32_t c0, int32_t c1, int32_t c2) {
  const int32_t x0 = c0 & 0xFFFF, x1 = c1 & 0xFFFF, x2 = c2 & 0xFFFF, y0 = c0 >> 16, y1 = c1 >> 16, y2 = c2 >> 16;
  return {min3(x0, x1, x2), max3(x0, x1, x2), min3(y0, y1, y2), max3(y0, y1, y2)};
}

// Whether a triangle covers a pixel's center is decided in three steps.
//
// 1. screen_vertex snaps its vertices to 1/256 pixel.
// 2. TriangleSetup computes its three edge functions at the center. That of the edge p -> q = p + (dx, dy) is
//      e = dx * (center.y - p.y) - dy * (center.x - p.x),
//    with the triangle oriented so that e is positive on the inner side of the edge and 0 on its line.
// 3. tie_break of the edge, 0 or -1, is ADDED to e, and `covers` tests whether all three sums are >= 0. As e is an
//    integer, adding -1 matters for e = 0 only: a center on an edge is covered if that is a left or a top edge.
//
// Example, in pixels with y down: a = (0.501, 0.5), b = (2.5, 0.5), c = (0.5, 2.5) snap to (128, 128), (640, 128),
// (128, 640), which puts corner a on the center of pixel (0, 0).
//                                        e + tie at the center of pixel (column, row)
//         edge    dx    dy           tie   (0, 0)           (1, 0)           (1, 1)
//     e0  b -> c  -512   512          -1   262144 - 1       131072 - 1            0 - 1
//     e1  c -> a     0  -512  (left)   0        0 + 0       131072 + 0       131072 + 0
//     e2  a -> b   512     0  (top)    0        0 + 0            0 + 0       131072 + 0
//     covers                               yes              yes              no: it belongs to the triangle beyond e0

// `covers` as a number, for code that tests many centers at once: negative if the center is not covered. `I` may be a
// SIMD vector with a center in each lane.
template <class I>
HD I outside_sign(I e0, I e1, I e2) {
  return e0 | e1 | e2;
}
// Whether a center is covered, given the edge functions there, each with its tie added. All code that draws asks this
// function or outside_sign; only on the homogeneous path the same rule is applied to wider integers
// (HomogeneousSetup::covers).
template <class I>
HD bool covers(I e0, I e1, I e2) {
  return outside_sign(e0, e1, e2) >= 0;
}

// In tie_break and TriangleSetup, `I` is int32 for triangles narrower than kNarrow pixels, for which all products fit,
// else int64; both give the same values. The CPU also passes SIMD vectors of sixteen triangles, so this is branch-free:
// `a >> SignShift` is -1 for negative a, else 0.
constexpr int32_t kNarrow = 120;

template <class I>
struct SignShift {
  static constexpr int value = 31;
};
template <>
struct SignShift<int64_t> {
  static constexpr int value = 63;
};

// What is added to the edge function of an edge (dx, dy): 0 if a center on it counts as inside, because it is a left
// edge (the interior lies to its right) or a top edge (horizontal, the interior lies below); else -1.
template <class I>
HD I tie_break(I dx, I dy) {
  constexpr int sign = SignShift<I>::value;
  return ~((dy + dy + ((-dx) >> sign)) >> sign);
}

template <class T, class I>
struct TriangleSetup {
  I e1, e2, area;  // edge functions, without ties, at the center of pixel (col, row); e0 = area - e1 - e2
  I dx0, dy0, dx1, dy1, dx2, dy2;
  I tie0, tie1, tie2;
  I drawn;  // -1 or 0
  T z0, dz1, dz2, inv_area;

  HD I e0() const { return area - e1 - e2; }
  HD TriangleSetup(I ax, I ay, T az, I bx, I by, T bz, I cx, I cy, T cz, I col, I row, int64_t cull) {
    constexpr int sign = SignShift<I>::value;
    const I abx = bx - ax, aby = by - ay, acx = cx - ax, acy = cy - ay;
    const I signed_area = abx * acy - aby * acx;  // y points down, so counterclockwise on the screen is negative
    const I clockwise = (-signed_area) >> sign, counter = signed_area >> sign;
    drawn = cull == kCullBack ? counter : (cull == kCullFront ? clockwise : (clockwise | counter));
    const I s = counter | 1;
    area = s * signed_area;
    dx0 = s * (acx - abx), dy0 = s * (acy - aby);  // edge b -> c
    dx1 = -s * acx, dy1 = -s * acy;                // edge c -> a
    dx2 = s * abx, dy2 = s * aby;                  // edge a -> b
    tie0 = tie_break(dx0, dy0), tie1 = tie_break(dx1, dy1), tie2 = tie_break(dx2, dy2);
    const I px = (col << kSubpixelBits) + kSubpixels / 2 - ax, py = (row << kSubpixelBits) + kSubpixels / 2 - ay;
    e1 = dx1 * py - dy1 * px;  // both edges pass through a
    e2 = dx2 * py - dy2 * px;
    z0 = az, dz1 = bz - az, dz2 = cz - az;
    inv_area = reciprocal(convert<T>(area));
  }
};
template <class T, class I>
HD TriangleSetup<T, I> triangle_setup(const ScreenVertex<T>& a, const ScreenVertex<T>& b, const ScreenVertex<T>& c,
                                      const Box& box, int64_t cull) {
  return TriangleSetup<T, I>(I(a.x), I(a.y), a.z, I(b.x), I(b.y), b.z, I(c.x), I(c.y), c.z, I(box.x0), I(box.y0), cull);
}

// Depth is z/w, which is affine on the screen. Visibility compares it as float32 for every T.
template <class T, class I>
HD T plane_depth(T z0, T dz1, T dz2, T inv_area, I e1, I e2) {
  return z0 + (convert<T>(e1) * dz1 + convert<T>(e2) * dz2) * inv_area;
}

HD bool in_depth_range(float depth) { return depth >= -1.f && depth <= 1.f; }

// The visibility key: depth in the upper half as a number that sorts like it, face index in the lower half. A smaller
// key is nearer, or as near with the lower face index.
HD uint64_t visibility_key(float depth, int32_t face) {
  const uint32_t bits = float_bits(depth + 0.f);  // -0 becomes +0
  const uint32_t ordered = bits ^ (uint32_t(int32_t(bits) >> 31) | 0x80000000u);
  return uint64_t(ordered) << 32 | uint32_t(face);
}
HD int32_t key_face(uint64_t key) { return key == kEmptyKey ? -1 : int32_t(uint32_t(key)); }

// The homogeneous path.

using Int128 = __int128;

HD double int128_to_double(Int128 a) { return double(int64_t(a >> 64)) * 18446744073709551616.0 + double(uint64_t(a)); }

// The smallest power of two above all of three numbers, as its exponent.
HD int exponent_of(double x, double y, double w) {
  double largest = fabs(x) > fabs(y) ? fabs(x) : fabs(y);
  largest = fabs(w) > largest ? fabs(w) : largest;
  int exponent;
  frexp(largest, &exponent);
  return exponent;
}

// The point of a vertex in the projective plane: x, y and w times a power of two, the largest in 1/2..1. So no sum or
// product of them overflows, whatever the vertex.
struct Direction {
  double x, y, w;
  int exponent;  // of that power: x = clip.x / 2^exponent

  template <class T>
  HD explicit Direction(const Vec4<T>& clip) {
    exponent = exponent_of(double(clip.x), double(clip.y), double(clip.w));
    x = ldexp(double(clip.x), -exponent), y = ldexp(double(clip.y), -exponent), w = ldexp(double(clip.w), -exponent);
  }
};

// Whether two corners lie exactly opposite each other across the eye, a = -k b. Every plane through both passes through
// the eye, so a triangle with these corners is seen edge-on: it has no area, which snapped corners do not show. The
// products are exact for float32.
HD bool opposite(const Direction& a, const Direction& b) {
  return a.x * b.w == a.w * b.x && a.y * b.w == a.w * b.y && a.x * b.y == a.y * b.x &&
         a.x * b.x + a.y * b.y + a.w * b.w < 0;
}

struct HomogeneousVertex {
  int64_t x, y, w;  // the vertex is at (x/w, y/w) in 1/256 pixel; |x|, |y|, |w| <= 2^28
  double z, scaled_w;
};

template <class T>
HD HomogeneousVertex homogeneous_vertex(const Vec4<T>& clip, const Direction& d, int32_t width, int32_t height) {
  const auto s = screen_vertex<T, int32_t>(clip.x, clip.y, clip.z, clip.w, width, height);
  if (s.first_center != kHomogeneousVertex)
    return {s.x, s.y, 1, double(s.z), 1.0};  // the same lines as in the ordinary path
  const double x = (d.x + d.w) * (double(width) * (kSubpixels / 2));
  const double y = (d.w - d.y) * (double(height) * (kSubpixels / 2));
  const int shift = 28 - exponent_of(x, y, d.w);
  return {int64_t(rint(ldexp(x, shift))), int64_t(rint(ldexp(y, shift))), int64_t(rint(ldexp(d.w, shift))),
          ldexp(double(clip.z), shift - d.exponent), ldexp(d.w, shift)};
}

struct HomogeneousSetup {
  int64_t a[3], b[3];  // E_i(x, y) = a x + b y + c with x, y in 1/256 pixel, positive inside
  Int128 c[3];
  double z[3], w[3];
  bool drawn;

  template <class T>
  HD HomogeneousSetup(const Vec4<T>* clip, int32_t width, int32_t height, int64_t cull) {
    const Direction d[3] = {Direction(clip[0]), Direction(clip[1]), Direction(clip[2])};
    HomogeneousVertex v[3];
    for (int i = 0; i < 3; ++i) v[i] = homogeneous_vertex(clip[i], d[i], width, height);
    const bool edge_on = opposite(d[0], d[1]) || opposite(d[1], d[2]) || opposite(d[2], d[0]);
    // A triangle outside one plane of the view volume is not drawn.
    bool left = true, right = true, above = true, below = true, behind = true;
    const int64_t right_edge = int64_t(width) * kSubpixels, lower_edge = int64_t(height) * kSubpixels;
    for (int i = 0; i < 3; ++i) {
      left &= v[i].x < 0, above &= v[i].y < 0, behind &= v[i].scaled_w <= 0;
      right &= Int128(v[i].x) > Int128(v[i].w) * right_edge, below &= Int128(v[i].y) > Int128(v[i].w) * lower_edge;
    }
    Int128 det = 0;
    for (int i = 0; i < 3; ++i) {
      const HomogeneousVertex &p = v[(i + 1) % 3], &q = v[(i + 2) % 3];
      a[i] = p.y * q.w - p.w * q.y;
      b[i] = p.w * q.x - p.x * q.w;
      c[i] = Int128(p.x) * q.y - Int128(p.y) * q.x;
      z[i] = v[i].z, w[i] = v[i].scaled_w;
    }
    det = Int128(a[0]) * v[0].x + Int128(b[0]) * v[0].y + c[0] * v[0].w;
    const int s = det < 0 ? -1 : 1;
    for (int i = 0; i < 3; ++i) a[i] *= s, b[i] *= s, c[i] *= s;
    drawn = det != 0 && !edge_on && !(left || right || above || below || behind) && !(cull == kCullBack && s > 0) &&
            !(cull == kCullFront && s < 0);
  }

  // The counterpart of the free function `covers`: whether the pixel's center is inside, by the same rule for ties (an
  // edge's dx is b, and its dy is -a), and its depth in range.
  HD bool covers(int32_t col, int32_t row, float& depth) const {
    const int64_t x = (int64_t(col) << kSubpixelBits) + kSubpixels / 2,
                  y = (int64_t(row) << kSubpixelBits) + kSubpixels / 2;
    double zsum = 0, wsum = 0;
    for (int i = 0; i < 3; ++i) {
      const Int128 e = Int128(a[i]) * x + Int128(b[i]) * y + c[i];
      if (e < 0 || (e == 0 && !(a[i] > 0 || (a[i] == 0 && b[i] > 0)))) return false;
      const double weight = int128_to_double(e);
      zsum += weight * z[i], wsum += weight * w[i];
    }
    depth = float(zsum / wsum);
    return wsum > 0 && in_depth_range(depth);
  }
};

// Barycentrics and their derivatives.

// Perspective-correct barycentrics of a pixel center, from the unsnapped vertices.
// With u_i = w_i (x_i - px), v_i = w_i (y_i - py) in pixels, m_i = u_j v_k - v_j u_k and bary_i = m_i / sum(m).
// Snapping may put a center up to 1/512 pixel outside: each bary is clamped to [0, 1] and the three are normalized.
// A triangle without area before snapping, or too large or small for its products, has no barycentrics: it gets a point
// inside, and no gradient. One whose gradient might overflow gets none either.
template <class T>
struct Barycentrics {
  T u[3], v[3], raw[3], b[3], inv_sum, inv_clamped, ox, oy;
  float half_w, half_h;

  template <class I>
  HD Barycentrics(const Vec4<T>* clip, I col, I row, int32_t width, int32_t height) {
    half_w = float(width) * 0.5f, half_h = float(height) * 0.5f;
    ox = half_w - (convert<T>(col) + 0.5f), oy = half_h - (convert<T>(row) + 0.5f);
    for (int i = 0; i < 3; ++i) {
      u[i] = clip[i].x * half_w + clip[i].w * ox;
      v[i] = clip[i].w * oy - clip[i].y * half_h;
    }
    T m[3];
    for (int i = 0; i < 3; ++i) {
      const int j = (i + 1) % 3, k = (i + 2) % 3;
      m[i] = u[j] * v[k] - v[j] * u[k];
    }
    inv_sum = 1.0f / (m[0] + m[1] + m[2]);
    for (int i = 0; i < 3; ++i) raw[i] = m[i] * inv_sum;
    const T c0 = clamp01(raw[0]), c1 = clamp01(raw[1]), c2 = clamp01(raw[2]);
    inv_clamped = 1.0f / (c0 + c1 + c2);
    b[0] = c0 * inv_clamped, b[1] = c1 * inv_clamped, b[2] = c2 * inv_clamped;
    const auto valid = is_finite((raw[0] + raw[1]) + raw[2]) & is_finite(inv_clamped);
    const T zero = ox - ox;
    for (int i = 0; i < 3; ++i) {
      raw[i] = select(valid, raw[i], zero - 1.0f);
      b[i] = select(valid, b[i], zero + (i == 2 ? 0.5f : 0.25f));
    }
    inv_sum = select(valid & within(inv_sum, kSteepest), inv_sum, zero), inv_clamped = select(valid, inv_clamped, zero);
  }

  // Adds d loss / d clip (x, y, w of each corner), given d loss / d b = g. Returns whether there is no such gradient,
  // because the triangle has no barycentrics or products would overflow: then nothing is added, or, in lanes, what is
  // added must not be used.
  HD auto backward(const T* g, Vec4<T>* grad) const {
    const T along = mul_add(g[2], b[2], mul_add(g[1], b[1], g[0] * b[0])), zero = along - along;
    T graw[3], gm[3];
    for (int i = 0; i < 3; ++i)
      graw[i] = select((raw[i] >= 0.0f) & (raw[i] <= 1.0f), (g[i] - along) * inv_clamped, zero);
    const T along_raw = mul_add(graw[2], raw[2], mul_add(graw[1], raw[1], graw[0] * raw[0]));
    for (int i = 0; i < 3; ++i) gm[i] = (graw[i] - along_raw) * inv_sum;
    const auto none = inv_sum == 0.0f;
    if constexpr (std::is_arithmetic_v<T>)
      if (none) return none;
    for (int i = 0; i < 3; ++i) {
      const int j = (i + 1) % 3, k = (i + 2) % 3;
      const T gu = mul_add(gm[k], v[j], -(gm[j] * v[k]));
      const T gv = mul_add(gm[j], u[k], -(gm[k] * u[j]));
      grad[i].x = mul_add(gu, half_w, grad[i].x);
      grad[i].y = mul_add(gv, -half_h, grad[i].y);
      grad[i].w += mul_add(gu, ox, gv * oy);
    }
    return none;
  }
};

// Depth z/w at a pixel, clamped to -1..1, and its derivative with respect to clip z, clip w and the barycentrics, which
// is 0 where it is clamped or would overflow. The pixel's center is in range by the snapped corners (in_depth_range),
// but by the unsnapped ones it may be a little outside, and where the triangle is seen nearly edge-on far outside, or
// behind the eye.
template <class T>
HD T interpolated_depth(const Vec4<T>* clip, const T* b) {
  const T z = b[0] * clip[0].z + b[1] * clip[1].z + b[2] * clip[2].z,
          w = b[0] * clip[0].w + b[1] * clip[1].w + b[2] * clip[2].w;
  const T nearest = (b[0] - b[0]) - 1.0f;  // b is finite
  T depth = z / w;
  depth = select((w > 0.0f) & (depth > -1.0f), depth, nearest);  // NaN too
  return select(depth < 1.0f, depth, -nearest);
}
template <class T>
HD void interpolated_depth_backward(const Vec4<T>* clip, const T* b, T grad_depth, T* grad_b, Vec4<T>* grad) {
  const T z = b[0] * clip[0].z + b[1] * clip[1].z + b[2] * clip[2].z,
          w = b[0] * clip[0].w + b[1] * clip[1].w + b[2] * clip[2].w, zero = b[0] - b[0];
  const T inv_w = select((w >= kNearest) & (z >= -w) & (z <= w), 1.0f / w, zero);
  const T depth = z * inv_w, g = grad_depth * inv_w;
  for (int i = 0; i < 3; ++i) {
    grad_b[i] += g * (clip[i].z - depth * clip[i].w);
    grad[i].z += g * b[i];
    grad[i].w -= g * b[i] * depth;
  }
}

// d loss / d clip of the three corners, given that of one fragment's barycentrics and depth.
template <class T>
HD void fragment_backward(const T* positions, const int32_t* corner, int32_t row, int32_t col, int32_t height,
                          int32_t width, const Vec3<T>& grad_bary, T grad_depth, Vec4<T>* grad) {
  const Vec4<T> clip[3] = {load4(positions + int64_t(corner[0]) * 4), load4(positions + int64_t(corner[1]) * 4),
                           load4(positions + int64_t(corner[2]) * 4)};
  const Barycentrics<T> p(clip, col, row, width, height);
  T g[3] = {grad_bary.x, grad_bary.y, grad_bary.z};
  for (int i = 0; i < 3; ++i) grad[i] = {T(0), T(0), T(0), T(0)};
  if (grad_depth != T(0)) interpolated_depth_backward(clip, p.b, grad_depth, g, grad);
  bool none = p.inv_sum == T(0);
  if (g[0] != g[1] || g[1] != g[2])
    none |= p.backward(g, grad);  // barycentrics sum to 1: an equal gradient of all has no effect
  if (none)
    for (int i = 0; i < 3; ++i) grad[i] = {T(0), T(0), T(0), T(0)};
}

ISA_NAMESPACE_END
}  // namespace facerender
