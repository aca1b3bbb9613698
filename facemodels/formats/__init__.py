"""Readers of morphable model files: one file a family, each returns `ModelData` in this library's conventions."""
