"""Verified matches → models: model selection by held-out observations, cleaning, merging."""
