"""The sixty test phantoms of the fourth edition: which liver, which seed, which traits. Hashes are added by freezing.

Set A is ordinary: twenty bodies with no other traits than those that most patients have. Set B is odd: twenty
categories of two bodies each, every one with the trait that its category is named for. Of either set every third body
is open: it may be looked at while the model is made. The others are judged once, when the edition is finished.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dissm_phantom.variety import Trait
from training.sources.held_out import AMOS_HELD_OUT

EDITION = 4
ORDINARY = "ordinary"
_FIRST_SEED = 4001
_OPEN_EVERY = 3


class PhantomSet(StrEnum):
    """Which requirements a test phantom belongs to."""

    ORDINARY = "A"
    ODD = "B"


@dataclass(frozen=True, slots=True)
class PhantomRecipe:
    """From what a test phantom of the fourth edition is made.

    Attributes:
        name: "A01" to "A20", "B01" to "B40".
        set: A or B.
        category: What is odd about it; "ordinary" in set A.
        liver: Name of the surface, kept out of all training.
        seed: Of body, traits and scan.
        traits: What body and scan have beyond the ordinary, all of it.
        open: Whether it may be looked at before the edition is finished.
    """

    name: str
    set: PhantomSet
    category: str
    liver: str
    seed: int
    traits: tuple[Trait, ...]
    open: bool


_ORDINARY_TRAITS: tuple[tuple[Trait, ...], ...] = (
    (),
    (Trait.HILAR_FAT,),
    (Trait.GALLSTONES,),
    (Trait.HILAR_FAT, Trait.NO_GALLBLADDER),
    (Trait.LARGE_GALLBLADDER,),
)
"""Of set A, in turn."""

_ODD_TRAITS: tuple[tuple[str, tuple[Trait, ...], tuple[Trait, ...]], ...] = (
    ("mass beside the liver", (Trait.MASS_BESIDE_LIVER,), (Trait.MASS_BESIDE_LIVER, Trait.HILAR_FAT)),
    (
        "left lobe round the spleen",
        (Trait.LEFT_LOBE_ROUND_SPLEEN,),
        (Trait.LEFT_LOBE_ROUND_SPLEEN, Trait.MASS_BESIDE_LIVER),
    ),
    ("Riedel's lobe", (Trait.RIEDEL_LOBE,), (Trait.RIEDEL_LOBE, Trait.LOW_LIVER)),
    ("cirrhosis", (Trait.CIRRHOSIS,), (Trait.CIRRHOSIS, Trait.SPLENOMEGALY)),
    ("resection", (Trait.RIGHT_RESECTION,), (Trait.LEFT_RESECTION,)),
    ("splenomegaly", (Trait.SPLENOMEGALY,), (Trait.SPLENOMEGALY, Trait.LARGE_LEFT_LOBE)),
    ("ascites", (Trait.MUCH_ASCITES,), (Trait.MUCH_ASCITES, Trait.VERY_SMALL_LIVER)),
    (
        "effusion and atelectasis",
        (Trait.PLEURAL_EFFUSION, Trait.ATELECTASIS),
        (Trait.PLEURAL_EFFUSION, Trait.ATELECTASIS, Trait.HILAR_FAT),
    ),
    ("polycystic liver", (Trait.POLYCYSTIC_LIVER,), (Trait.POLYCYSTIC_LIVER, Trait.VERY_LARGE_LIVER)),
    ("metastases", (Trait.METASTASES,), (Trait.METASTASES, Trait.ABLATION_ZONE)),
    ("lipiodol or calcified lesion", (Trait.LIPIODOL,), (Trait.CALCIFIED_LESION, Trait.HAEMANGIOMA)),
    ("steatosis", (Trait.STEATOSIS,), (Trait.STEATOSIS, Trait.DENSE_GALLBLADDER)),
    ("stomach with food", (Trait.STOMACH_WITH_FOOD,), (Trait.STOMACH_WITH_FOOD, Trait.LARGE_CAUDATE_LOBE)),
    ("enclosed vena cava", (Trait.ENCLOSED_VENA_CAVA,), (Trait.ENCLOSED_VENA_CAVA, Trait.DEEP_FISSURES)),
    ("metal", (Trait.METAL,), (Trait.PACEMAKER_LEAD, Trait.NO_GALLBLADDER)),
    ("low dose", (Trait.LOW_DOSE,), (Trait.LOW_DOSE, Trait.HAEMOCHROMATOSIS)),
    ("motion at the dome", (Trait.DOME_MOTION,), (Trait.DOME_MOTION, Trait.ABSCESS)),
    ("cut above", (Trait.CUT_ABOVE,), (Trait.CUT_ABOVE, Trait.HILAR_FAT)),
    ("cut below", (Trait.CUT_BELOW,), (Trait.CUT_BELOW, Trait.HILAR_FAT)),
    ("unusual position", (Trait.ARMS_DOWN, Trait.OBLIQUE), (Trait.PRONE,)),
)
"""Of set B: the category, and what its two bodies have."""


def phantom_table() -> tuple[PhantomRecipe, ...]:
    """The sixty recipes, set A before set B, always the same."""
    livers = [f"amos_{number:03d}" for number in sorted(AMOS_HELD_OUT)]
    ordinary = [(ORDINARY, _ORDINARY_TRAITS[n % len(_ORDINARY_TRAITS)]) for n in range(20)]
    odd = [(category, traits) for category, *both in _ODD_TRAITS for traits in both]
    recipes: list[PhantomRecipe] = []
    for which, bodies, open_first in ((PhantomSet.ORDINARY, ordinary, 0), (PhantomSet.ODD, odd, 1)):
        for number, (category, traits) in enumerate(bodies):
            recipes.append(
                PhantomRecipe(
                    name=f"{which}{number + 1:02d}",
                    set=which,
                    category=category,
                    liver=livers[(_STEP_OF_LIVERS[which] * number) % len(livers)],
                    seed=_FIRST_SEED + len(recipes),
                    traits=traits,
                    open=number % _OPEN_EVERY == open_first,
                )
            )
    return tuple(recipes)


_STEP_OF_LIVERS = {PhantomSet.ORDINARY: 1, PhantomSet.ODD: 5}
"""How far apart the livers of neighbouring bodies are among the sorted ones; both steps reach all sixteen."""
