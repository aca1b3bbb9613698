// Checked inputs of the ops, for both back ends: sizes, and strides of what a batch shares.
#pragma once

#include "tensors.h"

namespace facerender {
namespace {

// The inputs of interpolate.
struct InterpolateShape {
  int64_t batch, pixels, num_vertices, num_faces, channels, attribute_stride;
};
inline InterpolateShape interpolate_shape(const Tensor& attributes, const Tensor& faces, const Tensor& face_id,
                                          const Tensor& bary) {
  check_same_device(attributes, faces, face_id, bary);
  check_faces(faces), check_ids(face_id);
  const int64_t batch = face_id.size(0);
  check(attributes.dim() == 3 && bary.numel() == face_id.numel() * 3 &&
            (attributes.size(0) == batch || attributes.size(0) == 1),
        "facerender: interpolate got shapes that do not fit");
  return {batch,
          batch ? face_id.numel() / batch : 0,
          attributes.size(1),
          faces.size(0),
          attributes.size(2),
          batch_stride(attributes, batch)};
}

// The inputs of sh_shade.
struct ShadeShape {
  int64_t batch, points, albedo_stride, light_stride;
};
inline ShadeShape shade_shape(const Tensor& albedo, const Tensor& normals, const Tensor& coefficients) {
  check_same_device(albedo, normals, coefficients);
  check(normals.dim() == 3 && albedo.dim() == 3 && coefficients.dim() == 3,
        "facerender: sh_shade takes [N,P,3], [N,P,3] and [N,9,3]");
  const int64_t batch = normals.size(0), points = normals.size(1);
  check(albedo.size(1) == points && (albedo.size(0) == batch || albedo.size(0) == 1) && coefficients.size(1) == 9 &&
            coefficients.size(2) == 3 && albedo.size(2) == 3 && normals.size(2) == 3 &&
            (coefficients.size(0) == batch || coefficients.size(0) == 1) &&
            albedo.scalar_type() == normals.scalar_type(),
        "facerender: sh_shade got shapes that do not fit");
  return {batch, points, batch_stride(albedo, batch), batch_stride(coefficients, batch)};
}

// The inputs of render_face, contiguous and checked.
struct RenderInputs {
  Tensor clip, normals, albedo, coefficients, faces, background;
  bool lit, has_background;
  int64_t batch, num_vertices, num_faces, height, width;

  RenderInputs(const Tensor& clip_, const std::optional<Tensor>& normals_, const Tensor& albedo_,
               const std::optional<Tensor>& coefficients_, const Tensor& faces_,
               const std::optional<Tensor>& background_, int64_t height_, int64_t width_)
      : clip(aligned(clip_)),
        normals(as_contiguous(normals_ ? *normals_ : albedo_)),
        albedo(as_contiguous(albedo_)),
        coefficients(as_contiguous(coefficients_ ? *coefficients_ : clip_)),
        faces(as_contiguous(faces_)),
        background(as_contiguous(background_ ? *background_ : albedo_)),
        lit(normals_.has_value()),
        has_background(background_.has_value()),
        batch(clip.size(0)),
        num_vertices(clip.size(1)),
        num_faces(faces.size(0)),
        height(height_),
        width(width_) {
    check_same_device(clip, normals, albedo, coefficients, faces, background);
    check_mesh(clip, 4, faces), check_size(height, width, 1);
    check(lit == coefficients_.has_value(), "facerender: render_face takes normals and coefficients together");
    const auto fits = [&](const Tensor& t) {
      return t.dim() == 3 && (t.size(0) == batch || t.size(0) == 1) && t.size(1) == num_vertices && t.size(2) == 3;
    };
    check(fits(albedo) && fits(normals) && normals.scalar_type() == albedo.scalar_type(),
          "facerender: render_face got attributes that do not fit");
    check(!lit || (coefficients.numel() == coefficients.size(0) * 27 &&
                   (coefficients.size(0) == batch || coefficients.size(0) == 1) &&
                   coefficients.scalar_type() == clip.scalar_type()),
          "facerender: render_face got coefficients that do not fit");
    check(!has_background ||
              (background.scalar_type() == albedo.scalar_type() &&
               (background.numel() == 3 || ((background.size(0) == batch || background.size(0) == 1) &&
                                            background.numel() == background.size(0) * height * width * 3))),
          "facerender: render_face got a background that does not fit");
  }
};

}  // namespace
}  // namespace facerender
