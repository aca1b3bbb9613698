"""Training of the methods.

* `loop`: the loop, from the first step to the last, and resuming.
* `method`: what a method gives to it.
* `config`: settings that every method has. `describe`: their documentation, for the command.
* `checkpoint`: saving and loading. `metrics`: the log of a run.
* `optimizer`: optimizers, learning rate, averaged weights. `precision`: compilation and bfloat16.
* `prefetch`: batches made ahead. `distributed`: several processes.
"""
