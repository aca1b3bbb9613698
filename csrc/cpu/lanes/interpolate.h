// Three attributes, sixteen pixels at a time.
#pragma once

#include "vectors.h"

namespace facerender {
LEVEL_BEGIN

// Pixels [begin, end); returns where it stopped, at most fifteen before the end, or -1 where a face names a vertex that is not there. `background`: three numbers.
static int64_t interpolate3(const float* attributes, const int32_t* faces, int64_t num_faces, int64_t num_vertices, const int32_t* face_id, const float* bary, const float* background,
                            int64_t begin, int64_t end, float* out) {
  int64_t i = begin;
  for (; i + 16 <= end; i += 16) {
    const Ints face = load(face_id + i), hit = (face >= 0) & (face < int32_t(num_faces));
    Floats sum[3] = {Floats{} + background[0], Floats{} + background[1], Floats{} + background[2]};
    if (negative(hit)) {
      Floats b[3];
      load_triples(bary + 3 * i, b[0], b[1], b[2]);
      const Ints first = (face & hit) * 3;
      Vec3<Floats> v[3];
      Ints sound = hit;
      for (int k = 0; k < 3; ++k) {
        const Ints corner = gather(faces + k, first);
        sound &= (corner >= 0) & (corner < int32_t(num_vertices));
        v[k] = gather_triples(attributes, corner & sound, num_vertices - 1);
      }
      if (negative(hit & ~sound)) return -1;
      const Vec3<Floats> mixed = v[0] * b[0] + v[1] * b[1] + v[2] * b[2];
      sum[0] = select(hit, mixed.x, sum[0]), sum[1] = select(hit, mixed.y, sum[1]), sum[2] = select(hit, mixed.z, sum[2]);
    }
    store_triples(out + 3 * i, sum[0], sum[1], sum[2]);
  }
  return i;
}

LEVEL_END
}  // namespace facerender
