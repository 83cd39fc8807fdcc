"""What the refinement is trained by: the paper's Eq. 13, term by term, and the default's own terms, each a switch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FAR_MM = 15.0


@dataclass(frozen=True, slots=True)
class RefinementLossWeights:
    """Weight of each term; 0 switches it off.

    surface: first term of Eq. 13. On its own it has the trivial minimum of no surface at all. eikonal: second term.
    excess: third term, with |r| where the paper prints r. distance: L1 to the true signed distance. overlap: soft Dice.
    tissue: cross-entropy of the auxiliary tissue head.
    """

    surface: float = 0.0
    eikonal: float = 0.02
    excess: float = 0.0
    distance: float = 0.15
    overlap: float = 1.0
    tissue: float = 0.3


def paper_weights() -> RefinementLossWeights:
    """Table 9; beside it a Dice term that keeps the sign (D6), and the tissue head, which the engine needs."""
    return RefinementLossWeights(surface=1.0, eikonal=1.0, excess=0.1, distance=0.0, overlap=1.0, tissue=0.3)


@dataclass(frozen=True)
class RefinementBatch:
    """All [B, 1, K, J, I]: field and change from the network, truth (mm), band (0/1: near the prior and in view).

    tissue_logits [B, T, k, j, i] and tissue uint8-as-long [B, k, j, i] at feature cells.
    """

    field_mm: Tensor
    change_mm: Tensor
    truth_mm: Tensor
    band: Tensor
    tissue_logits: Tensor
    tissue: Tensor


def refinement_loss(batch: RefinementBatch, weights: RefinementLossWeights, spacing: float, rho_mm: float) -> Tensor:
    """Weighted sum of the terms over the narrow band."""
    total = batch.field_mm.new_zeros(())
    if weights.distance:
        total = total + weights.distance * distance_term(batch)
    if weights.overlap:
        total = total + weights.overlap * overlap_term(batch)
    if weights.surface:
        total = total + weights.surface * surface_term(batch, epsilon_mm=2 * spacing)
    if weights.eikonal:
        total = total + weights.eikonal * eikonal_term(batch, spacing)
    if weights.excess:
        total = total + weights.excess * _band_mean((batch.change_mm.abs() - rho_mm).clamp(min=0), batch.band)
    if weights.tissue:
        total = total + weights.tissue * torch.nn.functional.cross_entropy(batch.tissue_logits, batch.tissue)
    return total


def surface_term(batch: RefinementBatch, epsilon_mm: float) -> Tensor:
    """Root of the mean of SDF^2 delta_eps(field) over the band: true distance where the refined surface lies."""
    near = batch.field_mm.abs() < epsilon_mm
    delta = torch.where(near, (1 + torch.cos(torch.pi * batch.field_mm / epsilon_mm)) / (2 * epsilon_mm), 0.0)
    return (_band_mean(batch.truth_mm**2 * delta, batch.band) + 1e-6).sqrt()


def eikonal_term(batch: RefinementBatch, spacing: float) -> Tensor:
    """Mean of (|grad field| - 1)^2 over the band, central differences."""
    f = batch.field_mm
    dk = (f[:, :, 2:, 1:-1, 1:-1] - f[:, :, :-2, 1:-1, 1:-1]) / (2 * spacing)
    dj = (f[:, :, 1:-1, 2:, 1:-1] - f[:, :, 1:-1, :-2, 1:-1]) / (2 * spacing)
    di = (f[:, :, 1:-1, 1:-1, 2:] - f[:, :, 1:-1, 1:-1, :-2]) / (2 * spacing)
    norm = (dk**2 + dj**2 + di**2 + 1e-6).sqrt()
    return _band_mean((norm - 1) ** 2, batch.band[:, :, 1:-1, 1:-1, 1:-1])


def distance_term(batch: RefinementBatch) -> Tensor:
    """Mean |field - SDF| in the band, both clipped far from the surface, errors near it counting more."""
    error = (batch.field_mm.clamp(-FAR_MM, FAR_MM) - batch.truth_mm.clamp(-FAR_MM, FAR_MM)).abs()
    near = 1.0 + 2.0 * torch.exp(-(batch.truth_mm.abs() / 5.0))
    return _band_mean(error, batch.band * near)


def overlap_term(batch: RefinementBatch, softness_mm: float = 1.5) -> Tensor:
    """1 - soft Dice of the insides within the band, patch by patch."""
    found = torch.sigmoid(-batch.field_mm / softness_mm) * batch.band
    true = torch.sigmoid(-batch.truth_mm / softness_mm) * batch.band
    axes = (1, 2, 3, 4)
    dice = (2 * (found * true).sum(axes) + 50.0) / (found.sum(axes) + true.sum(axes) + 50.0)
    return 1 - dice.mean()


def _band_mean(values: Tensor, band: Tensor) -> Tensor:
    return (values * band).sum() / band.sum().clamp(min=1.0)
