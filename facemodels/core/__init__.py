"""What all of facemodels shares. Nothing here imports from the other packages.

* `alignment`: similarities between point sets (Umeyama), nearest rotations.
* `camera`: the camera of a fit, and its start from landmarks.
* `contour`: the landmarks on the outline of a posed head.
* `crops`: square crops of photographs around faces.
* `device`: the device that a user names.
* `drawing`: pictures of faces for people to look at.
* `errors`: the error for users.
* `landmarks`: what is known of 68, 21 and 5 landmarks.
* `options`: options that several commands have, and numbers of options.
* `parameters`: the parameters of faces in pictures.
* `progress`: how far a slow step is.
* `rotation`: rotation vectors.
* `seeding`: seeds from numbers.
* `surface`: closest points on meshes, and alignment of surfaces (ICP).
"""
