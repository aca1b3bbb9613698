// Gradients of silhouettes and occlusion edges.
//
// An image moves where a surface's outline moves: a pixel's box gains the colour on one side of the outline and loses that on
// the other. Sum over the outline of (colour before - colour behind) . (velocity . normal) ds; per component, pairs of
// horizontal neighbours measure velocity_x dy and pairs of vertical neighbours velocity_y dx, once each.
//
// The outline between two neighbouring pixel centres is found by walking over the mesh, from the triangle seen at one
// towards the other, until the surface ends or folds over. So it is the true outline at its true place, also where its
// triangles are smaller than a pixel and none of them is seen at a pixel centre; and where the walk arrives at the triangle
// that the other pixel sees, there is no edge and the pair has no gradient.
#pragma once

#include "raster.h"

namespace facerender {
LEVEL_BEGIN

constexpr int kMaxWalk = 256;  // triangles between two neighbouring pixel centres, before the walk gives up

enum class Walk { kReached, kOutline, kElsewhere };

template <class T>
struct Outline {
  Walk end;
  int32_t v0, v1;  // the edge where the surface ends
  T t;             // where along it, on the screen, from v0
  T at;            // distance from the first pixel centre, in pixels
  T depth;
};

// The image side of a mesh, as the walk needs it.
template <class T>
struct SurfaceView {
  const T* clip;              // [V,4]
  const int32_t* faces;       // [F,3]
  const int32_t* neighbours;  // [F,3]: the face across the edge opposite each corner, -1 for none
  int64_t num_vertices, num_faces;
  int32_t height, width;
};

template <class T>
struct PixelPoint {
  T along, across;
  bool ahead;  // w > 0
};

// A vertex relative to pixel centre (row, col), along one image axis and across it.
template <class T>
HD PixelPoint<T> pixel_point(const SurfaceView<T>& s, int32_t vertex, int32_t row, int32_t col, bool vertical, T sign) {
  const Vec4<T> p = load4(s.clip + int64_t(vertex) * 4);
  const T inv = T(1) / p.w;
  const T x = (p.x * inv + T(1)) * (T(s.width) * T(0.5)) - (T(col) + T(0.5));
  const T y = (T(1) - p.y * inv) * (T(s.height) * T(0.5)) - (T(row) + T(0.5));
  return {sign * (vertical ? y : x), vertical ? x : y, p.w > T(0) && is_finite(x) && is_finite(y)};
}

template <class T>
HD Outline<T> walk(const SurfaceView<T>& s, int32_t face, int32_t target, int32_t row, int32_t col, bool vertical, T sign) {
  Outline<T> out{Walk::kElsewhere, -1, -1, T(0), T(0), T(0)};
  int32_t from = -1;  // the face that we came from
  for (int step = 0; step < kMaxWalk; ++step) {
    Corners f;
    if (face >= s.num_faces || !load_corners(s.faces, face, s.num_vertices, f)) return out;
    PixelPoint<T> p[3];
    for (int i = 0; i < 3; ++i) {
      p[i] = pixel_point(s, f.v[i], row, col, vertical, sign);
      if (!p[i].ahead) return out;
    }
    // The line of pixel centres crosses two of the three edges; we leave by the one that we did not enter by.
    int leave = -1;
    T at = T(0), t = T(0);
    for (int i = 0; i < 3; ++i) {
      const int j = (i + 1) % 3, k = (i + 2) % 3;
      if ((p[j].across > T(0)) == (p[k].across > T(0))) continue;
      if (from >= 0 && s.neighbours[int64_t(face) * 3 + i] == from) continue;
      const T tt = p[j].across / (p[j].across - p[k].across);
      const T a = p[j].along + (p[k].along - p[j].along) * tt;
      if (leave < 0 || a > at) leave = i, at = a, t = tt;
    }
    if (leave < 0 || at > T(1) + T(1e-3)) return out;
    const int j = (leave + 1) % 3, k = (leave + 2) % 3;
    const int32_t next = s.neighbours[int64_t(face) * 3 + leave];
    bool ends = next < 0 || next >= s.num_faces;
    if (!ends && next == target) {
      out.end = Walk::kReached;
      return out;
    }
    if (!ends) {  // does the next triangle lie on the far side of the edge, or does the surface fold back?
      Corners g;
      if (!load_corners(s.faces, next, s.num_vertices, g)) return out;
      const int32_t other = g.v[0] != f.v[j] && g.v[0] != f.v[k] ? g.v[0] : (g.v[1] != f.v[j] && g.v[1] != f.v[k] ? g.v[1] : g.v[2]);
      const PixelPoint<T> o = pixel_point(s, other, row, col, vertical, sign);
      if (!o.ahead) return out;
      // Ahead of the edge is where the walk points. A triangle seen edge-on is neither, and is walked through.
      const T ex = p[k].along - p[j].along, ey = p[k].across - p[j].across;
      const T there = ex * (o.across - p[j].across) - ey * (o.along - p[j].along);
      ends = ey > T(0) ? there > T(0) : there < T(0);
    }
    if (ends) {
      const Vec4<T> q0 = load4(s.clip + int64_t(f.v[j]) * 4), q1 = load4(s.clip + int64_t(f.v[k]) * 4);
      out.end = Walk::kOutline;
      out.v0 = f.v[j], out.v1 = f.v[k], out.t = t;
      out.at = at < T(0) ? T(0) : (at > T(1) ? T(1) : at);
      out.depth = q0.z / q0.w * (T(1) - t) + q1.z / q1.w * t;
      return out;
    }
    from = face, face = next;
  }
  return out;
}

// The outline between pixel (row, col), which sees face a, and its right or lower neighbour, which sees face b.
template <class T>
HD Outline<T> outline_between(const SurfaceView<T>& s, int32_t a, int32_t b, int32_t row, int32_t col, bool vertical) {
  Outline<T> first{Walk::kElsewhere, -1, -1, T(0), T(0), T(0)}, second = first;
  if (a >= 0) first = walk(s, a, b, row, col, vertical, T(1));
  if (first.end == Walk::kReached) return first;
  if (b >= 0) second = walk(s, b, a, row + (vertical ? 1 : 0), col + (vertical ? 0 : 1), vertical, T(-1));
  second.at = T(1) - second.at;
  if (second.end != Walk::kOutline) return second.end == Walk::kReached ? second : first;
  if (first.end != Walk::kOutline) return second;
  return first.depth <= second.depth ? first : second;
}

// Gradient of a vertex of the outline, where moving the outline along the axis by one pixel changes the loss by g.
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
  return out;
}

// The change of the loss when the outline between two neighbours moves by one pixel from the first to the second: the pixel
// that holds the outline takes the first one's colour in place of the second's. Returns 0 where there is no outline.
template <class T, class A>
HD T outline_change(const SurfaceView<T>& s, const int32_t* face_id, const A* image, const T* grad, int64_t channels, int32_t row, int32_t col,
                    bool vertical, Outline<T>& outline) {
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
  return outline.at < T(0.5) ? near_first : near_second;
}

LEVEL_END
}  // namespace facerender
