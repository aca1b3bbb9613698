#include "parallel.h"

#include <stdexcept>
#include <string>

#include "lanes/kernels.h"

namespace facerender {
void check_face_indices(const int32_t* faces, int64_t num_faces, int64_t num_vertices) {
  if (num_faces == 0) return;
  const uint32_t m = lanes().largest_index(faces, num_faces * 3);
  if (int64_t(m) >= num_vertices)
    throw std::runtime_error("faces holds the vertex index " + std::to_string(int32_t(m)) + ", but there are " +
                             std::to_string(num_vertices) + " vertices: indices must lie in 0.." + std::to_string(num_vertices - 1));
}

}  // namespace facerender
