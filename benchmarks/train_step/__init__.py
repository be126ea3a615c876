"""How long does a training step take, from samples to gradients, and how long do others take for the same step?"""
