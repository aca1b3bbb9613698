// Parallel loops of the CPU back end, on torch's thread pool.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace facerender {

// Calls f(begin, end) on pieces of [0, n) of at least `grain`; on the calling thread if `threads` is false.
template <class F>
void for_range(int64_t n, int64_t grain, bool threads, const F& f) {
  if (n <= 0) return;
  if (!threads) return f(int64_t(0), n);
  torch::stable::parallel_for(0, n, grain, [&](int64_t begin, int64_t end) { f(begin, end); });
}

// Whether each image is split over threads. It is not if there are enough images for all threads.
inline bool split_images(int64_t batch) { return batch < int64_t(torch::stable::get_num_threads()); }

// Calls f(n, split, scratch) for each image n of a batch; make() returns the scratch memory of a thread.
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

// As for_range, in pieces of `chunk` that idle threads fetch, for work whose cost varies along the range. The result
// must not depend on the order of the pieces.
template <class F>
void for_chunks(int64_t n, int64_t chunk, bool threads, const F& f) {
  if (n <= 0) return;
  if (!threads || n <= chunk) return f(int64_t(0), n);
  std::atomic<int64_t> next{0};
  const int64_t workers = std::min<int64_t>(torch::stable::get_num_threads(), (n + chunk - 1) / chunk);
  torch::stable::parallel_for(0, workers, 1, [&](int64_t, int64_t) {
    for (int64_t begin; (begin = next.fetch_add(chunk, std::memory_order_relaxed)) < n;)
      f(begin, std::min(n, begin + chunk));
  });
}

}  // namespace facerender
