"""Diagnostics of a run: its numbers, why photos were left out, what to photograph next."""
