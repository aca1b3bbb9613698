"""The four reconstruction methods, and how they are loaded.

* `e2far`: UH-E2FAR (Dou et al. 2017): coefficients, with a loss on vertices.
* `dasl`: 2DASL (Tu et al. 2019): pose, shape and expression, also from pictures with 2D landmarks alone.
* `pgn`: the pose guidance network (Liu et al. 2020): pose solved from predicted landmarks.
* `cycle`: cycle-consistency of dynamic faces (Yang et al. 2023): pairs of frames, without labeled coefficients.
* `face_method`: what they have in common.
* `registry`: the methods by name, and `load_method`. `shipped`: where shipped weights and checkpoints lie.
* `published`: published networks of 62 parameters, as a `DASL`. `teacher`: landmarks of one network for another.
* `pack`: a checkpoint made small, for shipping. `neutral`: what a method answers for faces without expression.
"""
