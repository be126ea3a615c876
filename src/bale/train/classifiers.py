"""Which network is to classify images? One that is known by name, or one of the user's own, from a file or module."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from bale.data.images import Images
from bale.errors import BaleError
from bale.models import VGG8, LeNet5, LSTMClassifier, ResNet20


def _square(build: Callable[..., nn.Module], images: Images, **sizes: int) -> nn.Module:
    height, width = images.images.shape[2:]
    if height != width:
        raise BaleError(f"takes square images, and those of {images.name} are {height} x {width}")
    return build(classes=len(images.classes), channels=images.images.shape[1], size=height, **sizes)


def _lenet5(images: Images, **sizes: int) -> nn.Module:
    return _square(LeNet5, images, **sizes)


def _vgg8(images: Images, **sizes: int) -> nn.Module:
    return _square(VGG8, images, **sizes)


def _resnet20(images: Images, **sizes: int) -> nn.Module:
    return ResNet20(len(images.classes), images.images.shape[1], **sizes)


def _lstm(images: Images, **sizes: int) -> nn.Module:
    return LSTMClassifier(len(images.classes), images.images.shape[3], **sizes)


_KNOWN: dict[str, Callable[..., nn.Module]] = {
    "lenet5": _lenet5,
    "vgg8": _vgg8,
    "resnet20": _resnet20,
    "lstm": _lstm,
}
_WIDE = ("vgg8", "resnet20")
CLASSIFIERS = tuple(_KNOWN)


def build_classifier(spec: str, images: Images, *, width: int | None = None, seed: int = 0) -> nn.Module:
    """Return the network that `spec` names, made for the shape and the classes of `images`.

    spec   one of `CLASSIFIERS`, whose first weights come from `seed`; or FILE.py:NAME or package.module:NAME, where
           NAME is a module, or what returns one when called without arguments
    width  maps of the first convolutions of vgg8 and resnet20

    Torch's random state is left as it was. Raises `BaleError`, which begins with `spec`, where there is no such
    network, where it has no width, and where it does not take such images. What the user's own file raises comes
    through.
    """
    if width is not None and spec not in _WIDE:
        raise BaleError(f"{spec}: has no width to choose; {' and '.join(_WIDE)} have")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if spec in _KNOWN:
            try:
                model = _KNOWN[spec](images, **({} if width is None else {"width": width}))
            except (BaleError, ValueError) as error:
                raise BaleError(f"{spec}: {error}") from error
        else:
            model = _own(spec)
        _check_takes(spec, model, images)
    return model.eval()


def is_own(spec: str) -> bool:
    """Does a name mean a network of the user's own, whose weights may be what they should be?"""
    return spec not in _KNOWN


def _own(spec: str) -> nn.Module:
    place, _, name = spec.rpartition(":")
    if not place or not name:
        raise BaleError(f"{spec}: unknown; known are {', '.join(CLASSIFIERS)}, FILE.py:NAME and package.module:NAME")
    module = _from_file(spec, Path(place)) if place.endswith(".py") else _from_package(spec, place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise BaleError(f"{spec}: {place} has no {name}; there are {', '.join(there) or 'no functions or classes'}")
        found = getattr(found, part)
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise BaleError(f"{spec}: is a {type(found).__name__}; expected a module, or a function that returns one")
        found = found()
    if not isinstance(found, nn.Module):
        raise BaleError(f"{spec}: returned a {type(found).__name__}; expected a module (torch.nn.Module)")
    return found


def _from_file(spec: str, path: Path) -> ModuleType:
    """Run a file as a module; what lies beside it can be imported, as when Python runs it."""
    if not path.is_file():
        raise BaleError(f"{spec}: no such file {path}")
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None and found.loader is not None  # its name ends in .py
    module = importlib.util.module_from_spec(found)
    beside = str(path.resolve().parent)
    sys.path.insert(0, beside)
    try:
        found.loader.exec_module(module)
    finally:
        sys.path.remove(beside)
    return module


def _from_package(spec: str, name: str) -> ModuleType:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise BaleError(f"{spec}: no module {error.name} here ({here}) or installed") from error
        raise  # one that the user's module imports
    finally:
        sys.path.remove(here)


def _check_takes(spec: str, model: nn.Module, images: Images) -> None:
    """Find out now, not after an hour, that a network does not take the images or has no logit for a class."""
    shape = list(images.images.shape[1:])
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            logits = model(images[:2].pixels())
    except Exception as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        raise BaleError(
            f"{spec}: fails on images [2, {', '.join(map(str, shape))}] of {images.name}: {problem}"
        ) from error
    finally:
        for module in training:
            module.training = True
    many = len(images.classes)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != 2 or logits.shape[1] < many:
        got = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise BaleError(f"{spec}: returned {got} for 2 images of {images.name}; expected logits [2, {many}]")
