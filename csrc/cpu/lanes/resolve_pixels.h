// From visibility keys to the outputs of rasterize, one pixel at a time; any type. Read by resolve.h and
// ../rasterize_cpu.cpp.
#pragma once

#include "../../raster.h"
#include "kernels.h"

namespace facerender {
ISA_NAMESPACE_BEGIN

// Writes face ids, barycentrics (unless null) and depth of pixels [begin, end), `stride` (the number of layers) apart.
template <class T>
void resolve_pixels(const MeshView<T>& mesh, const uint64_t* keys, int64_t begin, int64_t end, int64_t stride,
                    int32_t* face_id, T* bary, T* depth) {
  int32_t row = int32_t(begin / mesh.width), col = int32_t(begin % mesh.width);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t o = i * stride;
    const int32_t face = key_face(keys[i]);
    face_id[o] = face;
    if (face < 0) {
      if (bary) bary[3 * o] = bary[3 * o + 1] = bary[3 * o + 2] = T(0);
      depth[o] = T(1);
    } else {
      const int32_t* f = mesh.faces + int64_t(face) * 3;
      const Vec4<T> clip[3] = {load4(mesh.clip + int64_t(f[0]) * 4), load4(mesh.clip + int64_t(f[1]) * 4),
                               load4(mesh.clip + int64_t(f[2]) * 4)};
      const Barycentrics<T> p(clip, col, row, mesh.width, mesh.height);
      if (bary) bary[3 * o] = p.b[0], bary[3 * o + 1] = p.b[1], bary[3 * o + 2] = p.b[2];
      depth[o] = interpolated_depth(clip, p.b);
    }
    if (++col == mesh.width) col = 0, ++row;
  }
}

ISA_NAMESPACE_END
}  // namespace facerender
