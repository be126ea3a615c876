"""Codesign: networks and chips in turn, where one depends on the other."""

from bale.codesign.communication import chip_traffic, with_traffic

__all__ = ["chip_traffic", "with_traffic"]
