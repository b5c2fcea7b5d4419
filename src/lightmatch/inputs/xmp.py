"""The XMP packet of a photo."""

from __future__ import annotations

from PIL import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

_XMP_TAG = 700  # of TIFF


def xmp_packet(picture: ImageFile.ImageFile) -> str:
    """The text of an opened photo's XMP packet; "" where it has none."""
    packet = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or b""
    if not packet and isinstance(picture, TiffImageFile):
        packet = picture.tag_v2.get(_XMP_TAG, b"")
    return packet.decode("utf-8", "replace") if isinstance(packet, bytes) else str(packet)
