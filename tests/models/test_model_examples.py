"""The examples in the docstrings say what happens."""

import doctest
import importlib
import pkgutil

import pytest

import bale.models

MODULES = [module.name for module in pkgutil.iter_modules(bale.models.__path__, "bale.models.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
