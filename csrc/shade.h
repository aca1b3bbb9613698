// Spherical-harmonic shading with nine real basis functions: color = albedo * sum_k basis_k(normal) * coefficient_k,
// per channel (Ramamoorthi and Hanrahan 2001), and its gradients. Read by both back ends.
#pragma once

#include "arithmetic.h"

namespace facerender {
ISA_NAMESPACE_BEGIN

// basis_k = scale[k] * p[index[k]] with p = (1, x, y, z, xy, yz, xz, 3z^2 - 1, x^2 - y^2).
struct ShPreset {
  int32_t index[9];
  double scale[9];
};

// 0 "standard": orthonormal real harmonics in the order and signs of Ramamoorthi and Hanrahan 2001, "An efficient
//    representation for irradiance environment maps"; no Lambert factor.
// 1 "deep3d": Deng et al. 2019, the constants a_l c_l of Deep3DFaceReconstruction; bands with odd m are negative.
// 2 "deca": order 1, x, y, z, xy, xz, yz, x^2 - y^2, 3z^2 - 1, all positive, Lambert factors 2pi/3 and pi/4 in bands 1
// and 2.
inline ShPreset sh_preset(int64_t preset) {  // on the host; kernels get it by value
  constexpr double pi = 3.14159265358979323846;
  const double c0 = sqrt(1 / (4 * pi)), c1 = sqrt(3 / (4 * pi)), c2 = sqrt(15 / (4 * pi)), c20 = sqrt(5 / (16 * pi)),
               c22 = sqrt(15 / (16 * pi));
  if (preset == 1) {
    const double a0 = pi, a1 = 2 * pi / sqrt(3.0), a2 = 2 * pi / sqrt(8.0);
    return {
        {0, 2, 3, 1, 4, 5, 7, 6, 8},
        {a0 * c0, -a1 * c1, a1 * c1, -a1 * c1, a2 * c2, -a2 * c2, a2 * c2 * 0.5 / sqrt(3.0), -a2 * c2, a2 * c2 * 0.5}};
  }
  if (preset == 2) {
    const double a1 = 2 * pi / 3, a2 = pi / 4;
    return {{0, 1, 2, 3, 4, 6, 5, 8, 7},
            {c0, a1 * c1, a1 * c1, a1 * c1, a2 * c2, a2 * c2, a2 * c2, a2 * c22, a2 * c20}};
  }
  return {{0, 2, 3, 1, 4, 5, 7, 6, 8}, {c0, c1, c1, c1, c2, c2, c20, c2, c22}};
}

// The coefficients of one image in the order of p, scaled, so that the preset costs nothing per pixel.
template <class T>
struct ShLight {
  T k[9][3];
  HD T at(int b, int c) const { return k[b][c]; }
};
template <class T>
HD ShLight<T> sh_light(const T* coefficients, const ShPreset& preset) {
  ShLight<T> light;
  for (int b = 0; b < 9; ++b)
    for (int c = 0; c < 3; ++c) light.k[preset.index[b]][c] = coefficients[b * 3 + c] * T(preset.scale[b]);
  return light;
}

// `T` may be a SIMD vector; the light is the same for all lanes.
template <class T, class S>
HD Vec3<T> sh_irradiance(const ShLight<S>& l, const Vec3<T>& n) {
  const T xy = n.x * n.y, yz = n.y * n.z, xz = n.x * n.z, zz = n.z * n.z * 3.0f - 1.0f, xx = n.x * n.x - n.y * n.y;
  T out[3];
  for (int c = 0; c < 3; ++c)
    out[c] = (((n.x * l.k[1][c] + n.y * l.k[2][c]) + (n.z * l.k[3][c] + l.k[0][c])) +
              ((xy * l.k[4][c] + yz * l.k[5][c]) + (xz * l.k[6][c] + zz * l.k[7][c]))) +
             xx * l.k[8][c];
  return {out[0], out[1], out[2]};
}

// For gradients: the irradiance of one channel, up to rounding, and its slope along the normal. The irradiance is the
// sum of a constant, a linear and a quadratic form of n, so twice the sum of the latter two is n * (slope + linear).
template <class T, class Light>
HD T sh_irradiance_slope(const Light& l, int c, const Vec3<T>& n, Vec3<T>& slope) {
  const T x = l.at(1, c), y = l.at(2, c), z = l.at(3, c), xy = l.at(4, c), yz = l.at(5, c), xz = l.at(6, c),
          zz = l.at(7, c), xx = l.at(8, c);
  slope = {mul_add(n.x * 2.0f, xx, mul_add(n.z, xz, mul_add(n.y, xy, x))),
           mul_add(n.y * -2.0f, xx, mul_add(n.z, yz, mul_add(n.x, xy, y))),
           mul_add(n.z * 6.0f, zz, mul_add(n.x, xz, mul_add(n.y, yz, z)))};
  return mul_add(fused_dot(n, slope + Vec3<T>{x, y, z}), 0.5f, l.at(0, c) - zz);
}

// d loss / d normal, given d loss / d irradiance = g.
template <class T, class S>
HD Vec3<T> sh_normal_gradient(const ShLight<S>& l, const Vec3<T>& n, const Vec3<T>& g) {
  T w[9];
  for (int b = 1; b < 9; ++b) w[b] = mul_add(g.z, l.k[b][2], mul_add(g.y, l.k[b][1], g.x * l.k[b][0]));
  return {mul_add(w[8] * n.x, 2.0f, mul_add(w[6], n.z, mul_add(w[4], n.y, w[1]))),
          mul_add(w[8] * n.y, -2.0f, mul_add(w[5], n.z, mul_add(w[4], n.x, w[2]))),
          mul_add(w[7] * n.z, 6.0f, mul_add(w[6], n.x, mul_add(w[5], n.y, w[3])))};
}

template <class T>
HD void sh_polynomials(const Vec3<T>& n, T* p) {
  p[0] = n.x - n.x + 1.0f, p[1] = n.x, p[2] = n.y, p[3] = n.z, p[4] = n.x * n.y, p[5] = n.y * n.z, p[6] = n.x * n.z;
  p[7] = n.z * n.z * 3.0f - 1.0f, p[8] = n.x * n.x - n.y * n.y;
}

// Adds d loss / d light (in the order of p, unscaled), given d loss / d irradiance = g.
template <class T>
HD void sh_light_gradient(const Vec3<T>& n, const Vec3<T>& g, T* out) {
  T p[9];
  sh_polynomials(n, p);
  UNROLL
  for (int b = 0; b < 9; ++b) {
    out[b * 3] += p[b] * g.x;
    out[b * 3 + 1] += p[b] * g.y;
    out[b * 3 + 2] += p[b] * g.z;
  }
}

// Adds up partial sums [N,blocks,27] of sh_light_gradient, in order, to d loss / d coefficients. stride: 0 if all
// images share the coefficients.
template <class T>
void add_light_gradients(const T* partial, int64_t batch, int64_t blocks, int64_t stride, const ShPreset& preset,
                         T* out) {
  for (int64_t n = 0; n < batch; ++n)
    for (int64_t block = 0; block < blocks; ++block)
      for (int b = 0; b < 9; ++b)
        for (int c = 0; c < 3; ++c)
          out[n * stride + b * 3 + c] +=
              partial[(n * blocks + block) * 27 + preset.index[b] * 3 + c] * T(preset.scale[b]);
}

ISA_NAMESPACE_END
}  // namespace facerender
