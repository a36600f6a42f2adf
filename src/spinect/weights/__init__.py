"""The shipped bundles: one folder per model, read through ``spinect.card``."""
