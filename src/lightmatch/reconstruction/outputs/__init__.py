"""A finished model → files for other programs."""
