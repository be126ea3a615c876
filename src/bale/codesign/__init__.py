"""Codesign: networks and chips in turn, where one depends on the other."""

from bale.codesign.communication import chip_traffic, with_traffic
from bale.codesign.placing import PlacedNetwork, Round, place_and_prune

__all__ = ["PlacedNetwork", "Round", "chip_traffic", "place_and_prune", "with_traffic"]
