"""Settings of 2DASL and their presets."""

from dataclasses import dataclass
from typing import Any, ClassVar

from facemodels.core.errors import InputError
from facemodels.training.config import SAMPLES, STEPS, WEIGHT, Config, Ranges

SCHEMES = ("l2d", "l3d", "cycle", "critic")
TRUNKS = ("mobilenet", "mobilenet_05", "resnet50", "light")


@dataclass
class DASLConfig(Config):
    """Settings of 2DASL."""

    RANGES: ClassVar[Ranges] = {
        "batch": (2, 65_536),  # for batch norm
        "blank": (0.0, 1.0),
        "profiles": (1, 1000),
        "cache": SAMPLES,
        "yaw": (0.0, 90.0),
        "held_out": (1, SAMPLES[1]),
        "weight_l2d": WEIGHT,
        "weight_l3d": WEIGHT,
        "weight_cycle": WEIGHT,
        "weight_critic": WEIGHT,
        "weight_prior": WEIGHT,
        "unit": (1e-3, 1e4),
        "stage1": STEPS,
    }

    output: str = "runs/dasl"

    # Network
    model: str = "builtin"  # the morphable model: "builtin" or a file
    trunk: str = "light"  # "resnet50" (the paper's), "mobilenet" (3DDFA's), "mobilenet_05" (half as wide) or "light"
    weights: str = ""  # file of weights that the trunk begins with (ImageNet's of torchvision, 3DDFA's ...), but
    #   for its last layer, which is fitted to renderings (not of the light one); take a lower lr then, such as 1e-4
    channel: str = "hard"  # landmark channel: "hard" (single pixels, no gradient) or "soft" (Gaussians of one pixel)
    blank: float = 0.5  # share of samples whose channel is empty, so that the network works without landmarks

    # Data
    labelled: str = "synthetic"  # labeled faces: "synthetic", or the folder of 300W-LP (then model is its Basel model)
    wild: str = "synthetic"  # pictures with 2D landmarks: "synthetic" (other renderings, of which only 2D is used),
    #   AFLW's crops (the zip, its labels beside it), or a folder of pictures with landmark files
    teacher: str = ""  # file of 68 landmarks with depth that another network predicted for the pictures of `wild`;
    #   they replace the pictures' own, except of those held out (see facemodels teacher)
    profiles: int = 1  # sampling weight of pictures of `wild` with a third of the points hidden; others have 1
    extra: bool = False  # l2d and cycle compare all landmarks of `wild`, and not only 18 of them (no jaw, no lids, few
    #   of the lips); right where the jaw is marked at places of the head, not along the outline that a photo shows
    cache: int = 0  # rendered faces of each kind that are kept and reused; 0: new ones in every step
    kept: str = ""  # folder for crops of photographs, made once and read as needed; empty: in memory
    yaw: float = 90.0  # largest yaw of rendered faces, degrees
    held_out: int = 512  # faces of each kind to validate on; of photographs every fifth, if it is more than half

    # Losses
    schemes: tuple[str, ...] = SCHEMES  # which of l2d, l3d, cycle, critic; none is the baseline
    weight_l2d: float = 0.005  # 2D landmark consistency
    weight_l3d: float = 0.005  # 3D landmark consistency
    weight_cycle: float = 1.0  # cycle consistency
    weight_critic: float = 0.005  # self-critic
    weight_prior: float = 0.0  # mean squared whitened shape and expression of pictures of `wild`; not in the paper
    squared: bool = True  # l2d and cycle: squared distances, as in the paper, or distances
    unit: float = 12.0  # pixels; distances of landmarks are divided by it
    stage1: int = 0  # first steps, with labeled faces alone

    # Other defaults
    lr: float = 1e-3
    weight_decay: float = 5e-4
    clip: float = 5.0
    ema: float = 0.998

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights and self.start:
            raise InputError("weights are those that a new trunk begins with, and start has all; give one of them")
        if self.teacher and (self.wild == "synthetic" or not self.extra):
            raise InputError("teacher is for photographs and for all 68 points; give wild=PATH and extra=true with it")
        if self.teacher and not {"l2d", "cycle"} & {*self.schemes}:
            got = ",".join(self.schemes) or "none"
            raise InputError(f"l2d and cycle learn from a teacher; give one of them with it, got schemes={got}")
        if self.trunk not in TRUNKS or self.channel not in ("hard", "soft"):
            raise InputError(
                "trunk must be mobilenet, mobilenet_05, resnet50 or light and channel hard or soft, "
                f"got {self.trunk!r} and {self.channel!r}"
            )
        unknown = [s for s in self.schemes if s not in SCHEMES]
        if unknown:
            raise InputError(f"schemes must be some of {', '.join(SCHEMES)}, got {unknown[0]!r}")


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        steps=12, batch=4, stage1=4, held_out=8, validate_every=6, checkpoint_every=6, panel_every=12, log_every=3,
        warmup=2,
    ),
    "ablation": dict(
        steps=400, batch=32, cache=8000, precision="bfloat16", validate_every=400, checkpoint_every=200,
        panel_every=400, warmup=40,
    ),
    "cpu": dict(
        steps=8000, batch=32, stage1=1500, cache=20_000, precision="bfloat16", validate_every=1000,
        checkpoint_every=1000, panel_every=2000, warmup=200,
    ),
    "gpu": dict(
        trunk="resnet50", steps=100_000, batch=128, stage1=40_000, lr=2e-4, precision="bfloat16", validate_every=2000,
        checkpoint_every=2000, panel_every=5000, warmup=1000, prefetch=2,
    ),
    # Adam 5e-5, batch 32, clip 5, cosine: the reimplementation's. The length of the stages is not known; 300W-LP has
    # 122,450 pictures.
    "paper": dict(
        trunk="resnet50", steps=400_000, stage1=200_000, batch=32, optimizer="adam", lr=5e-5, weight_decay=0.0,
        ema=0.0,
    ),
}  # fmt: skip
