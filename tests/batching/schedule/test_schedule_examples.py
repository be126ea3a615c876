"""The examples in the docstrings of schedules and policies do what they say."""

import doctest
import importlib
import pkgutil

import pytest

import bale.batching.schedule

MODULES = [module.name for module in pkgutil.iter_modules(bale.batching.schedule.__path__, "bale.batching.schedule.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
