"""Who may send (C2): called AE title, calling AE title and address; strict for everything but loopback."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

from dicom_node.dicom.storage_server import AssociationRequest, Rejection
from dicom_node.reasons import DISK_ALMOST_FULL, NOT_AUTHORISED, NodeError
from dicom_node.settings import ListenSettings
from dissm_engine.errors import Reason

# PS3.8 9.3.4: result, source, diagnostic.
CALLING_AE_UNKNOWN = Rejection(0x01, 0x01, 0x03)
CALLED_AE_UNKNOWN = Rejection(0x01, 0x01, 0x07)
NO_REASON_PERMANENT = Rejection(0x01, 0x01, 0x01)
TEMPORARY_CONGESTION = Rejection(0x02, 0x03, 0x01)


class AssociationRefusedError(NodeError):
    """An association that is not accepted. answer: what its A-ASSOCIATE-RJ says."""

    def __init__(self, answer: Rejection, reason: Reason, **facts: object) -> None:
        self.answer = answer
        super().__init__(reason, **facts)


@dataclass(frozen=True)
class AssociationPolicy:
    """Decides about an association before it is accepted."""

    settings: ListenSettings
    spool: Path
    networks: tuple[IPv4Network | IPv6Network, ...]

    @classmethod
    def from_settings(cls, settings: ListenSettings, spool: Path) -> AssociationPolicy:
        """The settings have seen to it that calling_addresses holds addresses and networks."""
        networks = tuple(ip_network(one, strict=False) for one in settings.calling_addresses)
        return cls(settings, spool, networks)

    def check(self, request: AssociationRequest) -> None:
        """Raises AssociationRefusedError. An empty list lets everybody in from loopback and nobody from elsewhere."""
        refusal = self._refusal(request)
        if refusal is not None:
            answer, problem = refusal
            facts = {"calling_ae": request.calling_ae, "address": request.address, "called_ae": request.called_ae}
            raise AssociationRefusedError(answer, NOT_AUTHORISED, **facts, problem=problem)
        self.check_disk()

    def _refusal(self, request: AssociationRequest) -> tuple[Rejection, str] | None:
        """The answer, and which title or address is wrong: what came and what is expected. None where all are right."""
        own, titles = self.settings.ae_title, self.settings.calling_ae_titles
        if request.called_ae != own:
            return CALLED_AE_UNKNOWN, f"it calls {request.called_ae!r}, this node is {own!r} (listen.ae_title)"
        if request.calling_ae not in titles and not (_peer(request.address).is_loopback and not titles):
            said = f"its title is {request.calling_ae!r}, listen.calling_ae_titles: {_listed(titles)}"
            return CALLING_AE_UNKNOWN, said
        if not self.admits(request.address):
            return NO_REASON_PERMANENT, self.address_problem(request.address)
        return None

    def address_problem(self, address: str) -> str:
        """What is wrong with an address that is not admitted."""
        return f"its address is {address}, listen.calling_addresses: {_listed(self.settings.calling_addresses)}"

    def admits(self, address: str) -> bool:
        """Whether anybody at this address may send; all that is known before an association is asked for."""
        if not self.networks:
            return _peer(address).is_loopback
        return any(_peer(address) in network for network in self.networks)

    def check_disk(self) -> None:
        """Raises AssociationRefusedError (transient) when the spool's disk is below the watermark."""
        free_mb = shutil.disk_usage(self.spool).free // 2**20
        if free_mb < self.settings.disk_watermark_mb:
            raise AssociationRefusedError(
                TEMPORARY_CONGESTION, DISK_ALMOST_FULL, free_mb=free_mb, watermark_mb=self.settings.disk_watermark_mb
            )


def _listed(entries: tuple[str, ...]) -> str:
    return ", ".join(entries) or "none but this machine's own"


def _peer(address: str) -> IPv4Address | IPv6Address:
    """The address of a peer; on a socket of both families one of version 4 comes as ::ffff:192.0.2.1."""
    known = ip_address(address)
    return getattr(known, "ipv4_mapped", None) or known
