"""What happens to cases whose images were withdrawn by their source, or came under another patient.

Nothing of them is sent any more, and what was sent is named for a person to delete: a result never stands silently for
the wrong patient.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import func, select

from dicom_node.catalog import audit
from dicom_node.catalog.audit import AuditEvent, SubjectKind
from dicom_node.catalog.choices import CHOICE_RULE, study_has_choice
from dicom_node.catalog.database import Transaction
from dicom_node.catalog.leases import end_lease
from dicom_node.catalog.lookup_key import same_key
from dicom_node.catalog.states import CASE_TRANSITIONS, CaseEvent, SeriesEvent, SeriesState
from dicom_node.catalog.tables import Case, Instance, RejectedImage, Series, Stack, StackImage
from dicom_node.catalog.transitions import advance_case, advance_series
from dicom_node.reasons import NOT_CHOSEN, OTHER_PATIENT, SOURCE_REJECTED
from dicom_node.values.received import InstanceIdentity, RejectionNote
from dicom_node.values.recorded_reason import RecordedReason
from dissm_engine.json_value import JsonValue

REJECTION_TITLES = {
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    "113039": "Data Retention Policy Expired",
}
"""Titles of key object selections that withdraw images (PS3.16 CID 7011, IHE RAD TF-2 4.66)."""
INVALID_CODES = frozenset({OTHER_PATIENT.code, SOURCE_REJECTED.code})
_AT_ONCE = 500


def note_other_patient(tx: Transaction, series: Series, identity: InstanceIdentity) -> None:
    """Compare the patient of an image that joins a series with the series' own; once they differ, none of it is used.

    Only PatientID is compared, and only where both have one: a name that is spelt otherwise is no other patient.
    """
    known, came = series.patient_digest, identity.patient_digest
    if series.invalid_code or not known or not came or not same_key(known, came) or known == came:
        return
    series.invalid_code = OTHER_PATIENT.code
    _append(tx, AuditEvent.OTHER_PATIENT, series, OTHER_PATIENT.code, {"sop_instance_uid": identity.sop_instance_uid})
    _invalidate(tx, series, series.stacks, RecordedReason(OTHER_PATIENT.code))


def record_rejection(tx: Transaction, note: RejectionNote, digest: str) -> int:
    """Withdraw the images that a note names, also those that come later; how many it names that were not known yet.

    digest: SHA-256 (hex) of the note, which lies in the spool.
    """
    known = set(tx.session.scalars(select(RejectedImage.sop_instance_uid).filter_by(note_uid=note.sop_instance_uid)))
    new = [(series, image) for series, image in dict.fromkeys(note.images) if image not in known]
    now = audit.utc_now()
    tx.session.add_all(
        RejectedImage(
            sop_instance_uid=image,
            series_instance_uid=series,
            code=note.code,
            note_uid=note.sop_instance_uid,
            received_at=now,
        )
        for series, image in new
    )
    tx.session.flush()
    rejected = {image for _, image in new}
    for uid in sorted({series for series, _ in new}):
        series_row = tx.session.scalar(select(Series).where(Series.series_instance_uid == uid))
        facts: dict[str, JsonValue] = {"note": note.sop_instance_uid, "digest": digest, "code": note.code}
        facts |= {"title": REJECTION_TITLES[note.code], "images": sum(series == uid for series, _ in new)}
        if series_row is None:
            audit.append(tx, AuditEvent.REJECTION_NOTE, SubjectKind.SERIES, uid, facts=facts)
            continue
        _append(tx, AuditEvent.REJECTION_NOTE, series_row, SOURCE_REJECTED.code, facts)
        _reject_stacks(tx, series_row, note.code, rejected)
    return len(new)


def _reject_stacks(tx: Transaction, series: Series, code: str, rejected: Collection[str]) -> None:
    """Also those of earlier revisions: a late image may have reopened the series."""
    for stack in series.stacks:
        count = sum(
            tx.session.scalar(
                select(func.count())
                .select_from(StackImage)
                .join(Instance, StackImage.instance_id == Instance.id)
                .where(StackImage.stack_id == stack.id, Instance.sop_instance_uid.in_(some))
            )
            or 0
            for some in _batches(sorted(rejected))
        )
        if count:
            _invalidate(tx, series, [stack], rejection_reason(code, count))


def rejection_reason(code: str, count: int) -> RecordedReason:
    """Why a stack with so many withdrawn images is not used."""
    return RecordedReason(SOURCE_REJECTED.code, {"count": count, "code": code, "title": REJECTION_TITLES[code]})


def _invalidate(tx: Transaction, series: Series, stacks: Sequence[Stack], reason: RecordedReason) -> None:
    """The stacks' decisions, the cases of their images, and the series, where nothing of it is admitted any more.

    The stacks leave the order of their study; the events of their cases make its choice anew (`CHOICE_EVENTS`).
    """
    for stack in stacks:
        if stack.revision == series.revision:
            stack.admitted, stack.reason_code, stack.facts = False, reason.code, dict(reason.facts)
            stack.evidence = [row for row in stack.evidence if row["rule"] != CHOICE_RULE]
    digests = [stack.input_digest for stack in stacks]
    cases = tx.session.scalars(
        select(Case)
        .join(Stack, Case.stack_id == Stack.id)
        .where(Stack.series_id == series.id, Stack.input_digest.in_(digests))
        .order_by(Case.created_at)
    ).all()
    for case in cases:
        if (case.state, CaseEvent.SOURCE_INVALID) in CASE_TRANSITIONS:
            # Its worker, if it has one, hears of it when it next asks for its case.
            end_lease(case)
            advance_case(tx, case, CaseEvent.SOURCE_INVALID, reason=reason)
    if _nothing_stands(series):
        series.facts = dict(reason.facts)
        advance_series(tx, series, SeriesEvent.SOURCE_INVALID, reason_code=reason.code, revision=series.revision)


def _nothing_stands(series: Series) -> bool:
    """Whether the series was admitted, or only not chosen in its study, and none of its stacks speaks for that now."""
    present = [stack for stack in series.stacks if stack.revision == series.revision]
    if series.state == SeriesState.ADMITTED:
        return not any(stack.admitted for stack in present)
    not_chosen = series.state == SeriesState.REFUSED and series.reason_code == NOT_CHOSEN.code
    return not_chosen and not any(study_has_choice(stack) for stack in present)


def _batches(uids: Sequence[str]) -> list[Sequence[str]]:
    """So many as a statement may name."""
    return [uids[start : start + _AT_ONCE] for start in range(0, len(uids), _AT_ONCE)]


def _append(tx: Transaction, event: AuditEvent, series: Series, code: str, facts: dict[str, JsonValue]) -> None:
    audit.append(
        tx,
        event,
        SubjectKind.SERIES,
        series.series_instance_uid,
        from_state=series.state,
        to_state=series.state,
        reason_code=code,
        facts=facts,
    )
