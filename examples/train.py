"""Train 2DASL for a few steps on synthetic faces, and use what came out.

python examples/train.py -o runs/example
"""

import argparse

import facemodels
from facemodels.methods.dasl import DASL, PRESETS, DASLConfig
from facemodels.training.config import configured
from facemodels.training.loop import train

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("-o", "--output", default="runs/example", help="folder of the run (default: runs/example)")
parser.add_argument("--preset", default="smoke", choices=list(PRESETS), help="(default: smoke, a few seconds)")
options = parser.parse_args()

config = configured(DASLConfig, PRESETS[options.preset], settings=(f"output={options.output}", "device=cpu"))
train(DASL, config, resume="auto")

method = facemodels.load_method(f"{options.output}/checkpoints/step-{config.steps:09d}")
print(f"{method.name}: {sum(p.numel() for p in method.parameters()):,} parameters, crops of {method.size} pixels")
