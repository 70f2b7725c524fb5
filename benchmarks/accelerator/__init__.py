"""Trains runs on an accelerator that has JAX and no TensorFlow.

XLA compiles a whole epoch: the batches, the training step and the validation. The compiled program
is all that the accelerator needs:

1. `write.py` writes the programs of runs that have begun, with the images and the first weights.
2. `run.py` needs JAX and NumPy only. It runs the epochs and writes the last weights.
3. `read.py` writes the checkpoints of the runs. `trainers.train --resume`, or the benchmark that
   began the runs, then finishes them as if the epochs had been trained here.

The training is that of `trainers.train` without a callback in the epochs: the step, its random
numbers and the draws of pixels are the same; the order of the images is another one.
"""
