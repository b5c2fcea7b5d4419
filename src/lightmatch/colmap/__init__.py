"""COLMAP: its databases, models, cameras, options and log; the only owner of its ids and its half pixel."""
