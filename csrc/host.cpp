// Host-side helpers over numpy: what is computed once per face list, and facts about the build.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "cpu/lanes/kernels.h"

namespace py = pybind11;
using Indices = py::array_t<int32_t, py::array::c_style | py::array::forcecast>;

namespace {

// (offsets [V+1], corners [3F]): the corners 3f + i of each vertex, in order.
std::pair<Indices, Indices> vertex_corners(const Indices& faces, int64_t num_vertices) {
  const int64_t n = faces.size();
  const int32_t* v = faces.data();
  Indices offsets(num_vertices + 1), corners(n);
  int32_t* o = offsets.mutable_data();
  std::fill(o, o + num_vertices + 1, 0);
  for (int64_t c = 0; c < n; ++c) ++o[v[c] + 1];
  std::partial_sum(o, o + num_vertices + 1, o);
  std::vector<int32_t> next(o, o + num_vertices);
  for (int64_t c = 0; c < n; ++c) corners.mutable_data()[next[v[c]]++] = int32_t(c);
  return {offsets, corners};
}

// [F,3]: the face across the edge opposite each corner, -1 at a border or where more than two faces share the edge.
Indices face_neighbours(const Indices& faces) {
  const int64_t num_faces = faces.size() / 3;
  const int32_t* v = faces.data();
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
  Indices neighbours({num_faces, int64_t(3)});
  int32_t* out = neighbours.mutable_data();
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

// The order of points [P,3] along a Morton curve.
py::array_t<int64_t> morton_order(const py::array_t<double, py::array::c_style | py::array::forcecast>& points) {
  const int64_t n = points.shape(0);
  const double* p = points.data();
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
  py::array_t<int64_t> order(n);
  std::iota(order.mutable_data(), order.mutable_data() + n, int64_t(0));
  std::stable_sort(order.mutable_data(), order.mutable_data() + n, [&](int64_t a, int64_t b) { return code[a] < code[b]; });
  return order;
}

}  // namespace

PYBIND11_MODULE(_host, m) {
  m.def("vertex_corners", &vertex_corners);
  m.def("face_neighbours", &face_neighbours);
  m.def("morton_order", &morton_order);
  m.def("cpu_level", [] {
    const int level = facerender::cpu_level();
    return level ? "x86-64-v" + std::to_string(level) : std::string("baseline");
  });
}
