"""Which methods are there?"""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

from bale.compress.adc_aware import ADCAwareConfig
from bale.compress.block_circulant import BlockCirculantConfig
from bale.compress.communication import CommunicationAwareConfig
from bale.compress.config import Config
from bale.compress.magnitude import MagnitudeConfig
from bale.compress.smartdeal import SmartDealConfig
from bale.compress.structured import StructuredConfig
from bale.compress.uniform import UniformQuantConfig
from bale.errors import CompressionError

METHODS: dict[str, type[Config]] = {
    config.method: config
    for config in (
        BlockCirculantConfig,
        ADCAwareConfig,
        CommunicationAwareConfig,
        SmartDealConfig,
        StructuredConfig,
        MagnitudeConfig,
        UniformQuantConfig,
    )
}


def config_from_dict(given: dict[str, Any]) -> Config:
    """Return the config that `Config.to_dict` made, of whatever method; raises CompressionError for unknown ones."""
    method = given.get("method") if isinstance(given, dict) else given
    if not isinstance(method, str) or method not in METHODS:
        raise CompressionError(f"method: {method!r} is unknown; known are {', '.join(METHODS)}")
    return METHODS[method].from_dict(given)


def parse_config(text: str) -> Config:
    """Return the config that a text means: METHOD, or METHOD:FIELD=VALUE,FIELD=VALUE.

    Raises CompressionError for unknown methods and fields, and for values of another kind or out of range.

    >>> parse_config("adc-aware:adc_bits=4,rows=64").most
    5
    """
    method, _, listed = text.partition(":")
    given: dict[str, Any] = {"method": method}
    kinds = get_type_hints(METHODS[method]) if method in METHODS else {}
    for each in filter(None, listed.split(",")):
        field, equals, value = each.partition("=")
        if not equals:
            raise CompressionError(f"{method}.{each}: expected FIELD=VALUE")
        if field.strip() in given:
            raise CompressionError(f"{method}.{field.strip()}: is given twice")
        given[field.strip()] = _value(value.strip(), get_args(kinds.get(field.strip())))
    return config_from_dict(given)


def _value(text: str, words: tuple[Any, ...]) -> int | float | str | None:
    """A number; one of the words that a field knows, "none" among them; or None, for "none" of other fields."""
    if text in words:
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None if text == "none" else text
