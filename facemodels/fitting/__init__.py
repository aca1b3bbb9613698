"""Morphable models fitted to photos, to meshes and scans, and to other models.

* `photo`: `fit_image`, to landmarks and pixels; `landmarks` is its first stage, `outline` finds the face's outline.
* `scan`: `fit_mesh`, to meshes and scans. `surface`: the surfaces it matches.
* `transfer`: `Transfer`, from one model to another.
* `result`: `Fit`, what a fit finds. `judge`: what speaks against it.
* `least_squares`: coefficient vectors, Jacobians, steps within bounds. `raster`: masks and crops of pictures.
"""
