"""Landmarks of two scans to transforms, residuals, a field and the CT on the MR's grid."""

from spinect.registration.field import Field, displacement
from spinect.registration.points import match_levels, natural_error
from spinect.registration.polyrigid import fit_polyrigid
from spinect.registration.quality import Quality, quality
from spinect.registration.register import align_centres, register
from spinect.registration.result import PolyrigidFit, Registration, RigidFit
from spinect.registration.rigid import fit_rigid
from spinect.registration.warp import warp

__all__ = [
    "Field",
    "PolyrigidFit",
    "Quality",
    "Registration",
    "RigidFit",
    "align_centres",
    "displacement",
    "fit_polyrigid",
    "fit_rigid",
    "match_levels",
    "natural_error",
    "quality",
    "register",
    "warp",
]
