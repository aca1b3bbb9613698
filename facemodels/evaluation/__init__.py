"""Evaluation protocols, one file each, and the measures that they share (`landmarks`). No protocol knows a method: what is scored is a function of pictures."""
