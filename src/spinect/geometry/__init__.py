"""Millimetres, affines and Hounsfield units; no torch in here."""

from spinect.geometry.grid import Grid
from spinect.geometry.volume import Volume

__all__ = ["Grid", "Volume"]
