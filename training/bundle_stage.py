"""Stage "bundle": weights, manifest, model card and figures in one folder (D8)."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from dissm_engine.bundle import write_bundle
from dissm_engine.json_value import JsonObject
from training.context import RunContext
from training.evaluate.evaluation_report import read_report
from training.evaluate.report_tables import figures_as_markdown, trust_as_markdown
from training.evaluate.trust_assessment_figure import trust_assessment_figure
from training.evaluate.trust_fit import TrustFit, judged, read_trust_fit
from training.figures import latent_figure, learning_figure, trust_figure
from training.phantom.anatomy_files import anatomy_files
from training.refine.learning_curve import curve_to_json, learning_curve
from training.trained_parts import trained_model

_CARD = """# liver ({preset} preset)

A deep implicit statistical shape model of the liver with its pose agent and refinement network, made by
`dissm-train run --preset {preset} --seed {seed}`.

**For** delineating the liver in venous-phase abdominal CT, as an aid that a person checks. Not a medical device.
**Not for** other organs, other phases without review, children, transplants, livers after major resection.

## What it learned from

* Shape: {livers} liver surfaces. Those of the shipped bundle come from AMOS22 (Ji et al. 2022, arXiv 2206.08023,
  doi 10.5281/zenodo.7155725), as published in the repository `xukun-zhang/MeshGraphCNN` (MIT). The data record names
  the licence CC BY 4.0; the challenge's review page names a CC BY-NC one. 16 of the 77 livers were kept out of
  everything.
* Images: none of patients. All image networks saw only synthetic CTs of the phantom generator ({anatomies} bodies; the
  pose stages {paints} fixed paints of each, the refinement a new one at every use).

## Figures

{figures}

## Limits

Livers cut by the field of view are closed flat there and marked. Lesions at the surface, very fatty livers (below
about 20 HU) and ascites are in the synthetic CTs but were not checked on patients with masks.
"""


_TRUST = """
## Trust

The estimate of the DSC was fitted on {fit} delineations of synthetic CTs, many of them wrong on purpose (wrong starts,
early ends), and accepts from {accept:.3f} on. The tables are of {test} others, {odd} of them of odd bodies, of {livers}
livers that the fit did not see; their bounds take results for independent, which those of one liver are not quite. Of
{absent} scans without a liver {recognised} were recognised as such; of {found} with one, delineated as in use, {called}
were said to have none.

{tables}
"""

_NOT_JUDGED = "`dissm-train evaluate` has not judged this bundle yet."


def run_bundle(context: RunContext) -> None:
    """Fill `bundle/` of the run folder."""
    _write(context, _NOT_JUDGED)


def run_card(context: RunContext) -> None:
    """The same bundle once more, its card with the figures that "evaluate" measured."""
    _write(context, figures_as_markdown(read_report(context.folder)))


def _write(context: RunContext, figures: str) -> None:
    fit = read_trust_fit(context.folder)
    model = replace(trained_model(context.folder), trust=fit.model)
    curve = learning_curve(context.folder)
    livers = len(list((context.folder / "surfaces" / "training").glob("*.npz")))
    anatomies = len(anatomy_files(context.folder))
    provenance: JsonObject = {
        "preset": context.preset.model_dump(mode="json"),
        "seed": context.seed,
        "training_livers": livers,
        "anatomies": anatomies,
        "program": version("dissm-node"),
        "learning_curve": curve_to_json(curve),
        "started_from": None if context.start is None else context.start.to_json(),
    }
    write_bundle(
        context.folder / "bundle",
        model,
        name=f"liver-{context.preset.name}",
        version=version("dissm-node"),
        card=_CARD.format(
            preset=context.preset.name,
            seed=context.seed,
            livers=livers,
            anatomies=anatomies,
            paints=context.preset.pose.paints,
            figures=figures,
        )
        + _trust(fit)
        + _start(context)
        + _notes(context.folder / "notes.md"),
        provenance=provenance,
        figures={
            "latent.png": latent_figure(model.shape),
            "trust.png": trust_figure(fit),
            **_trust_test_figure(fit),
            **({"learning.png": learning_figure(curve)} if curve else {}),
        },
    )


def _trust(fit: TrustFit) -> str:
    """The trust test set, as a section of the card; empty where there is none."""
    assessment = fit.assessment
    if assessment is None:
        return ""
    livers, odd = len({pair.liver for pair in fit.test}), sum(pair.odd for pair in fit.test)
    return _TRUST.format(
        accept=fit.model.accept,
        fit=len(fit.pairs),
        test=len(fit.test),
        odd=odd,
        livers=livers,
        absent=len(fit.absent),
        recognised=fit.absent_recognised,
        found=len(fit.found),
        called=fit.called_absent,
        tables=trust_as_markdown(assessment),
    )


def _trust_test_figure(fit: TrustFit) -> dict[str, bytes]:
    if fit.assessment is None:
        return {}
    true, estimated, _ = judged(fit.model, fit.test)
    return {"trust_test.png": trust_assessment_figure(fit.assessment, true, estimated)}


def _start(context: RunContext) -> str:
    """What the run began with, as a section of the card; empty where all of it was trained from random weights."""
    return "" if context.start is None else f"\n## Began with\n\n{context.start.sentence()}\n"


def _notes(path: Path) -> str:
    """What whoever trained wants to be known of this run, as a section of the card; empty without `notes.md`."""
    return f"\n## Notes on this run\n\n{path.read_text().strip()}\n" if path.exists() else ""
