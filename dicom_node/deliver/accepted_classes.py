"""What a destination accepts, asked by presentation contexts alone; nothing is sent (PS3.8 7.1.1.13, PS3.7 D.3)."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass

from dicom_node.dicom.association_client import ClientAssociation, RemoteEntity, associate
from dicom_node.settings import Destination

_MAX_CONTEXTS = 128
"""Context ids are the odd numbers of one byte (PS3.8 9.3.2.2)."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectContext:
    """A SOP class in one transfer syntax, by their UIDs."""

    sop_class_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class RefusedContext:
    """A context that the destination did not accept.

    permanent: it would refuse it again. said: why, in words, without patient data.
    """

    context: ObjectContext
    permanent: bool
    said: str


@dataclass(frozen=True, slots=True)
class AcceptedClasses:
    """What a destination answered to the contexts it was asked for.

    accepted: the contexts that it would take objects in. refused: the others. problem: why nothing could be asked, in
    words; None where the destination answered, also where it refused every context.
    """

    accepted: frozenset[ObjectContext] = frozenset()
    refused: tuple[RefusedContext, ...] = ()
    problem: str | None = None

    def takes(self, sop_class_uid: str, transfer_syntax_uid: str) -> bool:
        """Whether objects of this class may be sent in this syntax."""
        return ObjectContext(sop_class_uid, transfer_syntax_uid) in self.accepted

    def syntaxes_of(self, sop_class_uid: str) -> tuple[str, ...]:
        """The accepted transfer syntaxes of a SOP class, sorted; empty where the class is not accepted."""
        return tuple(sorted(one.transfer_syntax_uid for one in self.accepted if one.sop_class_uid == sop_class_uid))

    def refusal_of(self, sop_class_uid: str, transfer_syntax_uid: str) -> RefusedContext | None:
        """Why a context was not accepted; None where it was, or was not asked for."""
        context = ObjectContext(sop_class_uid, transfer_syntax_uid)
        return next((one for one in self.refused if one.context == context), None)


def ask_accepted_classes(to: Destination, contexts: Iterable[ObjectContext]) -> AcceptedClasses:
    """Ask one association of a destination, with one presentation context for each pair, and release it.

    Args:
        to: Whom to ask, as whom, and how long to wait.
        contexts: What to ask for, at most 128 pairs; each is asked by itself, so that a destination cannot answer one
            syntax for another.

    Returns:
        What it accepts. A destination that cannot be reached or rejects the association is a `problem`, no error.

    Raises:
        ValueError: There are none or too many contexts.
    """
    asked = sorted(set(contexts))
    if not 0 < len(asked) <= _MAX_CONTEXTS:
        raise ValueError(f"{len(asked)} presentation contexts: 1 to {_MAX_CONTEXTS} can be asked for")
    peer = RemoteEntity(to.host, to.port, to.ae_title, to.calling_ae_title, to.timeout_seconds)
    try:
        association = associate(peer, [(one.sop_class_uid, one.transfer_syntax_uid) for one in asked])
    except socket.gaierror:
        return AcceptedClasses(problem=f"the name {to.host} cannot be resolved; look at this machine's name service")
    except (OSError, ValueError) as problem:
        return AcceptedClasses(problem=f"it cannot be asked ({type(problem).__name__}); look at host, port and titles")
    with association:
        return _answers(association, asked)


def _answers(association: ClientAssociation, asked: list[ObjectContext]) -> AcceptedClasses:
    if not association.established and not association.contexts_refused:
        rejection = association.rejection
        said = f"the association was {rejection.said}" if rejection else "nobody answers there"
        return AcceptedClasses(problem=said)
    accepted = frozenset(one for one in asked if association.accepts(one.sop_class_uid, one.transfer_syntax_uid))
    refused = [_refused(association, one) for one in asked if one not in accepted]
    return AcceptedClasses(accepted, tuple(refused))


def _refused(association: ClientAssociation, context: ObjectContext) -> RefusedContext:
    refusal = association.refused_context(context.sop_class_uid, context.transfer_syntax_uid)
    if refusal is None:
        return RefusedContext(context, permanent=False, said="not answered")
    return RefusedContext(context, refusal.permanent, refusal.said)
