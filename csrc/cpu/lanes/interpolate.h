// Three attributes, sixteen pixels at a time.
#pragma once

#include "vectors.h"

namespace facerender {
LEVEL_BEGIN

// Pixels [begin, end); returns where it stopped, at most fifteen before the end. `background`: three numbers.
static int64_t interpolate3(const float* attributes, const int32_t* faces, int64_t num_faces, const int32_t* face_id, const float* bary, const float* background,
                            int64_t begin, int64_t end, float* out) {
  int64_t i = begin;
  for (; i + 16 <= end; i += 16) {
    const Ints face = load(face_id + i), hit = (face >= 0) & (face < int32_t(num_faces));
    Floats sum[3] = {Floats{} + background[0], Floats{} + background[1], Floats{} + background[2]};
    if (negative(hit)) {
      Floats b[3];
      load_triples(bary + 3 * i, b[0], b[1], b[2]);
      const Ints first = (face & hit) * 3, p = gather(faces, first) * 3, q = gather(faces + 1, first) * 3, r = gather(faces + 2, first) * 3;
      for (int c = 0; c < 3; ++c)
        sum[c] = select(hit, gather(attributes + c, p) * b[0] + gather(attributes + c, q) * b[1] + gather(attributes + c, r) * b[2], sum[c]);
    }
    store_triples(out + 3 * i, sum[0], sum[1], sum[2]);
  }
  return i;
}

LEVEL_END
}  // namespace facerender
