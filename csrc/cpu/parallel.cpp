#include "parallel.h"

#include <stdexcept>
#include <string>

#include "lanes/kernels.h"

namespace facerender {
void check_face_index(uint32_t largest, int64_t num_faces, int64_t num_vertices) {
  if (num_faces && int64_t(largest) >= num_vertices)
    throw std::runtime_error("faces holds the vertex index " + std::to_string(int32_t(largest)) + ", but there are " + std::to_string(num_vertices) +
                             " vertices: indices must lie in 0.." + std::to_string(num_vertices - 1));
}
void check_face_indices(const int32_t* faces, int64_t num_faces, int64_t num_vertices) {
  check_face_index(lanes().largest_index(faces, num_faces * 3), num_faces, num_vertices);
}

std::vector<int64_t> Corner0::balanced(int64_t n0, int64_t n1, int64_t parts) const {
  std::vector<int64_t> bounds(size_t(parts) + 1, num_vertices);
  bounds[0] = 0;
  if (parts == 1 || num_vertices == 0) return bounds;
  constexpr int64_t kBins = 1024;
  const int64_t stride = std::max<int64_t>(1, (n1 - n0) * pixels / 8192) | 1;  // some thousands of pixels tell enough
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
