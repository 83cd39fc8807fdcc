"""What each destination accepts of what the node makes, and what it could be given (`dissm-node probe`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    KeyObjectSelectionDocumentStorage,
    RLELossless,
)

from dicom_node.deliver.accepted_classes import AcceptedClasses, ObjectContext, ask_accepted_classes
from dicom_node.deliver.stow_client import ask_web_service
from dicom_node.settings import AnyDestination, WebDestination
from dicom_node.values.object_kinds import OBJECT_KINDS, PROFILES
from dicom_node.values.results import ObjectKind
from dissm_engine.json_value import JsonValue

SYNTAX_OF_OBJECTS = ExplicitVRLittleEndian
"""What every object is written, and sent, in."""
_OTHER_SYNTAXES = (ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless)
"""Asked for beside, so that the table tells a class that is unknown from one that is taken in other syntaxes only."""
_SOP_CLASSES = {kind: facts.sop_class_uid for kind, facts in OBJECT_KINDS.items()} | {
    ObjectKind.REJECTION_NOTE: str(KeyObjectSelectionDocumentStorage)
}


@dataclass(frozen=True, slots=True)
class ProbedKind:
    """One kind of object at one destination.

    wanted: the settings send it there. accepted: None where that cannot be asked. why_not: in words.
    other_syntaxes: by name, in which the class is accepted beside ours.
    """

    kind: ObjectKind
    wanted: bool
    accepted: bool | None
    why_not: str = ""
    other_syntaxes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, JsonValue]:
        """For `--json`."""
        return {
            "kind": self.kind.value,
            "sop_class_uid": _SOP_CLASSES[self.kind],
            "wanted": self.wanted,
            "accepted": self.accepted,
            "why_not": self.why_not,
            "other_syntaxes": list(self.other_syntaxes),
        }


@dataclass(frozen=True, slots=True)
class ProbedDestination:
    """What one destination answered.

    problem: why nothing could be asked; None where it answered. kinds: empty where it did not.
    proposal: profiles and kinds for `objects`, everything that it accepts; empty where that is unknown or nothing.
    """

    name: str
    by_web: bool
    problem: str | None
    kinds: tuple[ProbedKind, ...] = ()
    proposal: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether it answered, and refuses nothing that it is to get."""
        return self.problem is None and not any(one.wanted and one.accepted is False for one in self.kinds)

    def to_json(self) -> dict[str, JsonValue]:
        """For `--json`."""
        return {
            "destination": self.name,
            "way": "DICOMweb" if self.by_web else "C-STORE",
            "problem": self.problem,
            "kinds": [one.to_json() for one in self.kinds],
            "proposal": list(self.proposal),
        }


def probe(to: AnyDestination) -> ProbedDestination:
    """Ask one destination what it accepts; nothing is stored there.

    A Storage SCP is asked over one association with a presentation context for each SOP class and transfer syntax. A
    DICOMweb service need not say beforehand what it stores (Retrieve Capabilities, PS3.18 8.9, is optional and names no
    SOP classes): only whether it answers and lets us in is asked, and `accepted` is None.
    """
    if isinstance(to, WebDestination):
        problem = ask_web_service(to)
        unknown = tuple(ProbedKind(kind, _wanted(to, kind), None) for kind in _SOP_CLASSES)
        return ProbedDestination(to.name, True, problem, () if problem else unknown)
    syntaxes = (SYNTAX_OF_OBJECTS, *_OTHER_SYNTAXES)
    contexts = [ObjectContext(uid, str(syntax)) for uid in _SOP_CLASSES.values() for syntax in syntaxes]
    found = ask_accepted_classes(to, contexts)
    if found.problem is not None:
        return ProbedDestination(to.name, False, found.problem)
    kinds = tuple(_probed(found, kind, _wanted(to, kind)) for kind in _SOP_CLASSES)
    return ProbedDestination(to.name, False, None, kinds, propose([one.kind for one in kinds if one.accepted]))


def propose(accepted: Collection[ObjectKind]) -> tuple[str, ...]:
    """The largest profile of which everything is accepted, and what is accepted beside it, as `objects` takes them.

    Examples:
        >>> propose([ObjectKind.SEG, ObjectKind.SR, ObjectKind.CAPTURE])
        ('viewer-seg', 'capture')
    """
    made = {kind for kind in accepted if kind in OBJECT_KINDS}
    fitting = {name: kinds for name, kinds in PROFILES.items() if made.issuperset(kinds)}
    largest = max(fitting, key=lambda name: len(fitting[name]), default=None)
    covered: Sequence[ObjectKind] = fitting[largest] if largest is not None else ()
    beside = tuple(kind.value for kind in OBJECT_KINDS if kind in made and kind not in covered)
    return beside if largest is None else (largest, *beside)


def _wanted(to: AnyDestination, kind: ObjectKind) -> bool:
    noted = kind is ObjectKind.REJECTION_NOTE and to.replaced_results == "key-object"
    return noted or kind in to.objects


def _probed(found: AcceptedClasses, kind: ObjectKind, wanted: bool) -> ProbedKind:
    uid = _SOP_CLASSES[kind]
    taken = found.syntaxes_of(uid)
    others = tuple(UID(one).name for one in taken if one != SYNTAX_OF_OBJECTS)
    refusal = found.refusal_of(uid, SYNTAX_OF_OBJECTS)
    return ProbedKind(kind, wanted, found.takes(uid, SYNTAX_OF_OBJECTS), refusal.said if refusal else "", others)
