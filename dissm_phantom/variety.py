"""How often bodies have which trait: every oddity of a phantom has a name, a share, and can be switched off."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

import numpy as np


class Trait(StrEnum):
    """What a body, its liver or its scan may have beyond the ordinary. The value is what recipes and tables say."""

    # The liver's shape; a body has one of them at most.
    LEFT_LOBE_ROUND_SPLEEN = "left lobe reaches round the spleen"
    RIEDEL_LOBE = "Riedel's lobe"
    LARGE_LEFT_LOBE = "small right lobe, large left lobe"
    LARGE_CAUDATE_LOBE = "large caudate lobe"
    DEEP_FISSURES = "deep fissures"
    CIRRHOSIS = "cirrhotic outline"
    RIGHT_RESECTION = "after resection on the right"
    LEFT_RESECTION = "after resection on the left"
    VERY_LARGE_LIVER = "very large liver"
    VERY_SMALL_LIVER = "very small liver"
    # Where the liver lies, and its neighbours.
    LOW_LIVER = "low-lying liver"
    MASS_BESIDE_LIVER = "mass beside the liver"
    SPLENOMEGALY = "splenomegaly"
    ENCLOSED_VENA_CAVA = "vena cava enclosed by liver"
    HILAR_FAT = "fat and portal bifurcation at the hilum"
    LARGE_GALLBLADDER = "large gallbladder"
    DENSE_GALLBLADDER = "dense gallbladder"
    GALLSTONES = "gallstones"
    NO_GALLBLADDER = "no gallbladder"
    STOMACH_WITH_FOOD = "stomach with food"
    MUCH_ASCITES = "much ascites"
    PLEURAL_EFFUSION = "pleural effusion"
    ATELECTASIS = "atelectasis at the dome"
    ARMS_DOWN = "arms beside the body"
    # Inside the liver.
    METASTASES = "many metastases"
    POLYCYSTIC_LIVER = "polycystic liver"
    CALCIFIED_LESION = "calcified lesion"
    LIPIODOL = "lipiodol"
    HAEMANGIOMA = "haemangioma at the edge"
    ABSCESS = "abscess"
    ABLATION_ZONE = "ablation zone"
    STEATOSIS = "steatosis"
    HAEMOCHROMATOSIS = "haemochromatosis"
    EARLY_PORTAL = "early portal phase"
    LATE_VENOUS = "late venous phase"
    # Metal and the scan.
    METAL = "catheter, clips or stent"
    PACEMAKER_LEAD = "pacemaker lead"
    LOW_DOSE = "low dose"
    THIN_SLICES = "thin slices"
    THICK_SLICES = "thick slices"
    SHARP_KERNEL = "sharp kernel"
    SOFT_KERNEL = "soft kernel"
    DOME_MOTION = "motion at the dome"
    PRONE = "prone"
    OBLIQUE = "oblique"
    CUT_ABOVE = "scan begins within the liver"
    CUT_BELOW = "scan ends within the liver"


LIVER_SHAPES: tuple[Trait, ...] = tuple(Trait)[:10]
"""Of these a body has one at most."""

SIZES: tuple[Trait, ...] = (Trait.VERY_LARGE_LIVER, Trait.VERY_SMALL_LIVER)
"""Shapes that are the same liver in another size."""

_FOURTH_EDITION: Mapping[Trait, float] = MappingProxyType(
    {
        Trait.LEFT_LOBE_ROUND_SPLEEN: 0.08,
        Trait.RIEDEL_LOBE: 0.06,
        Trait.LARGE_LEFT_LOBE: 0.06,
        Trait.LARGE_CAUDATE_LOBE: 0.05,
        Trait.DEEP_FISSURES: 0.08,
        Trait.CIRRHOSIS: 0.08,
        Trait.RIGHT_RESECTION: 0.03,
        Trait.LEFT_RESECTION: 0.03,
        Trait.VERY_LARGE_LIVER: 0.05,
        Trait.VERY_SMALL_LIVER: 0.04,
        Trait.LOW_LIVER: 0.06,
        Trait.MASS_BESIDE_LIVER: 0.22,
        Trait.SPLENOMEGALY: 0.12,
        Trait.ENCLOSED_VENA_CAVA: 0.2,
        Trait.HILAR_FAT: 0.35,
        Trait.LARGE_GALLBLADDER: 0.12,
        Trait.DENSE_GALLBLADDER: 0.08,
        Trait.GALLSTONES: 0.08,
        Trait.NO_GALLBLADDER: 0.1,
        Trait.STOMACH_WITH_FOOD: 0.25,
        Trait.MUCH_ASCITES: 0.08,
        Trait.PLEURAL_EFFUSION: 0.12,
        Trait.ATELECTASIS: 0.12,
        Trait.ARMS_DOWN: 0.08,
        Trait.METASTASES: 0.1,
        Trait.POLYCYSTIC_LIVER: 0.04,
        Trait.CALCIFIED_LESION: 0.06,
        Trait.LIPIODOL: 0.04,
        Trait.HAEMANGIOMA: 0.06,
        Trait.ABSCESS: 0.04,
        Trait.ABLATION_ZONE: 0.05,
        Trait.STEATOSIS: 0.12,
        Trait.HAEMOCHROMATOSIS: 0.03,
        Trait.EARLY_PORTAL: 0.12,
        Trait.LATE_VENOUS: 0.12,
        Trait.METAL: 0.06,
        Trait.PACEMAKER_LEAD: 0.03,
        Trait.LOW_DOSE: 0.12,
        Trait.THIN_SLICES: 0.08,
        Trait.THICK_SLICES: 0.1,
        Trait.SHARP_KERNEL: 0.12,
        Trait.SOFT_KERNEL: 0.1,
        Trait.DOME_MOTION: 0.12,
        Trait.PRONE: 0.03,
        Trait.OBLIQUE: 0.04,
        Trait.CUT_ABOVE: 0.06,
        Trait.CUT_BELOW: 0.06,
    }
)


@dataclass(frozen=True)
class Variety:
    """How often every trait is drawn.

    Attributes:
        shares: Probability of each trait; of the liver's shapes they add up to 1 at most. One that is missing is never
            drawn.

    Raises:
        ValueError: A share lies outside 0 to 1, or those of the liver's shapes exceed 1 together.
    """

    shares: Mapping[Trait, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong = [str(trait) for trait, share in self.shares.items() if not 0 <= share <= 1]
        if wrong:
            raise ValueError(f"a share lies between 0 and 1: {', '.join(wrong)}")
        if sum(self.shares.get(trait, 0.0) for trait in LIVER_SHAPES) > 1 + 1e-9:
            raise ValueError("the shares of the liver's shapes exceed 1 together: a liver has one of them at most")

    @staticmethod
    def plain() -> Variety:
        """No trait at all: the bodies of the first three editions, bit for bit."""
        return Variety()

    @staticmethod
    def fourth_edition() -> Variety:
        """What the fourth edition is trained on."""
        return Variety(_FOURTH_EDITION)

    def without(self, *traits: Trait) -> Variety:
        """The same, some traits switched off. Bodies that had none of them stay the same, bit for bit."""
        return Variety({trait: share for trait, share in self.shares.items() if trait not in traits})

    def always(self, *traits: Trait) -> Variety:
        """The same, some traits certain; a certain shape of the liver takes the place of the others."""
        shapes = set(LIVER_SHAPES) if set(traits) & set(LIVER_SHAPES) else set()
        kept = {trait: share for trait, share in self.shares.items() if trait not in shapes}
        return Variety({**kept, **dict.fromkeys(traits, 1.0)})

    def draw(self, seed: int) -> frozenset[Trait]:
        """The traits of the body with this seed."""
        drawn = {
            trait
            for trait, share in self.shares.items()
            if trait not in LIVER_SHAPES and _number(seed, f"has {trait}") < share
        }
        left = _number(seed, "liver shape")
        for trait in LIVER_SHAPES:
            share = self.shares.get(trait, 0.0)
            if 0 <= left < share:
                drawn.add(trait)
            left -= share
        return frozenset(drawn)


def trait_generator(seed: int, trait: Trait) -> np.random.Generator:
    """The generator of everything that one trait of one body draws: no trait changes what another one draws."""
    return np.random.default_rng([seed, _key(trait)])


def _number(seed: int, name: str) -> float:
    return float(np.random.default_rng([seed, _key(name)]).random())


def _key(name: str) -> int:
    return zlib.crc32(name.encode())
