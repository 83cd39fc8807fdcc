"""A refusal names the title or address that is wrong, with what came and what is expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.dicom.storage_server import AssociationRequest
from dicom_node.receive.association_policy import AssociationPolicy, AssociationRefusedError
from dicom_node.settings import ListenSettings


@pytest.mark.parametrize(
    ("called", "calling", "address", "said"),
    [
        ("DISM", "CT", "192.0.2.7", ("'DISM'", "'DISSM'", "listen.ae_title")),
        ("DISSM", "CT9", "192.0.2.7", ("'CT9'", "CT, PACS", "listen.calling_ae_titles")),
        ("DISSM", "CT", "192.0.3.7", ("192.0.3.7", "192.0.2.0/24", "listen.calling_addresses")),
    ],
)
def test_what_is_wrong_is_told_with_both_values(
    tmp_path: Path, called: str, calling: str, address: str, said: tuple[str, ...]
) -> None:
    listen = ListenSettings(calling_ae_titles=("CT", "PACS"), calling_addresses=("192.0.2.0/24",), disk_watermark_mb=0)
    policy = AssociationPolicy.from_settings(listen, tmp_path)
    with pytest.raises(AssociationRefusedError) as refused:
        policy.check(AssociationRequest(called, calling, address))
    for part in said:
        assert part in str(refused.value.facts["problem"])
    policy.check(AssociationRequest("DISSM", "CT", "192.0.2.7"))
