"""Who may be ended without anything being lost: what is being sent, and which worker has a case in hand."""

from __future__ import annotations

from sqlalchemy import exists, select

from dicom_node.catalog.database import View
from dicom_node.catalog.states import CaseState
from dicom_node.catalog.tables import Association, Case


def associations_open(view: View) -> bool:
    """Whether any association that brought images is open."""
    return bool(view.session.scalar(select(exists().where(Association.closed_at.is_(None)))))


def lease_owners(view: View) -> tuple[str, ...]:
    """The owners of all leases, as the workers named themselves."""
    held = Case.state.in_((CaseState.RUNNING, CaseState.DELINEATED)) & Case.lease_owner.is_not(None)
    return tuple(owner for owner in view.session.scalars(select(Case.lease_owner).where(held)) if owner)
