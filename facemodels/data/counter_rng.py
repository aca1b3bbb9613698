"""Counter-based random numbers: hashes of a sample's key and a counter, so a sample does not depend on its batch.

In the manner of Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011. The hash is a mixer of 32-bit
words with the multipliers that Ettinger found in a search for low bias.
"""

import math

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF


class CounterRNG:
    """Random numbers for N samples: the n-th number of a sample is a hash of the sample's key and n.

    Numbers that decide something (`choose`) and other small ones are computed on the CPU, so no device is waited for;
    fields as large as an image are computed on the device.

    Args:
        keys: one key of at most 63 bits per sample.
        device: where numbers are returned, except by `cpu_uniform` and `cpu_normal`.

    Attributes:
        keys: int64 [N,2], the low and the high word of each key.
        count: N.
        device: as given.
        position: the counter; every call advances it, for all samples alike.
        field_keys: `keys` on the device, used by `normal_field`.
        noise_keys: the keys that `noise` uses, on the device.
    """

    def __init__(self, keys: list[int], device: torch.device) -> None:
        self.keys = torch.tensor([[k & _WORD, k >> 32] for k in keys], dtype=torch.int64).view(-1, 2)
        self.count, self.device, self.position = len(keys), device, 0
        self.field_keys = self.noise_keys = self.keys.to(device, non_blocking=True)

    def cpu_uniform(self, k: int) -> Tensor:
        """Uniform numbers [N,k] between 0 and 1, both excluded, on the CPU."""
        return self._uniform(self.keys, k)

    def cpu_normal(self, k: int) -> Tensor:
        """Standard normal numbers [N,k], on the CPU."""
        return _normal(self.cpu_uniform(k))

    def uniform(self, k: int) -> Tensor:
        """Uniform numbers [N,k] between 0 and 1, both excluded."""
        return self.cpu_uniform(k).to(self.device, non_blocking=True)

    def normal(self, k: int) -> Tensor:
        """Standard normal numbers [N,k]."""
        return self.cpu_normal(k).to(self.device, non_blocking=True)

    def normal_field(self, k: int) -> Tensor:
        """Standard normal numbers [N,k], computed on the device."""
        return _normal(self._uniform(self.field_keys, k))

    def choose(self, probability: float) -> Tensor:
        """Choose each sample with a probability; return the indices of the chosen ones, int64 [M]."""
        return (self.cpu_uniform(1)[:, 0] < probability).nonzero()[:, 0].to(self.device, non_blocking=True)

    def noise(self, indices: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Standard normal noise as large as an image, for some of the samples.

        Each hash gives three numbers of ten bits, which a table of quantiles turns into normal ones.

        Args:
            indices: int64 [M], the samples.
            shape: (3, H, W).

        Returns:
            [M,3,H,W].
        """
        _, h, w = shape
        bits = self._bits(self.noise_keys[indices], h * w)
        table = _normal((torch.arange(1024, device=self.device) + 0.5) / 1024)
        return torch.stack([table[bits >> shift & 1023] for shift in (0, 10, 20)], 1).view(-1, 3, h, w)

    def _uniform(self, keys: Tensor, k: int) -> Tensor:
        # The largest would be rounded to 1, of which no normal number comes and no place in a list.
        return (((self._bits(keys, k) >> 8).float() + 0.5) * 2.0**-24).clamp(max=1 - 2.0**-24)

    def _bits(self, keys: Tensor, k: int) -> Tensor:
        """Return int64 [N,k], 32 random bits each."""
        counter = torch.arange(self.position, self.position + k, device=keys.device)
        self.position += k
        return _mix(_mix(counter * 0x9E3779B9 + keys[:, :1] & _WORD) ^ keys[:, 1:])


def _mix(x: Tensor) -> Tensor:
    """Hash 32-bit words held as int64, in place."""
    x ^= x >> 16
    x.mul_(0x21F0AAAD).bitwise_and_(_WORD)
    x ^= x >> 15
    x.mul_(0xD35A2D97).bitwise_and_(_WORD)
    x ^= x >> 15
    return x


def _normal(uniform: Tensor) -> Tensor:
    return torch.erfinv(2 * uniform - 1) * math.sqrt(2)
