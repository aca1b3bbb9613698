// What the host code of every op needs of torch's stable ABI, and checks that guard memory. Python raises the messages
// for users, with names and shapes; these checks only keep a direct call of an op from reading out of bounds.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

// The kernel tests compile the CUDA sources again as C++, under a library name of their own.
#ifndef FACERENDER_LIBRARY
#define FACERENDER_LIBRARY facerender
#endif

namespace facerender {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline void check(bool ok, const char* message) {
  if (!ok) throw std::runtime_error(message);
}

// All tensors of a call must be on the device of the first.
inline void check_same_device(const Tensor&) {}
template <class... Rest>
void check_same_device(const Tensor& first, const Tensor& second, const Rest&... rest) {
  check(first.device() == second.device(), "facerender: all tensors of a call must be on one device");
  check_same_device(first, rest...);
}

// A face list: int32 [F,3], with so few faces that corner numbers fit 32 bits.
inline void check_faces(const Tensor& faces) {
  check(faces.dim() == 2 && faces.size(1) == 3 && faces.scalar_type() == ScalarType::Int,
        "facerender: faces must be int32 [F,3]");
  check(faces.size(0) < (int64_t(1) << 31) / 3, "facerender: at most 715,827,882 faces");
}
// Positions [N,V,width] and faces [F,3].
inline void check_mesh(const Tensor& positions, int64_t width, const Tensor& faces) {
  check(positions.dim() == 3 && positions.size(2) == width,
        "facerender: positions must be [N,V,4], or [N,V,3] for normals");
  check(positions.size(1) < (int64_t(1) << 31) / 3, "facerender: at most 715,827,882 vertices");
  check_faces(faces);
}
inline void check_ids(const Tensor& face_id) {
  check(face_id.scalar_type() == ScalarType::Int && face_id.dim() >= 3, "facerender: face ids must be int32 [N,H,W]");
}
inline void check_size(int64_t height, int64_t width, int64_t layers) {
  check(height >= 0 && width >= 0 && height <= 16384 && width <= 16384 && layers >= 1,
        "facerender: a side must be 0 to 16384 pixels");
}

inline Tensor empty(const Tensor& like, std::vector<int64_t> sizes, ScalarType dtype) {
  return torch::stable::new_empty(like, sizes, dtype);
}
inline Tensor zeros(const Tensor& like, std::vector<int64_t> sizes, ScalarType dtype) {
  return torch::stable::new_zeros(like, sizes, dtype);
}
// Uninitialized memory for gradients that each image clears for itself; zeros if there is no image.
inline Tensor empty_for(int64_t batch, const Tensor& like, std::vector<int64_t> sizes, ScalarType dtype) {
  return batch ? empty(like, sizes, dtype) : zeros(like, sizes, dtype);
}
inline Tensor as_contiguous(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

// Contiguous and aligned to 16 bytes, for positions [..,4], which CUDA loads 16 bytes at a time.
inline Tensor aligned(const Tensor& t) {
  const Tensor contiguous = as_contiguous(t);
  return reinterpret_cast<uintptr_t>(contiguous.const_data_ptr()) % 16 ? torch::stable::clone(contiguous) : contiguous;
}

template <class T>
const T* data(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}
template <class T>
T* mutable_data(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

// Elements from one batch item to the next: 0 if a leading dimension of 1 is shared by the batch.
inline int64_t batch_stride(const Tensor& t, int64_t batch) {
  if (t.size(0) == 1 || batch == 0) return 0;
  return t.numel() / t.size(0);
}

// Calls f with a value of the geometry type: float32, or float64 for verification.
template <class F>
void dispatch_geometry(ScalarType dtype, F&& f) {
  if (dtype == ScalarType::Float) return f(float{});
  if (dtype == ScalarType::Double) return f(double{});
  throw std::runtime_error("facerender: geometry must be float32 or float64");
}

// Calls f with a value of the attribute type: the geometry type itself, or a 16-bit type beside float32.
template <class F>
void dispatch_attribute(ScalarType geometry, ScalarType attribute, F&& f) {
  if (geometry == ScalarType::Double) {
    check(attribute == ScalarType::Double, "facerender: attributes must be float64 beside float64 geometry");
    return f(double{}, double{});
  }
  check(geometry == ScalarType::Float, "facerender: geometry must be float32 or float64");
  if (attribute == ScalarType::Float) return f(float{}, float{});
  if (attribute == ScalarType::Half) return f(float{}, Half{});
  if (attribute == ScalarType::BFloat16) return f(float{}, BFloat16{});
  throw std::runtime_error("facerender: attributes must be float32, float16 or bfloat16 beside float32 geometry");
}

}  // namespace facerender
