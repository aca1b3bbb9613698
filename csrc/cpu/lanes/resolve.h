// From visibility keys to the outputs of rasterize, sixteen pixels at a time.
#pragma once

#include "resolve_pixels.h"
#include "vectors.h"

namespace facerender {
ISA_NAMESPACE_BEGIN

static void resolve(const MeshView<float>& mesh, const uint64_t* keys, int64_t begin, int64_t end, int64_t stride,
                    int32_t* face_id, float* bary, float* depth) {
  int64_t i = begin;
  if (stride == 1 && mesh.width >= 16) {
    int32_t first_row = int32_t(begin / mesh.width), first_col = int32_t(begin % mesh.width);
    for (; i + 16 <= end; i += 16) {
      const Ints face = load_low_halves(keys + i);  // -1 for kEmptyKey
      store(face_id + i, face);
      const Ints hit = face >= 0, at = (face & hit) * 3;
      Floats b[3] = {}, d = Floats{} + 1.0f;
      if (sign_mask(hit)) {
        const Ints ahead = iota() + first_col, wrapped = ahead >= mesh.width;
        const Ints col = ahead - (wrapped & mesh.width), row = first_row - wrapped;
        const Vec4<Floats> clip[3] = {gather_quads(mesh.clip, gather(mesh.faces, at)),
                                      gather_quads(mesh.clip, gather(mesh.faces + 1, at)),
                                      gather_quads(mesh.clip, gather(mesh.faces + 2, at))};
        const Barycentrics<Floats> p(clip, col, row, mesh.width, mesh.height);
        for (int k = 0; k < 3; ++k) b[k] = (Floats)((Ints)p.b[k] & hit);
        d = select(hit, interpolated_depth(clip, p.b), d);
      }
      if (bary) store_triples(bary + 3 * i, b[0], b[1], b[2]);
      store(depth + i, d);
      first_col += 16;
      if (first_col >= mesh.width) first_col -= mesh.width, ++first_row;
    }
  }
  resolve_pixels(mesh, keys, i, end, stride, face_id, bary, depth);
}

ISA_NAMESPACE_END
}  // namespace facerender
