"""Recipes as settings: strict keys, choices by name, durations, recipe files."""
