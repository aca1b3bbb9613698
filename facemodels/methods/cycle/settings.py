"""Settings of Cycle, and its presets."""

from dataclasses import dataclass
from typing import Any, ClassVar

from facemodels.core.errors import InputError
from facemodels.training.config import SAMPLES, STEPS, WEIGHT, Config, Ranges

CYCLES, MODES = ("pose", "expression"), ("render", "texture", "warp")


@dataclass
class CycleConfig(Config):
    """Settings of Cycle."""

    RANGES: ClassVar[Ranges] = {
        "cache": SAMPLES,
        "held_out": (8, SAMPLES[1]),
        "yaw": (0.0, 90.0),
        "coarse": STEPS,
        "weight_photometric": WEIGHT,
        "weight_landmarks": WEIGHT,
        "weight_probable": WEIGHT,
        "weight_gamma": WEIGHT,
        "weight_reflectance": WEIGHT,
        "weight_pair": WEIGHT,
        "stage1": STEPS,
        "detached": STEPS,
        "variation_mm": (0.0, 100.0),
        "weight_pose_cycle": WEIGHT,
        "weight_expression_cycle": WEIGHT,
        "weight_picture": WEIGHT,
        "weight_angle": WEIGHT,
        "weight_variation": WEIGHT,
        "weight_kept": WEIGHT,
    }

    output: str = "runs/cycle"

    # Model and networks
    model: str = "builtin"  # the morphable model
    trunk: str = "light"  # encoder: "resnet50" (224 pixels) or "light" (112 pixels)
    separate: bool = False  # an encoder for each branch ("resnet50": a ResNet-18 each); else the branches share all
    #   layers before the third ("light": before the fourth)

    # Data
    frames: str = "synthetic"  # pairs of frames of one person: "synthetic", or a folder of videos
    cache: int = 0  # rendered frames that are kept in memory; 0: new ones in every step
    held_out: int = 256  # rendered frames to validate on
    yaw: float = 60.0  # largest yaw of rendered faces, degrees

    # Losses of single frames and pairs
    coarse: int = 0  # first steps, with landmarks alone: nothing is rendered
    pair: str = "distance"  # identity and texture of a pair: their "distance", or "swap": rendered with the other's
    weight_photometric: float = 1.92  # weight of the color distance of the rendering to the frame
    weight_landmarks: float = 1.6e-3  # weight of the landmarks' squared distance, pixels of a 224 crop; 0: none needed
    weight_probable: float = 6e-3  # weight of the coefficient regularizer
    weight_gamma: float = 10.0  # weight of the light's deviation from white
    weight_reflectance: float = 5.0  # weight of the variance of the albedo over the face
    weight_pair: float = 0.1  # weight of the pair's distance

    # Cycles
    stage1: int = 0  # steps without cycles, `coarse` ones included
    detached: int = 0  # first steps of the cycles, in which the composed picture has no gradient
    cycles: tuple[str, ...] = CYCLES  # "pose", "expression", both or none
    compose_pose: str = "texture"  # composition in the cycle of pose: "render", "texture" or "warp"
    compose_expression: str = "warp"  # composition in the cycle of expression: "render", "texture" or "warp"
    variation_mm: float = 1.2  # mean vertex displacement by a variation of expression; 0: as the network predicts it
    weight_pose_cycle: float = 0.2  # weight of the cycle of pose
    weight_expression_cycle: float = 0.2  # weight of the cycle of expression
    weight_picture: float = 1.92  # weight, within a cycle, of the picture that comes back
    weight_angle: float = 10.0  # weight, within a cycle, of squared differences of pose
    weight_variation: float = 0.5  # weight, within the cycle of expression, of the extracted variation
    weight_kept: float = 2.5  # weight, within a cycle, of the properties that must stay

    # Other defaults
    lr: float = 1e-3
    weight_decay: float = 5e-4
    clip: float = 5.0
    ema: float = 0.998

    def __post_init__(self) -> None:
        super().__post_init__()
        choices = {
            "trunk": ("resnet50", "light"),
            "compose_pose": MODES,
            "compose_expression": MODES,
            "pair": ("distance", "swap"),
        }
        for name, words in choices.items():
            if getattr(self, name) not in words:
                raise InputError(f"{name} must be {' or '.join(words)}, got {getattr(self, name)!r}")
        if unknown := [c for c in self.cycles if c not in CYCLES]:
            raise InputError(f"cycles must be of {' and '.join(CYCLES)}, got {unknown[0]!r}")
        if self.cycles and self.coarse > self.stage1:
            raise InputError(
                "cycles render pictures, so coarse, the steps without rendering, must be at most stage1, "
                f"got {self.coarse} and {self.stage1}"
            )
        if self.batch % 2 or self.batch < 4:
            raise InputError(
                "batch must be even, for pairs of frames, and at least 4, for batch norms of first frames, "
                f"got {self.batch}"
            )


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        steps=9, batch=4, stage1=3, detached=3, held_out=8,
        validate_every=9, checkpoint_every=9, panel_every=9, log_every=3, warmup=2,
    ),
    "ablation": dict(
        steps=800, batch=16, stage1=500, detached=100, cache=8000, precision="bfloat16",
        validate_every=800, checkpoint_every=200, panel_every=800, warmup=50,
    ),
    "cpu": dict(
        steps=6500, batch=16, coarse=2000, stage1=3500, detached=200, cache=24_000, precision="bfloat16",
        validate_every=500, checkpoint_every=500, panel_every=2000, warmup=200,
    ),
    "gpu": dict(
        trunk="resnet50", steps=100_000, batch=64, stage1=50_000, detached=5000, lr=2e-4, precision="bfloat16",
        validate_every=2000, checkpoint_every=2000, panel_every=5000, warmup=1000, prefetch=2,
    ),
    "paper": dict(
        trunk="resnet50", steps=400_000, stage1=200_000, detached=20_000, batch=32,
        optimizer="adam", lr=1e-4, weight_decay=0.0, ema=0.0,
    ),
}  # fmt: skip
