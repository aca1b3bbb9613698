// Threads of the CPU back end.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>

namespace facerender {

// f(begin, end) over [0, n) in pieces of at least `grain`; on the calling thread where `threads` is false.
template <class F>
void for_range(int64_t n, int64_t grain, bool threads, const F& f) {
  if (n <= 0) return;
  if (!threads) return f(int64_t(0), n);
  torch::stable::parallel_for(0, n, grain, [&](int64_t begin, int64_t end) { f(begin, end); });
}

// Images of a batch go to threads whole where there are enough of them; else each image is split.
// Throws where a face names a vertex that is not there.
void check_face_indices(const int32_t* faces, int64_t num_faces, int64_t num_vertices);

inline bool split_images(int64_t batch) { return batch < int64_t(torch::stable::get_num_threads()); }

// f(n, split) for each image.
template <class F>
void for_images(int64_t batch, const F& f) {
  const bool split = split_images(batch);
  for_range(batch, 1, !split, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) f(n, split);
  });
}

// For gradients that many pixels add to one vertex: f(n0, n1, v0, v1) may add to vertices [v0, v1) of images [n0, n1), and to
// nothing else; it meets the pixels in order, so sums do not depend on the number of threads. `shared`: all images add to one
// set of vertices.
template <class F>
void for_vertices(int64_t batch, int64_t num_vertices, bool shared, const F& f) {
  const int64_t threads = int64_t(torch::stable::get_num_threads());
  if (!shared && batch >= threads) {
    return for_range(batch, 1, true, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) f(n, n + 1, int64_t(0), num_vertices);
    });
  }
  for (int64_t n = 0; n < (shared ? 1 : batch); ++n) {
    for_range(threads, 1, true, [&](int64_t begin, int64_t end) {
      f(n, shared ? batch : n + 1, num_vertices * begin / threads, num_vertices * end / threads);
    });
  }
}

}  // namespace facerender
