"""The networks of the papers, written for one sample in plain PyTorch."""

from bale.models.bilstm_tagger import BiLSTMTagger
from bale.models.char_bilstm_tagger import CharBiLSTMTagger
from bale.models.child_sum_tree_lstm import ChildSumTreeLSTM
from bale.models.dag_lstm import DagLike, DagLSTM
from bale.models.encoder_decoder import EncoderDecoder, GreedyDecoder
from bale.models.grid_lstm import GridLSTM
from bale.models.lattice_gru import LatticeGRU
from bale.models.lattice_lstm import LatticeLSTM
from bale.models.lattices import LatticeLike
from bale.models.mv_rnn import MVRNN
from bale.models.nary_tree_lstm import NaryTreeLSTM
from bale.models.stack_lstm import REDUCE, SHIFT, StackLSTM
from bale.models.tree_gru import TreeGRU
from bale.models.trees import TreeLike, post_order
from bale.models.two_type_tree_lstm import TwoTypeTreeLSTM

__all__ = [
    "MVRNN",
    "REDUCE",
    "SHIFT",
    "BiLSTMTagger",
    "CharBiLSTMTagger",
    "ChildSumTreeLSTM",
    "DagLSTM",
    "DagLike",
    "EncoderDecoder",
    "GreedyDecoder",
    "GridLSTM",
    "LatticeGRU",
    "LatticeLSTM",
    "LatticeLike",
    "NaryTreeLSTM",
    "StackLSTM",
    "TreeGRU",
    "TreeLike",
    "TwoTypeTreeLSTM",
    "post_order",
]
