"""The examples in the docstrings say what happens."""

import doctest
import importlib
import pkgutil

import pytest

import bale.train

MODULES = [module.name for module in pkgutil.iter_modules(bale.train.__path__, "bale.train.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
