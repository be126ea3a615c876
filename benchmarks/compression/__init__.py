"""Accuracy against bytes on Fashion-MNIST: every method of bale.compress on four networks, in runs that resume."""
