"""`dissm-node check` calls wrong what cannot work, and only that."""

from __future__ import annotations

import fcntl
import socket
from pathlib import Path

import pytest

from dicom_node.cli.check import Checked, check_all
from dicom_node.settings import Settings
from tests.builders.intake import free_port, settings_in


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
