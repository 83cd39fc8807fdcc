"""The one module that knows which way a pose maps: image_from_reference.

The paper's Eq. 4 applies A^-1 T(w) to image coordinates, that is, T(w) there maps image to canonical; here `Pose`
always maps the reference frame (canonical x mm_per_unit, mm, LPS axes, centred) to the image (LPS mm):
    x_image = rotation @ (scale * x_reference) + translation
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

SCALE_LIMITS = (0.5, 2.0)


def rotation_from_6d(b: torch.Tensor) -> torch.Tensor:
    """Zhou et al.'s six numbers [..., 6], as deviations from the identity, to rotation matrices [..., 3, 3]."""
    first = b[..., 0:3] + b.new_tensor([1.0, 0.0, 0.0])
    second = b[..., 3:6] + b.new_tensor([0.0, 1.0, 0.0])
    x = torch.nn.functional.normalize(first, dim=-1)
    y = torch.nn.functional.normalize(second - (x * second).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y, dim=-1)], dim=-1)


@dataclass(frozen=True)
class Pose:
    """The map image_from_reference: x_image = rotation @ (scale * x_reference) + translation.

    Attributes:
        translation: float64 [3], LPS mm of the reference frame's origin in the image.
        scale: float64 [3], along the reference frame's axes.
        rotation: float64 [3, 3], determinant +1.

    Examples:
        >>> pose = Pose(np.array([10.0, 0.0, 0.0]), np.array([2.0, 1.0, 1.0]), np.eye(3))
        >>> pose.to_image([[5.0, 5.0, 5.0]]).tolist()
        [[20.0, 5.0, 5.0]]
        >>> pose.to_reference([[20.0, 5.0, 5.0]]).tolist()
        [[5.0, 5.0, 5.0]]
    """

    translation: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]
    rotation: npt.NDArray[np.float64]

    @staticmethod
    def at(translation: npt.ArrayLike) -> Pose:
        """The mean pose at a place."""
        return Pose(np.asarray(translation, dtype=np.float64), np.ones(3), np.eye(3))

    @property
    def image_from_reference(self) -> npt.NDArray[np.float64]:
        """float64 [4, 4]."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.rotation * self.scale[None, :]
        matrix[:3, 3] = self.translation
        return matrix

    def to_image(self, reference_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Reference points [..., 3] to LPS mm [..., 3]."""
        return (np.asarray(reference_mm, dtype=np.float64) * self.scale) @ self.rotation.T + self.translation

    def to_reference(self, lps_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """LPS mm [..., 3] to reference points [..., 3]."""
        return ((np.asarray(lps_mm, dtype=np.float64) - self.translation) @ self.rotation) / self.scale

    def corrected(self, shift: npt.ArrayLike, scale: npt.ArrayLike, rotation: npt.ArrayLike) -> Pose:
        """This pose after a correction in its own frame (Eq. 7): image_from_reference @ correction.

        Args:
            shift: [3], mm in the reference frame.
            scale: [3], factors; the result is clipped to SCALE_LIMITS (appendix B.2).
            rotation: [3, 3].
        """
        shift, scale, rotation = (np.asarray(a, dtype=np.float64) for a in (shift, scale, rotation))
        return Pose(
            self.to_image(shift),
            np.clip(self.scale * scale, *SCALE_LIMITS),
            self.rotation @ rotation,
        )


@dataclass(frozen=True)
class PoseBatch:
    """The same map for B poses at once, differentiable.

    Attributes:
        translation: float [B, 3], LPS mm.
        scale: float [B, 3].
        rotation: float [B, 3, 3].
    """

    translation: torch.Tensor
    scale: torch.Tensor
    rotation: torch.Tensor

    @staticmethod
    def of(poses: Sequence[Pose]) -> PoseBatch:
        """Single poses stacked, float32."""
        return PoseBatch(
            torch.tensor(np.stack([pose.translation for pose in poses]), dtype=torch.float32),
            torch.tensor(np.stack([pose.scale for pose in poses]), dtype=torch.float32),
            torch.tensor(np.stack([pose.rotation for pose in poses]), dtype=torch.float32),
        )

    def __len__(self) -> int:
        return len(self.translation)

    def __getitem__(self, chosen: torch.Tensor | list[int]) -> PoseBatch:
        """The poses at these indices, still a batch."""
        return PoseBatch(self.translation[chosen], self.scale[chosen], self.rotation[chosen])

    def pose(self, index: int) -> Pose:
        """One of them in float64; its rotation is made orthonormal again after float32 steps."""
        u, _, vt = np.linalg.svd(self.rotation[index].detach().numpy().astype(np.float64))
        translation, scale = self.translation[index].detach().numpy(), self.scale[index].detach().numpy()
        return Pose(translation.astype(np.float64), scale.astype(np.float64), u @ vt)

    def detached(self) -> PoseBatch:
        """The same poses, cut from their history of gradients."""
        return PoseBatch(self.translation.detach(), self.scale.detach(), self.rotation.detach())

    def to_image(self, reference_mm: torch.Tensor) -> torch.Tensor:
        """Reference points [B, N, 3] to LPS mm [B, N, 3]."""
        linear = self.rotation * self.scale[:, None]
        return torch.baddbmm(self.translation[:, None], reference_mm, linear.mT)

    def to_reference(self, lps_mm: torch.Tensor) -> torch.Tensor:
        """LPS mm [B, N, 3] to reference points [B, N, 3]."""
        return ((lps_mm - self.translation[:, None]) @ self.rotation) / self.scale[:, None]

    def corrected(self, shift: torch.Tensor, scale: torch.Tensor, rotation: torch.Tensor) -> PoseBatch:
        """As `Pose.corrected`: shift [B, 3] mm, scale [B, 3], rotation [B, 3, 3], all in the reference frame."""
        return PoseBatch(
            self.to_image(shift[:, None])[:, 0],
            torch.clamp(self.scale * scale, *SCALE_LIMITS),
            self.rotation @ rotation,
        )

    def distance_mm(self, other: PoseBatch, radius_mm: float = 70.0) -> torch.Tensor:
        """[B] mean distance in the image between where both put six points at `radius_mm` on the reference axes."""
        axes = radius_mm * torch.cat([torch.eye(3), -torch.eye(3)]).to(self.translation)
        points = axes.expand(len(self), 6, 3)
        distance: torch.Tensor = (self.to_image(points) - other.to_image(points)).norm(dim=-1).mean(dim=-1)
        return distance
