"""The former name of color.py."""

from .color import to_linear, to_srgb

__all__ = ["to_linear", "to_srgb"]
