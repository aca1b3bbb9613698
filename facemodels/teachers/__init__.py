"""Labels for photographs, by networks that were trained elsewhere, for a method to learn from.

* `network`: 68 landmarks with depth, by any method's weights or a published network.
* `face_mesh`: MediaPipe's 468 points, good at lips, eyes and brows.
* `combine`: both in one set of 68 landmarks, with a weight for how far they agree.
* `check`: how far they are from people's points.

`facemodels teacher` runs them; 2DASL's setting `teacher` takes what it writes.
"""
