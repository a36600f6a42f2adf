"""Whole recipes from volumes to tidy values, each a function that returns `list[Value]`."""
