"""Detectors in two parts, expensive features and a cheap head, and how they are trained."""
