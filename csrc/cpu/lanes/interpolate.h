// interpolate with three channels, sixteen pixels at a time.
#pragma once

#include "vectors.h"

namespace facerender {
ISA_NAMESPACE_BEGIN

// Processes pixels [begin, end); returns the first one not processed, at most fifteen before the end, or -1 if a face
// has an index out of range. background: three numbers.
static int64_t interpolate3(const float* attributes, const int32_t* faces, int64_t num_faces, int64_t num_vertices,
                            const int32_t* face_id, const float* bary, const float* background, int64_t begin,
                            int64_t end, float* out) {
  int64_t i = begin;
  for (; i + 16 <= end; i += 16) {
    const Ints face = load(face_id + i), hit = (face >= 0) & (face < int32_t(num_faces));
    Floats sum[3] = {Floats{} + background[0], Floats{} + background[1], Floats{} + background[2]};
    if (sign_mask(hit)) {
      Floats b[3];
      load_triples(bary + 3 * i, b[0], b[1], b[2]);
      const Ints first = (face & hit) * 3;
      const Ints corner[3] = {gather(faces, first), gather(faces + 1, first), gather(faces + 2, first)};
      Ints valid = hit;
      for (const Ints& c : corner) valid &= (c >= 0) & (c < int32_t(num_vertices));
      if (sign_mask(hit & ~valid)) return -1;
      const int64_t last = num_vertices - 1;
      const Vec3<Floats> sums = gather_triples(attributes, corner[0] & hit, last) * b[0] +
                                gather_triples(attributes, corner[1] & hit, last) * b[1] +
                                gather_triples(attributes, corner[2] & hit, last) * b[2];
      sum[0] = select(hit, sums.x, sum[0]), sum[1] = select(hit, sums.y, sum[1]), sum[2] = select(hit, sums.z, sum[2]);
    }
    store_triples(out + 3 * i, sum[0], sum[1], sum[2]);
  }
  return i;
}

ISA_NAMESPACE_END
}  // namespace facerender
