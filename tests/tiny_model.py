"""Random arrays in the form of a morphable model."""

import numpy as np

from facemodels import ModelData

V, I, E, A = 40, 7, 5, 3


def tiny(**changes):
    rng = np.random.default_rng(0)
    data = dict(
        name="tiny",
        mean=rng.normal(size=(V, 3)) * 50,
        identity=rng.normal(size=(I, V, 3)),
        expression=rng.normal(size=(E, V, 3)),
        faces=rng.permuted(np.tile(np.arange(V), (60, 1)), axis=1)[:, :3],
        albedo_mean=rng.uniform(0.3, 0.6, size=(V, 3)),
        albedo=rng.normal(size=(A, V, 3)) * 0.05,
        landmark_index=rng.integers(0, V, size=(68, 3)),
        landmark_weights=np.tile([0.5, 0.3, 0.2], (68, 1)),
    )
    return ModelData(**{**data, **changes})
