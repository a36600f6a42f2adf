"""The segmenter that ships with the package: a network on a CT, synthetic or real."""

from spinect.bundle import Bundle
from spinect.geometry import Grid, Volume
from spinect.inference import predict_masks
from spinect.inference.compute import Precision
from spinect.inference.translate import Device
from spinect.inference.walk import Progress
from spinect.segmentation.direct import segment_heads
from spinect.segmentation.result import Segmentation


def segment_ct(
    ct: Volume,
    bundle: Bundle,
    *,
    precision: Precision = "auto",
    max_memory: int = 6 * 2**30,
    device: Device = "auto",
    lowest: int | None = None,
    highest: int | None = None,
    single_sacrum: bool = False,
    progress: Progress | None = None,
    region: Grid | None = None,
) -> Segmentation:
    """Vertebrae and subregions of a CT.

    Args:
        ct: HU, any grid and orientation.
        bundle: A segmenter, such as the shipped "vertebrae".
        precision, max_memory, device, progress, region: As `inference.translate`.
        lowest, highest, single_sacrum: As `segment_heads`.
    Returns:
        Label maps on the bundle's isotropic grid.
    Raises:
        BundleError: The bundle lacks a mask head.
        ImageError: The volume is not a CT, or constant.
        ResourceError: One tile does not fit into `max_memory`.
    """
    masks = predict_masks(
        ct,
        bundle,
        precision=precision,
        max_memory=max_memory,
        device=device,
        progress=progress,
        region=region,
    )
    return segment_heads(masks, ct, lowest=lowest, highest=highest, single_sacrum=single_sacrum)
