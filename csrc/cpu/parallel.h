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

}  // namespace facerender
