"""Detection on a stream: an expensive network is run as seldom and on as little as accuracy allows."""

from bale.video.adaptive import AdaptiveMotionPolicy
from bale.video.calibration import calibrate_tau, rate_for_latency
from bale.video.detections import Detections
from bale.video.detector import Detector, Features
from bale.video.detectors.centerface import CenterFace
from bale.video.detectors.centre_point import CentrePointDetector
from bale.video.detectors.lite0 import Lite0Detector
from bale.video.detectors.load import load_detector
from bale.video.detectors.split import SplitDetector
from bale.video.detectors.store import read_detector, save_detector
from bale.video.film.draw import draw_boxes
from bale.video.film.folder import read_folder
from bale.video.film.read import FilmInfo, film_info, read_film
from bale.video.film.source import open_stream, stream_info
from bale.video.film.write import write_film
from bale.video.flow.dis import DisFlow, NoFlow
from bale.video.flow.estimator import Flow, FlowEstimator
from bale.video.flow.flownet import FlowNetS
from bale.video.flow.learned import FlowNetFlow
from bale.video.flow.weights import load_flownet, save_flownet
from bale.video.frame import BlockMotion, Frame
from bale.video.input_queue import InputQueue
from bale.video.keyframes import FixedInterval, MotionMeasure, MotionPolicy, Policy
from bale.video.metrics.average_precision import FrameTruth, average_precision, match_frame
from bale.video.metrics.latency import StreamStats, stream_stats
from bale.video.metrics.mot import read_mot, write_mot
from bale.video.motion import BlockMatching, CodecMotion, DisMotion, FlowError
from bale.video.pace import paced
from bale.video.propagate import propagate
from bale.video.result import FrameResult, StreamCounts
from bale.video.sparse.flow import SparseFlowNetFlow
from bale.video.sparse.network import SparseConfig
from bale.video.sparse.where import MovingBlocks
from bale.video.stream import AsyncResultStream, ResultStream, VideoDetector
from bale.video.worker import InstantWorker, Worker
from bale.video.worker_process import ProcessWorker
from bale.video.worker_thread import ThreadWorker

__all__ = [
    "AdaptiveMotionPolicy",
    "AsyncResultStream",
    "BlockMatching",
    "BlockMotion",
    "CenterFace",
    "CentrePointDetector",
    "CodecMotion",
    "Detections",
    "Detector",
    "DisFlow",
    "DisMotion",
    "Features",
    "FilmInfo",
    "FixedInterval",
    "Flow",
    "FlowError",
    "FlowEstimator",
    "FlowNetFlow",
    "FlowNetS",
    "Frame",
    "FrameResult",
    "FrameTruth",
    "InputQueue",
    "InstantWorker",
    "Lite0Detector",
    "MotionMeasure",
    "MotionPolicy",
    "MovingBlocks",
    "NoFlow",
    "Policy",
    "ProcessWorker",
    "ResultStream",
    "SparseConfig",
    "SparseFlowNetFlow",
    "SplitDetector",
    "StreamCounts",
    "StreamStats",
    "ThreadWorker",
    "VideoDetector",
    "Worker",
    "average_precision",
    "calibrate_tau",
    "draw_boxes",
    "film_info",
    "load_detector",
    "load_flownet",
    "match_frame",
    "open_stream",
    "paced",
    "propagate",
    "rate_for_latency",
    "read_detector",
    "read_film",
    "read_folder",
    "read_mot",
    "save_detector",
    "save_flownet",
    "stream_info",
    "stream_stats",
    "write_film",
    "write_mot",
]
