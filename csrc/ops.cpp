// The Python module facerender._C, and the schemas of all ops. The back ends register their implementations.
#include <Python.h>

#include "tensors.h"

// Importing facerender._C runs the registrations of all files.
extern "C" PyObject* PyInit__C(void) {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1};
  return PyModule_Create(&module);
}

#define DEFINE_LIBRARY(name, m) STABLE_TORCH_LIBRARY(name, m)
DEFINE_LIBRARY(FACERENDER_LIBRARY, m) {
  m.def(
      "rasterize(Tensor clip, Tensor faces, int height, int width, int cull, int layers, bool want_bary=True) "
      "-> (Tensor face_id, Tensor bary, Tensor depth)");
  m.def(
      "rasterize_backward(Tensor? grad_bary, Tensor? grad_depth, Tensor clip, Tensor faces, Tensor face_id, "
      "bool deterministic) -> Tensor");
  m.def("interpolate(Tensor attributes, Tensor faces, Tensor face_id, Tensor bary, Tensor? background) -> Tensor");
  m.def(
      "interpolate_backward(Tensor grad, Tensor attributes, Tensor faces, Tensor face_id, Tensor bary, "
      "bool want_attributes, bool want_bary, bool deterministic) -> (Tensor, Tensor)");
  m.def("vertex_normals(Tensor vertices, Tensor faces, Tensor offsets, Tensor corners) -> Tensor");
  m.def(
      "vertex_normals_backward(Tensor grad, Tensor vertices, Tensor faces, Tensor offsets, Tensor corners) -> Tensor");
  m.def("sh_shade(Tensor albedo, Tensor normals, Tensor coefficients, int preset) -> Tensor");
  m.def(
      "sh_shade_backward(Tensor grad, Tensor albedo, Tensor normals, Tensor coefficients, int preset, "
      "bool want_albedo, bool want_normals, bool want_coefficients) -> (Tensor, Tensor, Tensor)");
  m.def(
      "render_face(Tensor clip, Tensor? normals, Tensor albedo, Tensor? coefficients, Tensor faces, "
      "Tensor? background, int height, int width, int cull, int preset) -> (Tensor image, Tensor face_id)");
  m.def(
      "render_face_backward(Tensor grad, Tensor clip, Tensor? normals, Tensor albedo, Tensor? coefficients, "
      "Tensor faces, Tensor face_id, int preset, bool want_clip, bool want_normals, bool want_albedo, "
      "bool want_coefficients, bool deterministic) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "edge_gradients_backward(Tensor grad, Tensor image, Tensor clip, Tensor faces, Tensor neighbours, "
      "Tensor face_id, bool deterministic) -> Tensor");
  m.def("vertex_corners(Tensor faces, int num_vertices) -> (Tensor offsets, Tensor corners)");
  m.def("face_neighbours(Tensor faces) -> Tensor");
  m.def("morton_order(Tensor points) -> Tensor");
  m.def("cpu_level() -> int");
}
