"""The BiLSTM tagger in DyNet: the one of the training steps."""

from benchmarks.train_step.bilstm.dynet_peer import make

__all__ = ["make"]
