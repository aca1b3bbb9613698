// Gradients of silhouettes and occlusion edges: d image / d clip where the outline of a surface moves across pixels.
//
// A pixel integrates color over its box. Where an outline moves, the pixel gains the color on one side and loses that
// on the other: d loss is the sum over the outline of grad . (color in front - color behind) (velocity . normal) ds.
// As normal ds = (dy, dx) up to signs, the sum has two parts. A pair of horizontal neighbors with an outline between
// them stands for one row of it, dy = 1, and contributes the part of the velocity in x; a pair of vertical neighbors
// stands for one column, dx = 1, and contributes the part of the velocity in y.
//
// The outline between two neighboring pixel centers is found by a walk over the mesh, from the triangle visible at one
// center towards the other, until the surface ends or folds over. So it is the true outline at its true position, even
// if its triangles are smaller than a pixel and cover no center. If the walk arrives at the triangle that is visible at
// the other pixel, there is no outline between the two and no gradient.
#pragma once

#include "raster.h"

namespace facerender {
ISA_NAMESPACE_BEGIN

constexpr int kMaxWalk = 256;  // triangles between two neighboring pixel centers, before the walk gives up

enum class Walk { kReached, kOutline, kInconclusive };

template <class T>
struct Outline {
  Walk end;
  int32_t v0, v1;  // the edge where the surface ends
  T t;             // position along that edge on the screen, from v0
  T distance;      // from the first pixel center, in pixels
  T depth;
};

// A mesh in one image.
template <class T>
struct SurfaceView {
  const T* clip;             // [V,4]
  const int32_t* faces;      // [F,3]
  const int32_t* neighbors;  // [F,3]: the face across the edge opposite each corner, -1 for none
  int64_t num_vertices, num_faces;
  int32_t height, width;
};

template <class T>
struct PixelPoint {
  T along, across;
  bool in_front;  // w > 0
};

// A vertex relative to the center of pixel (row, col), along one image axis and across it.
template <class T>
HD PixelPoint<T> pixel_point(const SurfaceView<T>& s, int32_t vertex, int32_t row, int32_t col, bool vertical, T sign) {
  const Vec4<T> p = load4(s.clip + int64_t(vertex) * 4);
  const T inv = T(1) / p.w;
  const T x = (p.x * inv + T(1)) * (T(s.width) * T(0.5)) - (T(col) + T(0.5));
  const T y = (T(1) - p.y * inv) * (T(s.height) * T(0.5)) - (T(row) + T(0.5));
  return {sign * (vertical ? y : x), vertical ? x : y, p.w > T(0) && is_finite(x) && is_finite(y)};
}

template <class T>
HD Outline<T> walk(const SurfaceView<T>& s, int32_t face, int32_t target, int32_t row, int32_t col, bool vertical,
                   T sign) {
  Outline<T> out{Walk::kInconclusive, -1, -1, T(0), T(0), T(0)};
  int32_t from = -1;  // the previous face
  for (int step = 0; step < kMaxWalk; ++step) {
    Corners f;
    if (face >= s.num_faces || !load_corners(s.faces, face, s.num_vertices, f)) return out;
    PixelPoint<T> p[3];
    for (int i = 0; i < 3; ++i) {
      p[i] = pixel_point(s, f.v[i], row, col, vertical, sign);
      if (!p[i].in_front) return out;
    }
    // The line through the pixel centers crosses two of the three edges; the walk leaves by the one that it did not
    // enter by.
    int leave = -1;
    T at = T(0), t = T(0);
    for (int i = 0; i < 3; ++i) {
      const int j = (i + 1) % 3, k = (i + 2) % 3;
      if ((p[j].across > T(0)) == (p[k].across > T(0))) continue;
      if (from >= 0 && s.neighbors[int64_t(face) * 3 + i] == from) continue;
      const T tt = p[j].across / (p[j].across - p[k].across);
      const T a = p[j].along + (p[k].along - p[j].along) * tt;
      if (leave < 0 || a > at) leave = i, at = a, t = tt;
    }
    if (leave < 0 || at > T(1) + T(1e-3)) return out;
    const int j = (leave + 1) % 3, k = (leave + 2) % 3;
    const int32_t next = s.neighbors[int64_t(face) * 3 + leave];
    bool ends = next < 0 || next >= s.num_faces;
    if (!ends && next == target) {
      out.end = Walk::kReached;
      return out;
    }
    if (!ends) {  // does the next triangle lie on the far side of the edge, or does the surface fold over?
      Corners g;
      if (!load_corners(s.faces, next, s.num_vertices, g)) return out;
      const int32_t other =
          g.v[0] != f.v[j] && g.v[0] != f.v[k] ? g.v[0] : (g.v[1] != f.v[j] && g.v[1] != f.v[k] ? g.v[1] : g.v[2]);
      const PixelPoint<T> o = pixel_point(s, other, row, col, vertical, sign);
      if (!o.in_front) return out;
      // The far side is the one that the walk points to. A triangle seen edge-on is on neither, and is walked through.
      const T ex = p[k].along - p[j].along, ey = p[k].across - p[j].across;
      const T there = ex * (o.across - p[j].across) - ey * (o.along - p[j].along);
      ends = ey > T(0) ? there > T(0) : there < T(0);
    }
    if (ends) {
      const Vec4<T> q0 = load4(s.clip + int64_t(f.v[j]) * 4), q1 = load4(s.clip + int64_t(f.v[k]) * 4);
      out.end = Walk::kOutline;
      out.v0 = f.v[j], out.v1 = f.v[k], out.t = t;
      out.distance = at < T(0) ? T(0) : (at > T(1) ? T(1) : at);
      out.depth = q0.z / q0.w * (T(1) - t) + q1.z / q1.w * t;
      return out;
    }
    from = face, face = next;
  }
  return out;
}

// The outline between pixel (row, col), where face a is visible, and its right or lower neighbor, where face b is.
template <class T>
HD Outline<T> outline_between(const SurfaceView<T>& s, int32_t a, int32_t b, int32_t row, int32_t col, bool vertical) {
  Outline<T> first{Walk::kInconclusive, -1, -1, T(0), T(0), T(0)}, second = first;
  if (a >= 0) first = walk(s, a, b, row, col, vertical, T(1));
  if (first.end == Walk::kReached) return first;
  if (b >= 0) second = walk(s, b, a, row + (vertical ? 1 : 0), col + (vertical ? 0 : 1), vertical, T(-1));
  second.distance = T(1) - second.distance;
  if (second.end != Walk::kOutline) return second.end == Walk::kReached ? second : first;
  if (first.end != Walk::kOutline) return second;
  return first.depth <= second.depth ? first : second;
}

// The gradient of one vertex of the outline; 0 if it might overflow, because w is tiny or the vertex is far outside the
// image. g: d loss / d (position of the outline along the axis, in pixels).
template <class T>
HD Vec4<T> outline_gradient(const SurfaceView<T>& s, int32_t vertex, T g, bool vertical) {
  const Vec4<T> p = load4(s.clip + int64_t(vertex) * 4);
  const T inv = T(1) / p.w;
  Vec4<T> out{T(0), T(0), T(0), T(0)};
  if (vertical) {
    out.y = -g * (T(s.height) * T(0.5)) * inv;
    out.w = -out.y * p.y * inv;
  } else {
    out.x = g * (T(s.width) * T(0.5)) * inv;
    out.w = -out.x * p.x * inv;
  }
  const bool overflow = beyond(out.x, kLargestW) || beyond(out.y, kLargestW) || beyond(out.w, kLargestW);
  if (overflow && is_finite(g)) return {T(0), T(0), T(0), T(0)};
  return out;
}

// d loss / d (position of the outline), in pixels from the first of two neighbors towards the second: the pixel that
// contains the outline takes the first one's color instead of the second's. 0 if there is no outline.
template <class T, class A>
HD T outline_motion_gradient(const SurfaceView<T>& s, const int32_t* face_id, const A* image, const T* grad,
                             int64_t channels, int32_t row, int32_t col, bool vertical, Outline<T>& outline) {
  const int64_t i = int64_t(row) * s.width + col, j = vertical ? i + s.width : i + 1;
  if (face_id[i] == face_id[j]) return T(0);
  T near_first = T(0), near_second = T(0);
  for (int64_t c = 0; c < channels; ++c) {
    const T step = T(image[i * channels + c]) - T(image[j * channels + c]);
    near_first += step * grad[i * channels + c];
    near_second += step * grad[j * channels + c];
  }
  if (near_first == T(0) && near_second == T(0)) return T(0);
  outline = outline_between(s, face_id[i], face_id[j], row, col, vertical);
  if (outline.end != Walk::kOutline) return T(0);
  return outline.distance < T(0.5) ? near_first : near_second;
}

ISA_NAMESPACE_END
}  // namespace facerender
