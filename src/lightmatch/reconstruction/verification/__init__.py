"""Checks of verified matches before mapping: undeclared fisheye lenses, and image points that never move."""
