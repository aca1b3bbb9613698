#include <Python.h>

#include "tensors.h"

extern "C" PyObject* PyInit__C(void) {  // importing facerender._C runs the registrations of every file
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1};
  return PyModule_Create(&module);
}

STABLE_TORCH_LIBRARY(facerender, m) {
  m.def("rasterize(Tensor clip, Tensor faces, int height, int width, int cull, int layers) -> (Tensor, Tensor, Tensor)");
}
