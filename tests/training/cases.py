"""Methods and settings that tests train in more than one way."""

from torch import nn

from facemodels.methods import dasl
from facemodels.methods.e2far import E2FAR, PRESETS, E2FARConfig
from facemodels.training.config import configured
from tests.training.toy import Toy, config


class PlainE2FAR(E2FAR):
    """Without dropout, whose random numbers differ between processes."""

    def __init__(self, config):
        super().__init__(config)
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0


def case(kind: str, folder) -> tuple:
    """The method and the settings of a run that a test compares with another.

    The real networks are trained by SGD: Adam's first steps turn rounding errors into full steps.
    """
    if kind == "e2far":
        return PlainE2FAR, configured(
            E2FARConfig,
            PRESETS["smoke"]
            | dict(
                output=str(folder),
                device="cpu",
                steps=4,
                batch=8,
                cache=16,
                log_every=1,
                warmup=0,
                ema=0.0,
                optimizer="sgd",
            ),
        )
    if kind == "dasl":  # the critic is trained from stage 2 on
        settings = dict(
            output=str(folder),
            device="cpu",
            steps=4,
            stage1=2,
            batch=8,
            cache=16,
            held_out=2,
            log_every=1,
            warmup=0,
            ema=0.0,
            optimizer="sgd",
            lr=1e-4,
        )
        return dasl.DASL, configured(dasl.DASLConfig, dasl.PRESETS["smoke"] | settings)
    words = kind.split()
    changes = dict(
        dropout=0.0,
        ema=0.9,
        log_every=1,
        adversarial="adversarial" in words,
        normalised="normalised" in words,
        late=12 if "late" in words else -1,
    )
    return Toy, config(folder, **changes)
