// See face_indices.h.
#include "face_indices.h"

#include <stdexcept>
#include <string>

#include "lanes/kernels.h"

namespace facerender {

void check_face_index(uint32_t largest, int64_t num_faces, int64_t num_vertices) {
  if (num_faces && int64_t(largest) >= num_vertices)
    throw std::runtime_error("faces holds the vertex index " + std::to_string(int32_t(largest)) + ", but there are " +
                             std::to_string(num_vertices) + " vertices: indices must lie in 0.." +
                             std::to_string(num_vertices - 1));
}

void check_face_indices(const int32_t* faces, int64_t num_faces, int64_t num_vertices) {
  check_face_index(lanes().largest_index(faces, num_faces * 3), num_faces, num_vertices);
}

}  // namespace facerender
