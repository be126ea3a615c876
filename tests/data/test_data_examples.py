"""The examples in the docstrings say what happens."""

import doctest
import importlib
import pkgutil

import pytest

import bale.data

MODULES = [module.name for module in pkgutil.iter_modules(bale.data.__path__, "bale.data.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
