// Threads of the CPU back end.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

namespace facerender {

// f(begin, end) over [0, n) in pieces of at least `grain`; on the calling thread where `threads` is false.
template <class F>
void for_range(int64_t n, int64_t grain, bool threads, const F& f) {
  if (n <= 0) return;
  if (!threads) return f(int64_t(0), n);
  torch::stable::parallel_for(0, n, grain, [&](int64_t begin, int64_t end) { f(begin, end); });
}

// Throws where a face names a vertex that is not there; `largest`: the largest index, a negative one taken as a large one.
void check_face_index(uint32_t largest, int64_t num_faces, int64_t num_vertices);
void check_face_indices(const int32_t* faces, int64_t num_faces, int64_t num_vertices);

// Images of a batch go to threads whole where there are enough of them; else each image is split.
inline bool split_images(int64_t batch) { return batch < int64_t(torch::stable::get_num_threads()); }

// f(n, split, scratch) for each image, with what make() returns once for each thread.
template <class Make, class F>
void for_images(int64_t batch, const Make& make, const F& f) {
  const bool split = split_images(batch);
  for_range(batch, 1, !split, [&](int64_t begin, int64_t end) {
    const auto scratch = make();
    for (int64_t n = begin; n < end; ++n) f(n, split, scratch);
  });
}
template <class F>
void for_images(int64_t batch, const F& f) {
  for_images(batch, [] { return 0; }, [&](int64_t n, bool split, int) { f(n, split); });
}

// As for_range, in pieces of `chunk` that idle threads fetch: for work whose cost varies along the range. The pieces must not care
// about their order.
template <class F>
void for_chunks(int64_t n, int64_t chunk, bool threads, const F& f) {
  if (n <= 0) return;
  if (!threads || n <= chunk) return f(int64_t(0), n);
  std::atomic<int64_t> next{0};
  const int64_t workers = std::min<int64_t>(torch::stable::get_num_threads(), (n + chunk - 1) / chunk);
  torch::stable::parallel_for(0, workers, 1, [&](int64_t, int64_t) {
    for (int64_t begin; (begin = next.fetch_add(chunk, std::memory_order_relaxed)) < n;) f(begin, std::min(n, begin + chunk));
  });
}

// The first corner of the face that each of some pixels sees: a sample of where the gradients of an image go.
struct Corner0 {
  const int32_t *face_id, *faces;
  int64_t pixels, num_faces, num_vertices;  // pixels of one image

  // Vertices 0 = b[0] <= b[1] <= ... <= b[parts] = V, such that the pixels of images [n0, n1) meet each range about equally.
  std::vector<int64_t> balanced(int64_t n0, int64_t n1, int64_t parts) const;
};

// For gradients that many pixels add to one vertex: f(n0, n1, v0, v1) may add to vertices [v0, v1) of images [n0, n1), and to
// nothing else; it meets the pixels in order, so sums do not depend on the number of threads. `shared`: all images add to one
// set of vertices. Each vertex of each set is in one call's range, which also has to clear it.
template <class F>
void for_vertices(int64_t batch, bool shared, const Corner0& seen, const F& f) {
  const int64_t threads = int64_t(torch::stable::get_num_threads());
  if (!shared && batch >= threads) {
    return for_range(batch, 1, true, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) f(n, n + 1, int64_t(0), seen.num_vertices);
    });
  }
  for (int64_t n = 0; n < (shared ? std::min<int64_t>(batch, 1) : batch); ++n) {
    const int64_t end = shared ? batch : n + 1;
    const std::vector<int64_t> bounds = seen.balanced(n, end, threads);
    for_range(threads, 1, true, [&](int64_t first, int64_t last) { f(n, end, bounds[first], bounds[last]); });
  }
}

// Zeros for vertices [v0, v1) of `width` numbers each.
template <class T>
void clear(T* vertices, int64_t width, int64_t v0, int64_t v1) {
  if (vertices) std::fill(vertices + v0 * width, vertices + v1 * width, T(0));
}

}  // namespace facerender
