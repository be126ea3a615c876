"""The networks of the papers, written for one sample in plain PyTorch."""

from bale.models.bilstm_tagger import BiLSTMTagger
from bale.models.child_sum_tree_lstm import ChildSumTreeLSTM
from bale.models.nary_tree_lstm import NaryTreeLSTM
from bale.models.trees import TreeLike, post_order

__all__ = ["BiLSTMTagger", "ChildSumTreeLSTM", "NaryTreeLSTM", "TreeLike", "post_order"]
