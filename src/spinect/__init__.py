"""spinect: spine MR to synthetic CT in Hounsfield units and vertebra masks."""

__version__ = "0.1.0"
