"""Labels of the phantom's tissues."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.uint8]


class Tissue(IntEnum):
    """What a voxel of a phantom is made of (uint8). Everything from LIVER to CYST belongs to the liver's truth.

    The numbers are stored with the bodies: a new tissue goes to the end.
    """

    AIR = 0
    FAT = 1
    SKIN = 2
    MUSCLE = 3
    BONE_CORTEX = 4
    BONE_MARROW = 5
    CARTILAGE = 6
    DISC = 7
    SPINAL_CANAL = 8
    LUNG = 9
    LUNG_VESSEL = 10
    ATELECTASIS = 11
    EFFUSION = 12
    DIAPHRAGM = 13
    HEART_BLOOD = 14
    MYOCARDIUM = 15
    AORTA = 16
    IVC = 17
    PORTAL_TRUNK = 18
    SMALL_VESSEL = 19
    SPLEEN = 20
    KIDNEY_CORTEX = 21
    KIDNEY_MEDULLA = 22
    RENAL_PELVIS = 23
    ADRENAL = 24
    PANCREAS = 25
    GALLBLADDER = 26
    STOMACH_WALL = 27
    STOMACH_CONTENT = 28
    STOMACH_CONTRAST = 29
    BOWEL_WALL = 30
    BOWEL_CONTENT = 31
    BOWEL_CONTRAST = 32
    STOOL = 33
    GUT_GAS = 34
    ASCITES = 35
    URINE = 36
    COUCH = 37
    INTERCOSTAL = 38
    BRAIN = 39
    LIVER = 40
    HEPATIC_VEIN = 41
    PORTAL_BRANCH = 42
    LESION_HYPO = 43
    LESION_HYPER = 44
    LESION_RIM = 45
    LIPIODOL = 46
    CYST = 47
    MASS = 48
    MASS_WALL = 49
    MASS_CORE = 50
    DENSE_BILE = 51
    GALLSTONE = 52
    GALLSTONE_RIM = 53
    FOOD = 54
    FATTY_FOOD = 55
    COLLAPSED_LUNG = 56
    CLIP = 57


LIVER_TISSUES = tuple(Tissue(value) for value in range(Tissue.LIVER, Tissue.CYST + 1))


def is_liver(labels: Labels) -> npt.NDArray[np.bool_]:
    """True where a label belongs to the liver: parenchyma, its vessels and its lesions."""
    return (labels >= Tissue.LIVER) & (labels <= Tissue.CYST)
