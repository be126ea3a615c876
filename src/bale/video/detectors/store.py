"""How does a detector go to a file and come back, and what does a name on the command line stand for?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bale.errors import VideoError
from bale.video.detectors.centre_point import CentrePointDetector
from bale.video.detectors.lite0 import Lite0Detector
from bale.video.detectors.sprites import TinyDetector

FORMAT = "bale detector 1"


def _lite0(settings: Mapping[str, Any]) -> CentrePointDetector:
    return Lite0Detector(**settings, pretrained=False)


def _sprites(settings: Mapping[str, Any]) -> CentrePointDetector:
    return TinyDetector(**settings)


_KINDS: dict[str, tuple[type[CentrePointDetector], Callable[[Mapping[str, Any]], CentrePointDetector]]] = {
    "lite0": (Lite0Detector, _lite0),
    "sprites": (TinyDetector, _sprites),
}


def save_detector(detector: CentrePointDetector, path: str | PathLike[str]) -> None:
    """Write weights, and what a detector of their shape is made with, as one .safetensors file.

    Raises VideoError for a kind of detector that no name stands for, and where the file cannot be written.
    """
    kind = next((name for name, (cls, _) in _KINDS.items() if type(detector) is cls), None)
    if kind is None:
        known = ", ".join(cls.__name__ for cls, _ in _KINDS.values())
        raise VideoError(f"{type(detector).__name__} cannot be saved; expected one of {known}")
    weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in detector.state_dict().items()}
    about = {"format": FORMAT, "kind": kind, "settings": json.dumps(detector.settings())}
    try:
        save_file(weights, path, metadata=about)
    except (OSError, SafetensorError) as error:
        raise VideoError(f"{path}: cannot be written: {error}") from error


def read_detector(path: str | PathLike[str], kind: str | None = None) -> CentrePointDetector:
    """Read what `save_detector` wrote.

    Raises VideoError for a file that is missing, damaged, no detector's, of another kind than is asked, or whose
    weights do not fit its settings.
    """
    path = Path(path)
    if not path.is_file():
        raise VideoError(f"{path}: no such file; expected a detector that save_detector has written")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            weights: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise VideoError(f"{path}: cannot be read as .safetensors: {error}") from error
    if about.get("format") != FORMAT or about.get("kind") not in _KINDS:
        raise VideoError(f"{path}: is of format {about.get('format')!r}; expected {FORMAT!r}, by save_detector")
    if kind is not None and about["kind"] != kind:
        raise VideoError(f"{path}: is a detector of kind {about['kind']}, not {kind}")
    try:
        detector = _KINDS[about["kind"]][1](json.loads(about["settings"]))
        detector.load_state_dict(weights)
    except VideoError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise VideoError(f"{path}: is damaged: {' '.join(str(error).split())}") from error
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise VideoError(f"{path}: {name} has numbers that are NaN or infinite")
    return detector
