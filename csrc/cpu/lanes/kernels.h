// The interface of the float32 SIMD kernels, which process sixteen lanes at a time. They are compiled from the same
// source for each instruction set (x86-64-v4, x86-64-v3 and the baseline) into one table of functions each; lanes() is
// the best table for this machine. Only plain data crosses this interface, because types of the kernels differ between
// tables.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace facerender {

template <class T>
struct MeshView {
  const T* clip;         // [V,4]
  const int32_t* faces;  // [F,3]
  int64_t num_vertices, num_faces;
  int32_t height, width;
  int64_t cull;
};

// The projected vertices, ScreenVertex<T> [V], and a copy of their first_center, which is all that most triangles need.
template <class T>
struct ScreenArrays {
  void* vertices;
  int32_t* first_centers;
};

// The visibility keys of an image. in_front: null, or the keys of the layer in front, of which only larger ones count.
// shared: whether other threads draw into the same keys.
struct KeyBuffer {
  uint64_t* keys;
  const uint64_t* in_front;
  bool shared;
};

// Gradients are added to vertices [v0, v1) only, so that threads can share an image. Face ids and vertex indices are
// checked against the sizes.
struct GradientTarget {
  int64_t num_faces, num_vertices, v0, v1;
};

struct LaneKernels {
  uint32_t (*largest_index)(const int32_t* indices, int64_t n);  // a negative index counts as a large one
  void (*to_screen)(const MeshView<float>&, const ScreenArrays<float>&, int64_t begin, int64_t end);
  void (*draw_faces)(const MeshView<float>&, const ScreenArrays<float>&, const KeyBuffer&, int64_t begin, int64_t end);
  void (*resolve)(const MeshView<float>&, const uint64_t* keys, int64_t begin, int64_t end, int64_t stride,
                  int32_t* face_id, float* bary, float* depth);
  // These return the first point not processed, at most fifteen before the end; interpolate3 returns -1 if a face has
  // an index out of range.
  int64_t (*interpolate3)(const float* attributes, const int32_t* faces, int64_t num_faces, int64_t num_vertices,
                          const int32_t* face_id, const float* bary, const float* background, int64_t begin,
                          int64_t end, float* out);
  int64_t (*shade)(const float* albedo, const float* normals, const float* light, int64_t begin, int64_t end,
                   float* out);
  int64_t (*shade_backward)(const float* grad, const float* albedo, const float* normals, const float* light,
                            int64_t begin, int64_t end, float* grad_albedo, float* grad_normals, float* light_gradient);
  int64_t (*render_row)(const float* clip, const float* normals, const float* albedo, const int32_t* faces,
                        const float* background, int64_t background_step, int32_t height, int32_t width,
                        int64_t num_vertices, const float* light, const uint64_t* keys, int64_t row, float* out,
                        int32_t* face_id);
  // Backward passes of one row (backward.h). They return the first column not processed.
  int64_t (*rasterize_row_backward)(const float* clip, const int32_t* faces, int32_t height, int32_t width, int64_t row,
                                    const int32_t* face_id, const float* grad_bary, const float* grad_depth,
                                    const GradientTarget& to, float* out);
  int64_t (*interpolate3_row_backward)(const float* attributes, const int32_t* faces, int32_t width,
                                       const int32_t* face_id, const float* bary, const float* grad,
                                       const GradientTarget& to, float* grad_bary, float* grad_attributes);
  int64_t (*render_row_backward)(const float* clip, const float* normals, const float* albedo, const int32_t* faces,
                                 int32_t height, int32_t width, const float* light, int64_t row, const int32_t* face_id,
                                 const float* grad, const GradientTarget& to, float* grad_clip, float* grad_normals,
                                 float* grad_albedo, float* light_gradient);
};

extern const LaneKernels kLanesV4, kLanesV3, kLanesBaseline;

// The x86-64 level of the kernels that this machine runs: 4, 3, or 0 for the baseline. The environment variable
// FACERENDER_CPU_LEVEL=x86-64-v3 or =baseline asks for a lower one.
inline int cpu_level() {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(FACERENDER_SANITIZE)
  const char* wanted = std::getenv("FACERENDER_CPU_LEVEL");
  if (wanted && !std::strcmp(wanted, "baseline")) return 0;
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                  __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd");
  if (wanted && !std::strcmp(wanted, "x86-64-v3")) return v3 ? 3 : 0;
  return v4 ? 4 : (v3 ? 3 : 0);
#else
  return 0;
#endif
}
inline const LaneKernels& lanes() {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(FACERENDER_SANITIZE)
  static const int level = cpu_level();
  return level == 4 ? kLanesV4 : (level == 3 ? kLanesV3 : kLanesBaseline);
#else
  return kLanesBaseline;
#endif
}

}  // namespace facerender
