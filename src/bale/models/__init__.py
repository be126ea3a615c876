"""The networks of the papers in plain PyTorch: those of images take a batch, all others are written for one sample."""

from bale.models.bilstm_tagger import BiLSTMTagger
from bale.models.char_bilstm_tagger import CharBiLSTMTagger
from bale.models.child_sum_tree_lstm import ChildSumTreeLSTM
from bale.models.dag_lstm import DagLike, DagLSTM
from bale.models.encoder_decoder import EncoderDecoder, GreedyDecoder
from bale.models.grid_lstm import GridLSTM
from bale.models.lattice_gru import LatticeGRU
from bale.models.lattice_lstm import LatticeLSTM
from bale.models.lattices import LatticeLike
from bale.models.lenet5 import LeNet5
from bale.models.lstm_classifier import LSTMClassifier
from bale.models.mv_rnn import MVRNN
from bale.models.nary_tree_lstm import NaryTreeLSTM
from bale.models.resnet20 import ResNet20
from bale.models.stack_lstm import REDUCE, SHIFT, StackLSTM
from bale.models.tree_gru import TreeGRU
from bale.models.trees import TreeLike, post_order
from bale.models.two_type_tree_lstm import TwoTypeTreeLSTM
from bale.models.vgg8 import VGG8

__all__ = [
    "MVRNN",
    "REDUCE",
    "SHIFT",
    "VGG8",
    "BiLSTMTagger",
    "CharBiLSTMTagger",
    "ChildSumTreeLSTM",
    "DagLSTM",
    "DagLike",
    "EncoderDecoder",
    "GreedyDecoder",
    "GridLSTM",
    "LSTMClassifier",
    "LatticeGRU",
    "LatticeLSTM",
    "LatticeLike",
    "LeNet5",
    "NaryTreeLSTM",
    "ResNet20",
    "StackLSTM",
    "TreeGRU",
    "TreeLike",
    "TwoTypeTreeLSTM",
    "post_order",
]
