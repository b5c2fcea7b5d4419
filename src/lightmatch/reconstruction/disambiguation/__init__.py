"""Matches between places that look alike and are not the same."""
