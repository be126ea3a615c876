"""Identifiers come apart at underscores and capitals, and nothing is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.data import name_words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("get", ["get"]),
        ("get_value", ["get", "value"]),
        ("__get__value_", ["get", "value"]),
        ("getValue", ["get", "value"]),
        ("GetValue", ["get", "value"]),
        ("getHTTPResponse", ["get", "http", "response"]),
        ("HTTPServer", ["http", "server"]),
        ("do_GET", ["do", "get"]),
        ("toJSON", ["to", "json"]),
        ("isA", ["is", "a"]),
        ("b64encode", ["b64", "encode"]),
        ("utf_16_le", ["utf", "16", "le"]),
        ("größe", ["gr", "öß", "e"]),
        ("_", []),
    ],
)
def test_words(name, words):
    assert name_words(name) == words


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True) | st.text("abYZ09_éЖ中"))
def test_the_words_hold_every_character_but_underscores(name):
    assert "".join(name_words(name)) == name.replace("_", "").lower()
    assert all(name_words(name))
