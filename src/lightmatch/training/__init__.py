"""Training from nothing: views with truth, labels, losses, the loop.

Needs torch, numpy, OpenCV, pillow and safetensors, and nothing else.
"""
