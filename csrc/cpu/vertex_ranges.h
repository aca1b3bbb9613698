// Gradients of vertices on several threads without atomics: each thread owns a range of vertices and visits all pixels.
// Read by the backward passes of the CPU back end.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "parallel.h"

namespace facerender {

// Estimates how many pixels contribute gradients to each vertex, from the first corner of the faces that are visible at
// a sample of the pixels.
struct VertexWorkload {
  const int32_t *face_id, *faces;
  int64_t pixels, num_faces, num_vertices;  // pixels of one image

  // Bounds 0 = b[0] <= b[1] <= ... <= b[parts] = V of vertex ranges to which the pixels of images [n0, n1) contribute
  // about equally.
  std::vector<int64_t> balanced_ranges(int64_t n0, int64_t n1, int64_t parts) const;
};

// For gradients that many pixels add to one vertex. Calls f(n0, n1, v0, v1), which adds only to vertices [v0, v1) of
// images [n0, n1) and visits the pixels in order, so that the sums do not depend on the number of threads. shared:
// whether all images add to one array of vertices. Each vertex of each array is in the range of exactly one call, which
// must also clear it.
template <class F>
void for_vertices(int64_t batch, bool shared, const VertexWorkload& workload, const F& f) {
  const int64_t threads = int64_t(torch::stable::get_num_threads());
  if (!shared && batch >= threads) {
    return for_range(batch, 1, true, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) f(n, n + 1, int64_t(0), workload.num_vertices);
    });
  }
  for (int64_t n = 0; n < (shared ? std::min<int64_t>(batch, 1) : batch); ++n) {
    const int64_t end = shared ? batch : n + 1;
    const std::vector<int64_t> bounds = workload.balanced_ranges(n, end, threads);
    for_range(threads, 1, true, [&](int64_t first, int64_t last) { f(n, end, bounds[first], bounds[last]); });
  }
}

// Clears vertices [v0, v1) of `width` numbers each; nothing for null.
template <class T>
void clear(T* vertices, int64_t width, int64_t v0, int64_t v1) {
  if (vertices) std::fill(vertices + v0 * width, vertices + v1 * width, T(0));
}

}  // namespace facerender
