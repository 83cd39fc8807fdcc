"""Synthetic abdominal CTs with a known liver: anatomy (labels), appearance (HU), scanner (what would be stored)."""

from dissm_engine.phantom.anatomy import Anatomy, build_anatomy
from dissm_engine.phantom.appearance import Appearance, Phase
from dissm_engine.phantom.breadth import broadened
from dissm_engine.phantom.diaphragm import with_diaphragm
from dissm_engine.phantom.lesions import with_lesions
from dissm_engine.phantom.paint import paint
from dissm_engine.phantom.scanner import Phantom, ScanProtocol, content_hash, scan
from dissm_engine.phantom.tissue import LIVER_TISSUES, Tissue, is_liver
from dissm_engine.phantom.variants import head, without_liver

__all__ = [
    "LIVER_TISSUES",
    "Anatomy",
    "Appearance",
    "Phantom",
    "Phase",
    "ScanProtocol",
    "Tissue",
    "broadened",
    "build_anatomy",
    "content_hash",
    "head",
    "is_liver",
    "paint",
    "scan",
    "with_diaphragm",
    "with_lesions",
    "without_liver",
]
