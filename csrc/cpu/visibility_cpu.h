// The visibility pass of one image: which face is visible at each pixel, the part of rasterization that `rasterize` and
// `render_face` share on the CPU.
#pragma once

#include <memory>

#include "../raster.h"
#include "../tensors.h"
#include "lanes/kernels.h"

namespace facerender {

// Owns the projected vertices of one image; a thread reuses it from image to image.
template <class T>
struct ScreenVertices : ScreenArrays<T> {
  std::unique_ptr<ScreenVertex<T>[]> vertex_memory;
  std::unique_ptr<int32_t[]> first_center_memory;

  explicit ScreenVertices(int64_t n)
      : vertex_memory(new ScreenVertex<T>[size_t(n)]), first_center_memory(new int32_t[size_t(n)]) {
    this->vertices = vertex_memory.get(), this->first_centers = first_center_memory.get();
  }
};

// Fills keys [H*W] with the smallest visibility_key of each pixel, kEmptyKey for background. in_front: null, or the
// keys of the layer in front, of which only larger ones count (depth peeling). threads: whether to split the image over
// threads, which does not change the result. Returns the largest vertex index of the faces, where a negative one counts
// as large. If that is out of range nothing is drawn and the caller must throw, outside its threads, because an
// exception that leaves a thread loses its message.
template <class T>
uint32_t find_visible(const MeshView<T>& mesh, const ScreenVertices<T>& screen, const uint64_t* in_front,
                      uint64_t* keys, bool threads);

}  // namespace facerender
