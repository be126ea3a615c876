"""Which methods are there?"""

from __future__ import annotations

from typing import Any

from bale.compress.adc_aware import ADCAwareConfig
from bale.compress.block_circulant import BlockCirculantConfig
from bale.compress.config import Config
from bale.compress.magnitude import MagnitudeConfig
from bale.compress.structured import StructuredConfig
from bale.compress.uniform import UniformQuantConfig
from bale.errors import CompressionError

METHODS: dict[str, type[Config]] = {
    config.method: config
    for config in (BlockCirculantConfig, ADCAwareConfig, StructuredConfig, MagnitudeConfig, UniformQuantConfig)
}


def config_from_dict(given: dict[str, Any]) -> Config:
    """Return the config that `Config.to_dict` made, of whatever method; raises CompressionError for unknown ones."""
    method = given.get("method")
    if method not in METHODS:
        raise CompressionError(f"method: {method!r} is unknown; known are {', '.join(METHODS)}")
    return METHODS[method].from_dict(given)
