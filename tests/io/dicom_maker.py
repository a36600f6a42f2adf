"""Real DICOM files, small, written by pydicom: series with any order, slopes and frames."""

from dataclasses import dataclass, field

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"


@dataclass
class Stack:
    """What a test wants of a series; positions and directions in DICOM's LPS+."""

    modality: str
    description: str
    stored: np.ndarray  # (columns, rows, slices), stored values in order of position
    origin: tuple = (0.0, 0.0, 0.0)
    columns: tuple = (1.0, 0.0, 0.0)
    rows: tuple = (0.0, 1.0, 0.0)
    spacing: tuple = (1.0, 1.0, 3.0)  # along columns, rows, slices
    slope: object = 1.0  # or one per slice
    intercept: float = 0.0
    frame: str = "1.2.3.1"
    numbering: object = None  # instance number per slice
    extra: dict = field(default_factory=dict)


def file_of(uid_class, patient="P"):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = uid_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID = uid_class
    file.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    file.PatientID, file.PatientName = patient, "phantom"
    return file


def write_stack(stack, folder, start=0):
    """One file per slice, flat in `folder`, named by number only."""
    folder.mkdir(parents=True, exist_ok=True)
    uid, count = generate_uid(), stack.stored.shape[2]
    normal = np.cross(stack.columns, stack.rows)
    numbers = stack.numbering or range(1, count + 1)
    slopes = np.broadcast_to(stack.slope, count)
    paths = []
    for i, number in enumerate(numbers):
        file = file_of(CTImageStorage if stack.modality == "CT" else MRImageStorage)
        file.Modality, file.SeriesDescription = stack.modality, stack.description
        file.SeriesInstanceUID, file.FrameOfReferenceUID = uid, stack.frame
        file.InstanceNumber = int(number)
        place = np.array(stack.origin) + i * stack.spacing[2] * normal
        file.ImagePositionPatient = [float(v) for v in place]
        file.ImageOrientationPatient = [*map(float, stack.columns), *map(float, stack.rows)]
        file.PixelSpacing = [float(stack.spacing[1]), float(stack.spacing[0])]
        file.SliceThickness = float(stack.spacing[2])
        file.Rows, file.Columns = stack.stored.shape[1], stack.stored.shape[0]
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.BitsAllocated, file.BitsStored, file.HighBit = 16, 16, 15
        file.PixelRepresentation = 1
        file.RescaleSlope, file.RescaleIntercept = float(slopes[i]), float(stack.intercept)
        for key, value in stack.extra.items():
            setattr(file, key, value)
        file.PixelData = np.ascontiguousarray(stack.stored[:, :, i].T.astype("<i2")).tobytes()
        path = folder / f"{start + int(number):05d}.dcm"
        file.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def write_structures(path, regions, frame="1.2.3.1", label="consensus", kind="CLOSED_PLANAR"):
    """Regions: name -> list of (N, 3) contours in LPS+, mm."""
    file = file_of(RTSTRUCT)
    file.Modality, file.StructureSetLabel = "RTSTRUCT", label
    file.SeriesInstanceUID = generate_uid()
    defined, drawn = [], []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        defined.append(roi)
        entry = Dataset()
        entry.ReferencedROINumber = number
        items = []
        for contour in contours:
            item = Dataset()
            item.ContourGeometricType = kind
            item.NumberOfContourPoints = len(contour)
            item.ContourData = [f"{v:.4f}" for v in np.ravel(contour)]
            items.append(item)
        entry.ContourSequence = pydicom.Sequence(items)
        drawn.append(entry)
    file.StructureSetROISequence = pydicom.Sequence(defined)
    file.ROIContourSequence = pydicom.Sequence(drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)
    return path
