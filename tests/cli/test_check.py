"""`dissm-node check` calls wrong what cannot work, and only that."""

from __future__ import annotations

import fcntl
import socket
from pathlib import Path

import pytest
from pydicom.uid import SegmentationStorage

from dicom_node.cli.check import Checked, check_all, check_file
from dicom_node.settings import Settings
from tests.builders.intake import free_port, settings_in
from tests.deliver.destinations import storage_scp


def checked(settings: Settings, *, echo: bool = False) -> dict[str, Checked]:
    return {one.what: one for one in check_all(settings, echo=echo)}


def test_a_relative_data_folder_that_exists_is_judged_by_its_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("data")
    folder.mkdir(mode=0o755)
    found = checked(settings_in(folder))["data folder"]
    assert (found.good, "chmod 700" in found.said) == (False, True)
    folder.chmod(0o700)
    assert "will be made" not in checked(settings_in(folder))["data folder"].said


def test_an_address_that_is_not_this_machine_s_is_wrong(tmp_path: Path) -> None:
    for address in ("203.0.113.7", "no.such.host.invalid"):
        assert checked(settings_in(tmp_path, listen={"address": address}))["listening"].good is False


def test_ipv6_loopback_is_right(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    assert checked(settings_in(tmp_path, listen={"address": "::1"}))["listening"].good is True


def test_a_taken_port_is_wrong_unless_this_node_has_it(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, listen={"port": free_port()})
    with socket.socket() as other, (tmp_path / "node.lock").open("wb") as lock:
        other.bind(("127.0.0.1", settings.listen.port))
        other.listen()
        assert checked(settings)["listening"].good is False
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert checked(settings)["listening"].good is None


def test_a_destination_whose_name_does_not_resolve_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_arguments: object, **_named: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    destination = {"name": "pacs", "ae_title": "PACS", "host": "pacs.invalid", "port": 104, "timeout_seconds": 1}
    settings = settings_in(tmp_path, destinations=[destination])  # type: ignore[arg-type]
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    found = checked(settings, echo=True)["destination pacs"]
    assert (found.good, "pacs.invalid cannot be resolved" in found.said) == (False, True)


def test_every_key_that_cannot_be_used_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[listen]\nport = 99999\nae_title = ""\nunknown = 1\n[work]\nthreads = 0\n')
    said = [one.said for one in check_file(file, echo=False)]
    assert [text.partition(" ")[0] for text in said] == [
        "listen.ae_title",
        "listen.port",
        "listen.unknown",
        "work.threads",
    ]
    assert all(one.good is False for one in check_file(file, echo=False))


def test_what_a_destination_does_not_accept_is_wrong(tmp_path: Path) -> None:
    with storage_scp(classes=(SegmentationStorage, "1.2.840.10008.1.1")) as pacs:
        to = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port, "timeout_seconds": 5}
        settings = settings_in(tmp_path, destinations=[to])  # type: ignore[arg-type]
        found = checked(settings, echo=True)["destination pacs accepts"]
        wanted = settings_in(tmp_path, destinations=[{**to, "objects": ["seg"]}])  # type: ignore[arg-type]
        good = checked(wanted, echo=True)["destination pacs accepts"]
    assert found.good is False
    assert "seg: yes, surface: no (" in found.said
    assert (good.good, good.said, pacs.received) == (True, "seg: yes", [])
