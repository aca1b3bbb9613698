"""Settings of PGN, and its presets."""

from dataclasses import dataclass
from typing import Any, ClassVar

from facemodels.core.errors import InputError
from facemodels.training.config import SAMPLES, STEPS, WEIGHT, Config, Ranges


@dataclass
class PGNConfig(Config):
    """Settings of the pose guidance network."""

    RANGES: ClassVar[Ranges] = {
        "cache": SAMPLES,
        "held_out": (1, SAMPLES[1]),
        "yaw": (0.0, 90.0),
        "weight_landmarks": WEIGHT,
        "weight_coefficients": WEIGHT,
        "weight_vertices": WEIGHT,
        "stage1": STEPS,
        "weight_2d": WEIGHT,
        "weight_identity": WEIGHT,
        "weight_swap": WEIGHT,
        "weight_census": WEIGHT,
        "weight_probable": WEIGHT,
    }

    output: str = "runs/pgn"

    # Model and networks
    model: str = "builtin"  # the morphable model
    trunk: str = "light"  # encoder: "resnet50" (224 pixels) or "light" (112 pixels)
    landmarks: str = "map"  # landmark head: "map" (read from a UV position map) or "direct" (regressed)
    pose: str = "guided"  # "guided" (solved from the landmarks) or "regressed" (the baseline of the paper)

    # Data
    labelled: str = "synthetic"  # labeled pictures: "synthetic", or the folder of 300W-LP (`model` is its Basel model)
    frames: str = "synthetic"  # frames of one person without labels: "synthetic", or a folder of videos
    cache: int = 0  # rendered faces that are kept in memory; 0: new ones in every step
    held_out: int = 512  # rendered faces to validate on
    yaw: float = 75.0  # largest yaw of rendered faces, degrees

    # Losses of labeled pictures
    weight_landmarks: float = 1.0  # weight of the predicted landmarks and, of a map, of other points
    weight_coefficients: float = 1.0  # weight of identity and expression coefficients
    weight_vertices: float = 1.0  # weight of the vertices of the posed model

    # Losses of frames of one person
    stage1: int = 0  # steps with labeled pictures alone; as many as `steps` leaves frames out
    weight_2d: float = 0.1  # weight of the agreement of the two heads in the picture
    weight_identity: float = 0.1  # weight of the distance between the identities of two frames
    weight_swap: float = 0.1  # weight of the landmarks of shapes with the identity of the other frame
    weight_census: float = 0.1  # weight of the census loss of reprojected frames; 0: nothing is reprojected
    weight_probable: float = 1e-4  # weight of the coefficient regularizer

    # Other defaults
    lr: float = 1e-3
    weight_decay: float = 5e-4
    clip: float = 5.0
    ema: float = 0.998

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in (
            ("trunk", ("resnet50", "light")),
            ("landmarks", ("map", "direct")),
            ("pose", ("guided", "regressed")),
        ):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} must be {' or '.join(choices)}, got {getattr(self, name)!r}")
        if self.batch % 2:
            raise InputError(f"batch must be even, for pairs of frames, got {self.batch}")


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        steps=12, batch=4, stage1=4, held_out=8,
        validate_every=6, checkpoint_every=6, panel_every=12, log_every=3, warmup=2,
    ),
    "ablation": dict(
        steps=2000, batch=32, stage1=1300, cache=8000, precision="bfloat16",
        validate_every=1000, checkpoint_every=500, panel_every=2000, warmup=100,
    ),
    "cpu": dict(
        steps=4000, batch=32, stage1=2000, cache=24_000, precision="bfloat16",
        validate_every=1000, checkpoint_every=1000, panel_every=2000, warmup=200,
    ),
    "gpu": dict(
        trunk="resnet50", steps=100_000, batch=128, stage1=50_000, lr=2e-4, precision="bfloat16",
        validate_every=2000, checkpoint_every=2000, panel_every=5000, warmup=1000, prefetch=2,
    ),
    "paper": dict(
        trunk="resnet50", steps=400_000, stage1=200_000, batch=32,
        optimizer="adam", lr=1e-4, weight_decay=0.0, ema=0.0,
    ),
}  # fmt: skip
