"""The embedded default: a procedural street video with exact labels and exact optical flow."""
