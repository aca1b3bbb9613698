// Vertex normals: the sum of the cross products of a vertex's faces, which weights them by area, scaled to unit length;
// zero if the sum vanishes. Each vertex gathers over its list of corners in order, so both back ends get the same bits.
#pragma once

#include "arithmetic.h"

namespace facerender {
ISA_NAMESPACE_BEGIN

// Corner 3f + i is corner i of face f. A vertex's corners are corners[offsets[v] .. offsets[v + 1]).
template <class T>
HD Vec3<T> face_cross(const T* vertices, const int32_t* faces, int64_t face) {
  const int32_t* f = faces + face * 3;
  const Vec3<T> a = load3<T>(vertices + int64_t(f[0]) * 3);
  return cross(load3<T>(vertices + int64_t(f[1]) * 3) - a, load3<T>(vertices + int64_t(f[2]) * 3) - a);
}

template <class T>
HD Vec3<T> unit_or_zero(Vec3<T> s) {
  const T length2 = dot(s, s);
  const T inv = length2 > T(0) ? T(1) / square_root(length2) : T(0);
  return is_finite(inv) ? s * inv : Vec3<T>{T(0), T(0), T(0)};
}

// d loss / d sum, given d loss / d normal = g.
template <class T>
HD Vec3<T> unit_gradient(Vec3<T> s, Vec3<T> g) {
  const T length2 = dot(s, s);
  const T inv = length2 > T(0) ? T(1) / square_root(length2) : T(0);
  if (!is_finite(inv)) return {T(0), T(0), T(0)};
  const Vec3<T> n = s * inv;
  return (g - n * dot(n, g)) * inv;
}

// d loss / d (one corner of a face), given d loss / d (the face's cross product) = g; `from` and `to` are the next two
// corners.
template <class T>
HD Vec3<T> cross_gradient(Vec3<T> from, Vec3<T> to, Vec3<T> g) {
  return cross(to - from, g) * T(-1);
}
template <class T>
HD Vec3<T> cross_gradient(const T* vertices, const int32_t* faces, int64_t face, int i, Vec3<T> g) {
  const int32_t* f = faces + face * 3;
  return cross_gradient(load3<T>(vertices + int64_t(f[(i + 1) % 3]) * 3),
                        load3<T>(vertices + int64_t(f[(i + 2) % 3]) * 3), g);
}

ISA_NAMESPACE_END
}  // namespace facerender
