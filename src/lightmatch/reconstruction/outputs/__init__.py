"""Outputs: a finished model written in the formats of other programs."""
