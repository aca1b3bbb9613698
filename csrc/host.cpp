// Ops that run once per mesh, on the CPU: the adjacency of a face list and an order along a space-filling curve. And
// the instruction set that the CPU kernels use.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "cpu/lanes/kernels.h"
#include "tensors.h"

namespace facerender {
namespace {

// (offsets [V+1], corners [3F]), int32: the corners 3f + i of vertex v, ascending, are corners[offsets[v]] to
// corners[offsets[v + 1] - 1].
std::tuple<Tensor, Tensor> vertex_corners(const Tensor& faces_, int64_t num_vertices) {
  check_faces(faces_);
  check(num_vertices >= 0, "facerender: vertex_corners needs a number of vertices");
  const Tensor faces = as_contiguous(faces_);
  const int64_t n = faces.numel();
  const int32_t* v = data<int32_t>(faces);
  check(std::all_of(v, v + n, [&](int32_t i) { return i >= 0 && i < num_vertices; }),
        "facerender: a face index is out of range");
  Tensor offsets = zeros(faces, {num_vertices + 1}, ScalarType::Int), corners = empty(faces, {n}, ScalarType::Int);
  int32_t *o = mutable_data<int32_t>(offsets), *out = mutable_data<int32_t>(corners);
  for (int64_t c = 0; c < n; ++c) ++o[v[c] + 1];
  std::partial_sum(o, o + num_vertices + 1, o);
  std::vector<int32_t> next(o, o + num_vertices);
  for (int64_t c = 0; c < n; ++c) out[next[v[c]]++] = int32_t(c);
  return {offsets, corners};
}

// int32 [F,3]: the face across the edge opposite each corner, -1 at a border or where more than two faces share the
// edge.
Tensor face_neighbours(const Tensor& faces_) {
  check_faces(faces_);
  const Tensor faces = as_contiguous(faces_);
  const int64_t num_faces = faces.size(0);
  const int32_t* v = data<int32_t>(faces);
  struct Edge {
    int32_t low, high;
    int64_t corner;
  };
  std::vector<Edge> edges;
  edges.reserve(size_t(num_faces) * 3);
  for (int64_t c = 0; c < num_faces * 3; ++c) {
    const int64_t f = c / 3 * 3;
    const int32_t a = v[f + (c + 1) % 3], b = v[f + (c + 2) % 3];
    edges.push_back({std::min(a, b), std::max(a, b), c});
  }
  std::sort(edges.begin(), edges.end(), [](const Edge& a, const Edge& b) {
    return a.low != b.low ? a.low < b.low : (a.high != b.high ? a.high < b.high : a.corner < b.corner);
  });
  Tensor neighbours = empty(faces, {num_faces, 3}, ScalarType::Int);
  int32_t* out = mutable_data<int32_t>(neighbours);
  std::fill(out, out + num_faces * 3, -1);
  for (size_t i = 0; i < edges.size();) {
    size_t j = i;
    while (j < edges.size() && edges[j].low == edges[i].low && edges[j].high == edges[i].high) ++j;
    if (j - i == 2 && edges[i].low != edges[i].high && edges[i].corner / 3 != edges[i + 1].corner / 3) {
      out[edges[i].corner] = int32_t(edges[i + 1].corner / 3);
      out[edges[i + 1].corner] = int32_t(edges[i].corner / 3);
    }
    i = j;
  }
  return neighbours;
}

// 3 or 4 for x86-64-v3 or -v4, 0 for the baseline.
int64_t host_cpu_level() { return cpu_level(); }

// int64 [P]: the order of points, float64 [P,3], along a Morton curve; equal codes keep their order.
Tensor morton_order(const Tensor& points_) {
  check(points_.dim() == 2 && points_.size(1) == 3 && points_.scalar_type() == ScalarType::Double,
        "facerender: points must be float64 [P,3]");
  const Tensor points = as_contiguous(points_);
  const int64_t n = points.size(0);
  const double* p = data<double>(points);
  double low[3], span = 0;
  for (int a = 0; a < 3; ++a) {
    double lo = n ? p[a] : 0, hi = lo;
    for (int64_t i = 0; i < n; ++i) lo = std::min(lo, p[3 * i + a]), hi = std::max(hi, p[3 * i + a]);
    low[a] = lo, span = std::max(span, hi - lo);
  }
  const double scale = span > 0 ? ((1 << 20) - 1) / span : 0;
  std::vector<uint64_t> code(static_cast<size_t>(n), 0);
  for (int64_t i = 0; i < n; ++i)
    for (int a = 0; a < 3; ++a) {
      const uint64_t cell = uint64_t(std::max(0.0, (p[3 * i + a] - low[a]) * scale));
      for (int bit = 0; bit < 20; ++bit) code[i] |= (cell >> bit & 1) << (3 * bit + a);
    }
  Tensor order = empty(points, {n}, ScalarType::Long);
  int64_t* out = mutable_data<int64_t>(order);
  std::iota(out, out + n, int64_t(0));
  std::stable_sort(out, out + n, [&](int64_t a, int64_t b) { return code[a] < code[b]; });
  return order;
}

STABLE_TORCH_LIBRARY_IMPL(facerender, CPU, m) {
  m.impl("vertex_corners", TORCH_BOX(&vertex_corners));
  m.impl("face_neighbours", TORCH_BOX(&face_neighbours));
  m.impl("morton_order", TORCH_BOX(&morton_order));
}

// Without a tensor among its arguments, an op has no back end to choose.
STABLE_TORCH_LIBRARY_IMPL(facerender, CompositeExplicitAutograd, m) { m.impl("cpu_level", TORCH_BOX(&host_cpu_level)); }

}  // namespace
}  // namespace facerender
