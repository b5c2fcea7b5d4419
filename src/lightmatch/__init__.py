"""lightmatch."""
