"""Verified matches → models: several ways tried, judged by tracks they have not seen, cleaned and merged."""
