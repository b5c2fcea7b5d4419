"""The networks: plain tensors in, plain tensors out. Values and files are the matchers' business."""
