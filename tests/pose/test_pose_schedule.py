"""The pose stages' learning rate: constant while the validation error falls, then down to nothing."""

from __future__ import annotations

import pytest

from dissm_engine.pose.correction import StageName
from training.pose.pose_settings import PosePreset
from training.stable_decay import StableThenDecay


@pytest.mark.parametrize("name", list(StageName))
def test_the_shipped_preset_ends_every_stage_with_a_rate_of_zero(name: StageName) -> None:
    preset = PosePreset.small()
    found = preset.rate_schedule(name, 10)
    assert isinstance(found, StableThenDecay)
    assert found.max_stable_steps == 10 * preset.stage(name).epochs
    assert found.factor(60, 60) == 1.0
    assert 0.0 < found.factor(61, 60) < 1.0
    assert found.factor(60 + 10 * preset.stage(name).decay_epochs, 60) == 0.0
