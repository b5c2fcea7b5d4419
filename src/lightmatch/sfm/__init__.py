"""Structure from motion: tracks, triangulation, bundle adjustment, absolute pose, undistortion, trajectories."""
