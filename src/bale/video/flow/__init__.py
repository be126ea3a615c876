"""Optical flow: estimators, their training on exact synthetic flow."""
