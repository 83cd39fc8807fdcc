"""Orthanc as the PACS of a test: free ports, its own folder, stopped by its own process id."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from dicom_node.demo.node import free_port
from tests.thirdparty import need, need_file

PYTHON_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancPython.so")
ROUTE_EVERYTHING = """\
-- Every stable series goes to the node, its own results too: a loop, were the node to take them.
function OnStableSeries(seriesId, tags, metadata)
  RestApiPost('/modalities/dissm/store', '{"Asynchronous": true, "Resources": ["' .. seriesId .. '"]}')
end
"""


class Orthanc:
    """Runs while its `with` block does.

    node_port: where it routes to. script: what routes, a file of Lua or of its Python plugin; None routes every stable
    series.
    """

    def __init__(self, folder: Path, node_port: int, dicom_port: int | None = None, script: Path | None = None) -> None:
        self.script = script or folder / "route.lua"
        self.folder, self.node_port = folder, node_port
        self.dicom_port, self.http_port = dicom_port or free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Orthanc:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "route.lua").write_text(ROUTE_EVERYTHING)
        (self.folder / "orthanc.json").write_text(json.dumps(self._settings()))
        with open(self.folder / "orthanc.log", "wb") as log:
            self._process = subprocess.Popen(
                [need("Orthanc"), self.folder / "orthanc.json"],
                stdout=log,
                stderr=log,
                env={**os.environ, "TCP_NODELAY": "1"},
            )
        deadline = time.monotonic() + 30
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "orthanc.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "Orthanc did not start"
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
            return json.loads(answer.read())

    def file(self, instance: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/instances/{instance}/file") as answer:
            return bytes(answer.read())

    def series(self) -> dict[str, dict[str, Any]]:
        """Every series by its SeriesInstanceUID."""
        found = (self.get(f"/series/{each}") for each in self.get("/series"))
        return {one["MainDicomTags"]["SeriesInstanceUID"]: one for one in found}

    def jobs(self) -> list[dict[str, Any]]:
        """What it sent or tried to send."""
        return [self.get(f"/jobs/{each}") for each in self.get("/jobs")]

    def _answers(self) -> bool:
        try:
            self.get("/system")
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    def _settings(self) -> dict[str, Any]:
        return {
            "Name": "test",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": "ORTHANC",
            "DicomPort": self.dicom_port,
            "DicomCheckCalledAet": False,
            "StableAge": 2,
            "DicomModalities": {"dissm": ["DISSM", "127.0.0.1", self.node_port]},
            **self._routing(),
        }

    def _routing(self) -> dict[str, Any]:
        if self.script.suffix == ".lua":
            return {"LuaScripts": [str(self.script)], "Plugins": []}
        return {"PythonScript": str(self.script), "Plugins": [str(need_file(PYTHON_PLUGIN, "orthanc-python"))]}
