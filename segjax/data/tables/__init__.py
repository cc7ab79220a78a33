"""One file per data set: its published labels."""
