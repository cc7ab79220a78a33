"""Frames in and pictures out: clips of images and videos, batches of frames, masks, PNG and video files, archives."""
