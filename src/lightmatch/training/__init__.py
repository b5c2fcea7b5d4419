"""Training from scratch: views with ground truth, labels, losses, the training loop.

Needs torch, numpy, OpenCV, pillow and safetensors, and nothing else.
"""
