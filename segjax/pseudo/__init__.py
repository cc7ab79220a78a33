"""Pseudo labels: pools of unlabelled images, their labels by a trained network, and reports of them."""
