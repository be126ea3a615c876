"""Training: the loop behind `bale train`, its checkpoints, and what it measures."""

from bale.train.accuracy import accuracy, accuracy_and_named, majority_accuracy
from bale.train.checkpoint import Checkpoint, Place, load_checkpoint
from bale.train.classifiers import CLASSIFIERS, build_classifier
from bale.train.compare import Comparison, compare
from bale.train.compression import Part, Retraining, compress_and_train, parts_of
from bale.train.compression_target import (
    Found,
    Setting,
    Target,
    Try,
    find_for_accuracy,
    parse_target,
    setting_for_ratio,
    with_adc_bits,
)
from bale.train.config import PolicyConfig, TaskConfig, TrainConfig
from bale.train.detector import FineTuning, fine_tune, train_detector
from bale.train.flow import train_flow, tune_flow
from bale.train.flow_for import tune_flow_for
from bale.train.flow_loss import endpoint_error
from bale.train.image_answers import image_accuracy
from bale.train.image_checkpoint import Stateful, steps_done
from bale.train.images import ImageStep, train_images
from bale.train.load import MODELS, load_task
from bale.train.loop import fit
from bale.train.meter import EpochRecord, FitReport
from bale.train.packed_accuracy import PackedFile, write_and_test
from bale.train.policies import held_out_graphs, learn_for_task, task_of
from bale.train.resumable import TrainingStep
from bale.train.rows import Label, Sample
from bale.train.run import RunReport, train_task
from bale.train.step import STAGES, StepRecord
from bale.train.task import Task
from bale.train.weights import load_weights, save_weights

__all__ = [
    "CLASSIFIERS",
    "MODELS",
    "STAGES",
    "Checkpoint",
    "Comparison",
    "EpochRecord",
    "FineTuning",
    "FitReport",
    "Found",
    "ImageStep",
    "Label",
    "PackedFile",
    "Part",
    "Place",
    "PolicyConfig",
    "Retraining",
    "RunReport",
    "Sample",
    "Setting",
    "Stateful",
    "StepRecord",
    "Target",
    "Task",
    "TaskConfig",
    "TrainConfig",
    "TrainingStep",
    "Try",
    "accuracy",
    "accuracy_and_named",
    "build_classifier",
    "compare",
    "compress_and_train",
    "endpoint_error",
    "find_for_accuracy",
    "fine_tune",
    "fit",
    "held_out_graphs",
    "image_accuracy",
    "learn_for_task",
    "load_checkpoint",
    "load_task",
    "load_weights",
    "majority_accuracy",
    "parse_target",
    "parts_of",
    "save_weights",
    "setting_for_ratio",
    "steps_done",
    "task_of",
    "train_detector",
    "train_flow",
    "train_images",
    "train_task",
    "tune_flow",
    "tune_flow_for",
    "with_adc_bits",
    "write_and_test",
]
