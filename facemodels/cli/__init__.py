"""The commands, `facemodels COMMAND`. Nothing outside this package imports it.

* `main`: the list of commands, what they share, exit codes.
* `reconstruct`: faces of photographs and videos. `reconstruct_inputs`: what is read. `reconstruct_photos` and
  `reconstruct_videos`: the work. `reconstruct_outputs`: what is written.
* `fit`: a model fitted to a photo, a mesh or a scan. `fit_pictures`: the pictures of a fit.
  `fit_face_check`: whether the photo shows a face there.
* `transfer`: identity and expression from one model or face to another.
* `convert`: model files. `sheet`: random faces of a model.
* `train`: methods. `evaluate`: their scores. `teacher`: labels of photographs for a method to learn from.
* `doctor`: what is installed and found, and where to get the rest. `sources`: where models and data sets come from.
"""
