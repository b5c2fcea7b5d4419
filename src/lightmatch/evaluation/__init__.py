"""Evaluation that can be trusted: data with ground truth, predictions, scores, tables."""
