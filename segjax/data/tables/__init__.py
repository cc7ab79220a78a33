"""One file per dataset: its published labels."""
