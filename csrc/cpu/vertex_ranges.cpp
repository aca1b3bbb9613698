// See vertex_ranges.h.
#include "vertex_ranges.h"

namespace facerender {

std::vector<int64_t> VertexWorkload::balanced_ranges(int64_t n0, int64_t n1, int64_t parts) const {
  std::vector<int64_t> bounds(size_t(parts) + 1, num_vertices);
  bounds[0] = 0;
  if (parts == 1 || num_vertices == 0) return bounds;
  constexpr int64_t kBins = 1024;
  const int64_t stride = std::max<int64_t>(1, (n1 - n0) * pixels / 8192) | 1;  // a sample of thousands suffices
  std::vector<int64_t> count(kBins + 1, 0);
  for (int64_t i = n0 * pixels; i < n1 * pixels; i += stride) {
    const int32_t face = face_id[i];
    if (face < 0 || face >= num_faces) continue;
    const int64_t v = faces[int64_t(face) * 3];
    if (v >= 0 && v < num_vertices) ++count[v * kBins / num_vertices];
  }
  int64_t total = 0, passed = 0, part = 1;
  for (int64_t b = 0; b < kBins; ++b) total += count[b];
  for (int64_t b = 0; b < kBins && part < parts; ++b) {
    passed += count[b];
    while (part < parts && passed * parts >= total * part) bounds[part++] = (b + 1) * num_vertices / kBins;
  }
  return bounds;
}

}  // namespace facerender
