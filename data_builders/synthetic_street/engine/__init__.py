"""Draws scenes: textured rectangles on moving bodies, a camera, a z-buffer, shading and exact optical flow."""
