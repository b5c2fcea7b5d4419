"""What is known beforehand: intrinsics, poses, cameras fixed to each other."""
