"""Photographs and videos in, faces out.

* `reconstructor`: `reconstruct` and `Reconstructor`, the main job from end to end.
* `detect`: the face detector. `search`: where faces may be, at any turn and size. `face_check`: what is a face.
* `views`: crops for the network and the way back into the picture.
* `face`: `Face`, the result. `follow`, `tracking`: faces over the frames of a video.
* `refine`: predictions fitted to their pictures.
* `label`: landmark files for photographs that are trained on.
* `overlays`, `texture`, `files`: what is drawn and written of faces.
"""
