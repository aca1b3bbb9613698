// Checks of a face list's vertex indices. Read by the ops of the CPU back end; the CUDA kernels skip invalid faces
// instead.
#pragma once

#include <cstdint>

namespace facerender {

// Throws if `largest`, the largest index of a face list as an unsigned number, is out of range.
void check_face_index(uint32_t largest, int64_t num_faces, int64_t num_vertices);

// The same for a whole face list.
void check_face_indices(const int32_t* faces, int64_t num_faces, int64_t num_vertices);

}  // namespace facerender
