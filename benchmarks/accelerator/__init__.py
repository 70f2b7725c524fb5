"""Trains runs on an accelerator that has JAX and no TensorFlow.

XLA compiles a whole epoch: the batches, the training step and the validation. The compiled program
is all that the accelerator needs:

1. `write.py` begins runs and writes their programs, with the images and the first weights.
2. `run.py` needs JAX and NumPy only. It runs the epochs and writes the last weights.
3. `read.py` finishes the runs: it writes the metrics, the model, its results and its pictures. A
   benchmark that began the runs then scores them. They have no checkpoint and cannot be resumed.

The training is that of `trainers.train` with `jit_compile=True`, except for rounding, for the order of
the images, and for draws of pixels or masks that are new in each epoch: XLA draws other numbers from
the same seeds.
"""
