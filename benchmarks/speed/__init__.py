"""Speed: training steps, the passes that they need, and the Fréchet distance."""
