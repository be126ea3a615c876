"""Convolutions on a part of a picture: masks, an index layer, tiles gathered, convolved and scattered back."""
