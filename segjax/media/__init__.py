"""Frames in and pictures out: clips of images and videos, batches of frames, PNG and video writers, archives."""
