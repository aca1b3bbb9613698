"""Benchmarks: `python -m benchmarks.NAME` prints a table, and with --json writes the numbers.

* ops: every op forward and backward, and other renderers on the same work.  plots: a chart of that comparison.
* kernels: every op on CUDA as a replayed graph, and its kernels.  variants: other ways to do the same work on CUDA.
* gpu: all that needs a GPU, in one command.
* models: how well the built-in model covers other models.  reconstruct: speed of reconstruction.
* angles: the picture of the signs of pitch, yaw and roll.
* training: speed of training steps.  ablations: what each part of a method is worth.
* fuzz_ops: random meshes at the edge of what numbers hold, the ops against the reference; prints failures.
* common, meshes, peers: timing and tables, heads made by formula, other renderers.
"""
