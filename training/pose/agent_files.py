"""The agent in a run folder: safetensors and its description as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from dissm_engine.atomic_file import atomic_path, write_json
from dissm_engine.pose.agent import PoseAgent
from dissm_engine.pose.architecture import AgentArchitecture

WEIGHTS_FILE = "agent.safetensors"
DESCRIPTION_FILE = "agent.json"


def save_agent(folder: Path, agent: PoseAgent) -> None:
    """Write weights and description."""
    with atomic_path(folder / WEIGHTS_FILE) as path:
        save_file(agent.state_tensors(), path)
    write_json(folder / DESCRIPTION_FILE, agent.architecture().to_json())


def load_agent(folder: Path) -> PoseAgent:
    """What `save_agent` wrote. Raises OSError where it is missing."""
    architecture = AgentArchitecture.from_json(json.loads((folder / DESCRIPTION_FILE).read_text()))
    return PoseAgent.from_tensors(load_file(folder / WEIGHTS_FILE), architecture)
