// The visibility pass on the CPU, in three steps: project all vertices; sixteen faces at a time, drop those whose
// bounding box contains no pixel center (most triangles of a face mesh at training resolutions); draw the rest, small
// ones as sixteen triangles at once, large ones as sixteen pixels of a row at once.
#include "visibility_cpu.h"

#include <vector>

#include "lanes/draw.h"
#include "parallel.h"

namespace facerender {
namespace {

void to_screen(const MeshView<float>& mesh, const ScreenArrays<float>& out, int64_t begin, int64_t end) {
  lanes().to_screen(mesh, out, begin, end);
}
void to_screen(const MeshView<double>& mesh, const ScreenArrays<double>& out, int64_t begin, int64_t end) {
  vertices_to_screen(mesh, out, begin, end);
}
void draw_faces(const MeshView<float>& mesh, const ScreenArrays<float>& screen, const KeyBuffer& out, int64_t begin,
                int64_t end) {
  lanes().draw_faces(mesh, screen, out, begin, end);
}
void draw_faces(const MeshView<double>& mesh, const ScreenArrays<double>& screen, const KeyBuffer& out, int64_t begin,
                int64_t end) {
  for (int64_t face = begin; face < end; ++face) draw_triangle(mesh, screen, KeyTarget{out, mesh.width}, int32_t(face));
}

}  // namespace

template <class T>
uint32_t find_visible(const MeshView<T>& mesh, const ScreenVertices<T>& screen, const uint64_t* in_front,
                      uint64_t* keys, bool threads) {
  // Everything that needs no results of other threads, in one parallel loop: clear the keys, project the vertices,
  // check the face indices.
  const int64_t parts = threads ? torch::stable::get_num_threads() : 1, pixels = int64_t(mesh.height) * mesh.width;
  std::vector<uint32_t> largest(size_t(parts), 0);
  for_range(parts, 1, threads, [&](int64_t first, int64_t last) {
    const auto share = [&](int64_t n, int64_t part) { return n * part / parts; };
    const int64_t p0 = share(pixels, first), p1 = share(pixels, last), i0 = share(mesh.num_faces * 3, first),
                  i1 = share(mesh.num_faces * 3, last);
    memset(keys + p0, 0xFF, size_t(p1 - p0) * 8);
    to_screen(mesh, screen, share(mesh.num_vertices, first), share(mesh.num_vertices, last));
    largest[first] = lanes().largest_index(mesh.faces + i0, i1 - i0);
  });
  const uint32_t index = *std::max_element(largest.begin(), largest.end());
  if (int64_t(index) >= mesh.num_vertices) return index;
  const KeyBuffer out{keys, in_front, threads};
  for_chunks(mesh.num_faces, 2048, threads,
             [&](int64_t begin, int64_t end) { draw_faces(mesh, screen, out, begin, end); });
  return index;
}

template uint32_t find_visible(const MeshView<float>&, const ScreenVertices<float>&, const uint64_t*, uint64_t*, bool);
template uint32_t find_visible(const MeshView<double>&, const ScreenVertices<double>&, const uint64_t*, uint64_t*,
                               bool);

}  // namespace facerender
