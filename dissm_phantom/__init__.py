"""Synthetic abdominal CTs with a known liver: anatomy (labels), appearance (HU), scanner (what would be stored)."""

from dissm_phantom.anatomy import Anatomy, build_anatomy
from dissm_phantom.appearance import Appearance, Phase
from dissm_phantom.appearance_randomisation import randomise_appearance
from dissm_phantom.diaphragm import with_diaphragm
from dissm_phantom.lesions import with_lesions
from dissm_phantom.rendering import render_hu
from dissm_phantom.scan_traits import SCAN_TRAITS, ScanTraits, draw_scan_traits
from dissm_phantom.scanner import Phantom, ScanProtocol, content_hash, scan
from dissm_phantom.tissue import LIVER_TISSUES, Tissue, is_liver
from dissm_phantom.trait_rendering import render_hu_with_traits
from dissm_phantom.variants import head, without_liver
from dissm_phantom.variety import LIVER_SHAPES, Trait, Variety, trait_generator

__all__ = [
    "LIVER_SHAPES",
    "LIVER_TISSUES",
    "SCAN_TRAITS",
    "Anatomy",
    "Appearance",
    "Phantom",
    "Phase",
    "ScanProtocol",
    "ScanTraits",
    "Tissue",
    "Trait",
    "Variety",
    "build_anatomy",
    "content_hash",
    "draw_scan_traits",
    "head",
    "is_liver",
    "randomise_appearance",
    "render_hu",
    "render_hu_with_traits",
    "scan",
    "trait_generator",
    "with_diaphragm",
    "with_lesions",
    "without_liver",
]
