"""Submissions to evaluation servers: their rules, and archives that are made, checked and scored."""
