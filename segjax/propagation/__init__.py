"""Propagation of labels to neighbouring frames by optical flow or a video network."""
