"""Millimetres, affines and Hounsfield units; no torch in here."""

from spinect.geometry.grid import Grid
from spinect.geometry.landmarks import Landmarks, centres_of_mass
from spinect.geometry.resample import average_mask, resample, to_iso
from spinect.geometry.volume import Volume

__all__ = [
    "Grid",
    "Landmarks",
    "Volume",
    "average_mask",
    "centres_of_mass",
    "resample",
    "to_iso",
]
