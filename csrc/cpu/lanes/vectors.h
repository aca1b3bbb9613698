// SIMD vectors of sixteen int32 or float lanes, on the vector types of GCC and Clang. Operations without an operator
// there (gather, masks, compress) use AVX-512 or AVX2 instructions, or loops.
#pragma once

#include "../../arithmetic.h"

namespace facerender {
ISA_NAMESPACE_BEGIN

typedef int32_t Ints __attribute__((vector_size(64)));
typedef float Floats __attribute__((vector_size(64)));

HD Ints load(const int32_t* p) {
  Ints v;
  memcpy(&v, p, 64);
  return v;
}
HD Floats load(const float* p) { return (Floats)load(reinterpret_cast<const int32_t*>(p)); }
HD void store(int32_t* p, Ints v) { memcpy(p, &v, 64); }
HD void store(float* p, Floats v) { memcpy(p, &v, 64); }

HD Ints gather(const int32_t* base, Ints index) {
#ifdef LANES_AVX512
  return (Ints)_mm512_mask_i32gather_epi32(_mm512_setzero_si512(), 0xFFFF, (__m512i)index, base, 4);
#elif defined(LANES_AVX2)
  union {
    Ints all;
    __m256i half[2];
  } v{index};
  v.half[0] = _mm256_i32gather_epi32(base, v.half[0], 4);
  v.half[1] = _mm256_i32gather_epi32(base, v.half[1], 4);
  return v.all;
#else
  Ints v;
  for (int l = 0; l < 16; ++l) v[l] = base[index[l]];
  return v;
#endif
}
HD Floats gather(const float* base, Ints index) {
  return (Floats)gather(reinterpret_cast<const int32_t*>(base), index);
}

// A bit for each lane, set if the lane is negative.
HD uint32_t sign_mask(Ints v) {
#ifdef LANES_AVX512
  return _mm512_movepi32_mask((__m512i)v);
#elif defined(LANES_AVX2)
  union {
    Ints all;
    __m256 half[2];
  } u{v};
  return uint32_t(_mm256_movemask_ps(u.half[0])) | uint32_t(_mm256_movemask_ps(u.half[1])) << 8;
#else
  uint32_t m = 0;
  for (int l = 0; l < 16; ++l) m |= (uint32_t(v[l]) >> 31) << l;
  return m;
#endif
}

// Writes the lanes of `mask` one after the other; may overwrite up to 16 elements beyond.
HD void compress(int32_t* out, Ints v, uint32_t mask) {
#ifdef LANES_AVX512
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(__mmask16(mask), (__m512i)v));
#else
  for (int n = 0; mask; mask &= mask - 1) out[n++] = v[__builtin_ctz(mask)];
#endif
}

HD Ints lane_min(Ints a, Ints b) { return a < b ? a : b; }
HD Ints lane_max(Ints a, Ints b) { return a > b ? a : b; }
HD int32_t reduce_max(Ints v) {
  int32_t m = v[0];
  for (int l = 1; l < 16; ++l) m = v[l] > m ? v[l] : m;
  return m;
}
HD Ints iota() { return Ints{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }
HD Ints shuffle(Ints a, Ints b, Ints index) {
#ifdef __clang__
  Ints v;
  for (int l = 0; l < 16; ++l) v[l] = index[l] < 16 ? a[index[l]] : b[index[l] - 16];
  return v;
#else
  return __builtin_shuffle(a, b, index);
#endif
}

// x[3i], x[3i+1], x[3i+2] for sixteen i.
HD void load_triples(const int32_t* p, Ints& x, Ints& y, Ints& z) {
  const Ints a = load(p), b = load(p + 16), c = load(p + 32);
  x = shuffle(shuffle(a, b, Ints{0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 0, 0, 0, 0, 0}), c,
              Ints{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 17, 20, 23, 26, 29});
  y = shuffle(shuffle(a, b, Ints{1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 0, 0, 0, 0, 0}), c,
              Ints{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 18, 21, 24, 27, 30});
  z = shuffle(shuffle(a, b, Ints{2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 0, 0, 0, 0, 0, 0}), c,
              Ints{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 19, 22, 25, 28, 31});
}

HD void load_triples(const float* p, Floats& x, Floats& y, Floats& z) {
  Ints a, b, c;
  load_triples(reinterpret_cast<const int32_t*>(p), a, b, c);
  x = (Floats)a, y = (Floats)b, z = (Floats)c;
}

// a[i], b[i], c[i] to x[3i], x[3i+1], x[3i+2].
HD void store_triples(float* p, Floats a, Floats b, Floats c) {
  const Ints x = (Ints)a, y = (Ints)b, z = (Ints)c;
  store(p, (Floats)shuffle(shuffle(x, y, Ints{0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5}), z,
                           Ints{0, 1, 16, 3, 4, 17, 6, 7, 18, 9, 10, 19, 12, 13, 20, 15}));
  store(p + 16, (Floats)shuffle(shuffle(x, y, Ints{21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10, 26}), z,
                                Ints{0, 21, 2, 3, 22, 5, 6, 23, 8, 9, 24, 11, 12, 25, 14, 15}));
  store(p + 32, (Floats)shuffle(shuffle(x, y, Ints{0, 11, 27, 0, 12, 28, 0, 13, 29, 0, 14, 30, 0, 15, 31, 0}), z,
                                Ints{26, 1, 2, 27, 4, 5, 28, 7, 8, 29, 10, 11, 30, 13, 14, 31}));
}

// The low 32 bits of sixteen 64-bit integers.
HD Ints load_low_halves(const uint64_t* p) {
  return shuffle(load(reinterpret_cast<const int32_t*>(p)), load(reinterpret_cast<const int32_t*>(p + 8)), iota() * 2);
}

// p[4i .. 4i+3] for sixteen i.
HD Vec4<Floats> load_quads(const float* p) {
  const Ints r0 = (Ints)load(p), r1 = (Ints)load(p + 16), r2 = (Ints)load(p + 32), r3 = (Ints)load(p + 48);
  const Ints even{0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29}, odd = even + 2;
  const Ints xy01 = shuffle(r0, r1, even), xy23 = shuffle(r2, r3, even), zw01 = shuffle(r0, r1, odd),
             zw23 = shuffle(r2, r3, odd);
  const Ints lower{0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23}, upper = lower + 8;
  return {(Floats)shuffle(xy01, xy23, lower), (Floats)shuffle(xy01, xy23, upper), (Floats)shuffle(zw01, zw23, lower),
          (Floats)shuffle(zw01, zw23, upper)};
}
HD void store_quads(float* p, const Vec4<Floats>& v) {
  const Ints lower{0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23}, upper = lower + 8;
  const Ints xz0 = shuffle((Ints)v.x, (Ints)v.z, lower), xz1 = shuffle((Ints)v.x, (Ints)v.z, upper);
  const Ints yw0 = shuffle((Ints)v.y, (Ints)v.w, lower), yw1 = shuffle((Ints)v.y, (Ints)v.w, upper);
  store(p, (Floats)shuffle(xz0, yw0, lower)), store(p + 16, (Floats)shuffle(xz0, yw0, upper));
  store(p + 32, (Floats)shuffle(xz1, yw1, lower)), store(p + 48, (Floats)shuffle(xz1, yw1, upper));
}
// p[stride i .. stride i + 3] for sixteen i.
template <int stride>
HD Vec4<Floats> gather_rows(const float* p, Ints index) {
  alignas(64) int32_t i[16];
  store(i, index);
#ifdef LANES_AVX512
  const auto rows = [&](int l) {
    __m512 r = _mm512_castps128_ps512(_mm_loadu_ps(p + stride * int64_t(i[l])));
    r = _mm512_insertf32x4(r, _mm_loadu_ps(p + stride * int64_t(i[l + 4])), 1);
    r = _mm512_insertf32x4(r, _mm_loadu_ps(p + stride * int64_t(i[l + 8])), 2);
    return _mm512_insertf32x4(r, _mm_loadu_ps(p + stride * int64_t(i[l + 12])), 3);
  };
  const __m512 r0 = rows(0), r1 = rows(1), r2 = rows(2), r3 = rows(3);
  const __m512d xy0 = _mm512_castps_pd(_mm512_unpacklo_ps(r0, r1)), zw0 = _mm512_castps_pd(_mm512_unpackhi_ps(r0, r1));
  const __m512d xy1 = _mm512_castps_pd(_mm512_unpacklo_ps(r2, r3)), zw1 = _mm512_castps_pd(_mm512_unpackhi_ps(r2, r3));
  return {(Floats)_mm512_unpacklo_pd(xy0, xy1), (Floats)_mm512_unpackhi_pd(xy0, xy1),
          (Floats)_mm512_unpacklo_pd(zw0, zw1), (Floats)_mm512_unpackhi_pd(zw0, zw1)};
#else
  alignas(64) float quads[64];
  for (int l = 0; l < 16; ++l) memcpy(quads + 4 * l, p + stride * int64_t(i[l]), 16);
  return load_quads(quads);
#endif
}

// p[4i .. 4i+3] for the sixteen i of `index`, by sixteen loads of 16 bytes and a transposition; a gather would take 64
// loads.
HD Vec4<Floats> gather_quads(const float* p, Ints index) { return gather_rows<4>(p, index); }

// p[3i .. 3i+2] for the sixteen i of `index`, likewise, which reads one float beyond. last: the largest valid i.
HD Vec3<Floats> gather_triples(const float* p, Ints index, int64_t last) {
  if (sign_mask(index >= int32_t(last))) {  // must not read beyond that one
    const Ints at = index * 3;
    return {gather(p, at), gather(p + 1, at), gather(p + 2, at)};
  }
  const Vec4<Floats> v = gather_rows<3>(p, index);
  return {v.x, v.y, v.z};
}

typedef float Quad __attribute__((vector_size(16)));
HD void add_quad(float* out, const float* q) {
  Quad sum, more;
  memcpy(&sum, out, 16), memcpy(&more, q, 16);
  sum += more;
  memcpy(out, &sum, 16);
}

ISA_NAMESPACE_END
}  // namespace facerender
