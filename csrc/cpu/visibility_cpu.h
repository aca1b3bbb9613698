// Which face each pixel of one image sees: the part of rasterization that `rasterize` and `render_face` share on the CPU.
#pragma once

#include <memory>

#include "../raster.h"
#include "../tensors.h"
#include "lanes/kernels.h"

namespace facerender {

// The vertices of one image on the screen; memory that one thread uses for image after image.
template <class T>
struct ScreenVertices : ScreenArrays<T> {
  std::unique_ptr<ScreenVertex<T>[]> memory;
  std::unique_ptr<int32_t[]> more;

  explicit ScreenVertices(int64_t n) : memory(new ScreenVertex<T>[size_t(n)]), more(new int32_t[size_t(n)]) {
    this->vertices = memory.get(), this->cells = more.get();
  }
};

// Fills keys [H*W] with the smallest visibility_key of each pixel, kEmpty where there is none. With `in_front`, the keys
// of the layer before, only larger keys count. `threads` splits the one image over threads; the result is the same. Returns
// the largest index of a face (a negative one counts as large); where that is no vertex nothing is drawn, and the caller throws, outside
// its threads: an exception that leaves one loses its message.
template <class T>
uint32_t find_visible(const MeshView<T>& mesh, const ScreenVertices<T>& screen, const uint64_t* in_front, uint64_t* keys, bool threads);

}  // namespace facerender
