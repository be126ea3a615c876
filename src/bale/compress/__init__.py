"""Smaller models: one verb, `compress_`, and one config for each method."""
