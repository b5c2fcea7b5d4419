"""Training from scratch: views with ground truth, labels, losses, the training loop.

Needs torch, numpy, OpenCV, pillow, safetensors and cattrs, and nothing else.
"""
