"""Traits of one use of a body: what lies in its liver, how it looks and how it is scanned are drawn anew each time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dissm_phantom.variety import Trait, Variety, trait_generator

_ORDER = tuple(Trait)
SCAN_TRAITS: frozenset[Trait] = frozenset(_ORDER[_ORDER.index(Trait.METASTASES) : _ORDER.index(Trait.OBLIQUE) + 1])
"""Lesions, appearance, metal and scan: they leave the body's organs and the liver's surface as they are."""


@dataclass(frozen=True)
class ScanTraits:
    """Which traits a use of a body has, and the seed of what each of them draws.

    Attributes:
        traits: Any traits; those that are not in `SCAN_TRAITS` have no effect on a use.
        seed: Of everything that the traits draw.
    """

    traits: frozenset[Trait] = frozenset()
    seed: int = 0

    @staticmethod
    def draw(variety: Variety, rng: np.random.Generator) -> ScanTraits:
        """Traits of a new use. The stream of `rng` is left as it is: they come from a generator that it spawns."""
        if not variety.shares:
            return ScanTraits()
        own = rng.spawn(1)[0]
        return ScanTraits(draw_scan_traits(variety, own), int(own.integers(2**62)))

    def __contains__(self, trait: Trait) -> bool:
        return trait in self.traits

    def __bool__(self) -> bool:
        return bool(self.traits & SCAN_TRAITS)

    def generator(self, trait: Trait) -> np.random.Generator:
        """The generator of what one trait draws: no trait changes what another one draws."""
        return trait_generator(self.seed, trait)


def draw_scan_traits(variety: Variety, rng: np.random.Generator) -> frozenset[Trait]:
    """Those of `SCAN_TRAITS` that one use of a body has, by the shares of a variety."""
    return variety.draw(int(rng.integers(2**62))) & SCAN_TRAITS
