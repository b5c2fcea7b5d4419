"""Pure functions on points, cameras and two views: tensors in, tensors out, any leading batch.

coordinates: pixels, cameras, rigid motions · homography: planes · epipolar: two calibrated or
uncalibrated views · depth: images with depth maps · robust: the same models among outliers.
"""
