"""Morphable face models and the reconstruction methods that stand on facerender."""
