"""Archives for evaluation servers: made, checked, scored."""
