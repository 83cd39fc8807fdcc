"""Principal components of the auto-decoded codes: z = mean + basis (sd * loadings) (paper 3.2, Eq. 12)."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class LatentSpace:
    """An orthonormal basis of the codes' variation (Eq. 12).

    Attributes:
        mean: float32 [D], the code of the mean shape.
        basis: float32 [D, C], orthonormal columns in the order of falling variance.
        standard_deviation: float32 [C].
        explained: float32 [C], each component's share of the codes' variance.
    """

    mean: torch.Tensor
    basis: torch.Tensor
    standard_deviation: torch.Tensor
    explained: torch.Tensor

    @staticmethod
    def from_codes(codes: torch.Tensor, components: int | None = None) -> LatentSpace:
        """PCA of codes [K, D], the first `components` (None: all); no more than K - 1 carry variance or are kept."""
        work = codes.double()
        mean = work.mean(dim=0)
        _, singular, right = torch.linalg.svd(work - mean, full_matrices=False)
        max_components = min(len(codes) - 1, codes.shape[1])
        kept = max_components if components is None else min(components, max_components)
        variance = singular**2
        basis = right[:kept].T
        # A component's sign is arbitrary; the largest entry is made positive so that it is the same on every machine.
        sign = torch.sign(basis.gather(0, basis.abs().argmax(dim=0, keepdim=True)))
        return LatentSpace(
            mean.float(),
            (basis * sign).float().contiguous(),
            (singular[:kept] / max(len(codes) - 1, 1) ** 0.5).float(),
            (variance[:kept] / variance.sum().clamp_min(1e-30)).float(),
        )

    @property
    def components(self) -> int:
        """C."""
        return int(self.basis.shape[1])

    def latent(self, loadings: torch.Tensor) -> torch.Tensor:
        """Loadings [..., c <= C] in standard deviations to codes [..., D]; the components beyond c are zero."""
        count = loadings.shape[-1]
        scaled = loadings * self.standard_deviation[:count].to(loadings)
        return self.mean.to(loadings) + scaled @ self.basis[:, :count].to(loadings).T

    def loadings(self, latent: torch.Tensor) -> torch.Tensor:
        """Codes [..., D] to loadings [..., C] in standard deviations: the closest point of the component space."""
        projected = (latent - self.mean.to(latent)) @ self.basis.to(latent)
        return projected / self.standard_deviation.to(latent).clamp_min(1e-12)
