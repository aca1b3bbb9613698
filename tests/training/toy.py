"""A small method for tests of the training loop: regression of a linear map."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from facemodels.core.seeding import seed_of
from facemodels.training.checkpoint import checkpoints
from facemodels.training.config import Config
from facemodels.training.method import Method, Panel


@dataclass
class ToyConfig(Config):
    width: int = 8
    dropout: float = 0.2
    noise: float = 0.0
    poison: int = -1  # the step whose loss is not finite
    adversarial: bool = False
    normalised: bool = False  # batch norm in every network
    late: int = -1  # the step from which another head, reported all along, is trained


class Toy(Method):
    """Regression of a fixed linear map, with dropout, so that random numbers matter."""

    name, config_class, monitor = "toy", ToyConfig, "error"

    def __init__(self, config):
        super().__init__(config)
        norm = [nn.BatchNorm1d(config.width)] if config.normalised else []
        self.body = nn.Sequential(
            nn.Linear(4, config.width, bias=not norm),
            *norm,
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.width, 2),
        )
        self.critic = (
            nn.Sequential(
                nn.Linear(2, 3, bias=not norm), *[nn.BatchNorm1d(3) for _ in norm], nn.Tanh(), nn.Linear(3, 1)
            )
            if config.adversarial
            else None
        )
        self.head = nn.Linear(4, 1) if config.late >= 0 else None

    def parameter_groups(self):
        if self.critic is None:
            return super().parameter_groups()
        return {"critic": list(self.critic.parameters()), "network": list(self.body.parameters())}

    def batch(self, step, indices, device):
        x = torch.stack(
            [
                torch.randn(4, generator=torch.Generator().manual_seed(seed_of(self.config.seed, step, i)))
                for i in indices
            ]
        )
        return x.to(device)

    def target(self, x):
        return torch.stack([x.sum(1), x[:, 0] - x[:, 1]], 1)

    def forward(self, group, x, step, shared):
        if group == "critic":
            return {
                "loss": (self.critic(self.body(x).detach()) ** 2).mean()
                + ((self.critic(self.target(x)) - 1) ** 2).mean()
            }
        error = (self.body(x) - self.target(x)).square().mean()
        loss = error if step != self.config.poison else error / 0
        if self.critic is not None:
            loss = loss + 0.01 * ((self.critic(self.body(x)) - 1) ** 2).mean()
        parts = {"loss": loss, "error": error}
        if self.head is not None:
            parts["late"] = (self.head(x) - 1).square().mean()
            parts["loss"] = loss + parts["late"] * 0.3 if step >= self.config.late else loss
        return parts

    def validate(self, device):
        x = self.batch(10**6, range(64), device)
        return {"error": float((self.body(x) - self.target(x)).square().mean())}

    def visualize(self, batch):
        return Panel(torch.rand(8, 8, 3), ["noise"])


def config(folder, **changes):
    base = dict(
        output=str(folder),
        device="cpu",
        batch=8,
        steps=30,
        lr=1e-2,
        log_every=5,
        validate_every=10,
        checkpoint_every=10,
        panel_every=30,
        warmup=3,
    )
    return ToyConfig(**{**base, **changes})


def weights(folder) -> dict:
    return load_file(checkpoints(Path(folder) / "checkpoints")[-1] / "weights.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def metrics(folder) -> list[dict]:
    """The lines of metrics.jsonl, without times."""
    lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if "seconds" not in k} for line in lines]
