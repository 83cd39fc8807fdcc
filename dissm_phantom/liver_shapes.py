"""Known variants of the liver's shape, made of an ordinary liver's surface.

Lobes are stretched and scaled by flows, which never fold a surface; where liver is cut off, added or split, its signed
distance is changed on a 2 mm grid and meshed again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import SignedDistance
from dissm_phantom.canvas import Field, Vector, rotation_about, xyz
from dissm_phantom.liver_landmarks import LiverLandmarks, inner_points, landmarks_of, middle_of_section
from dissm_phantom.shape_deformation import (
    Ellipsoid,
    Points,
    Velocity,
    axes_of,
    field_of,
    flowed,
    noise_on,
    scaled_about,
    smooth_step,
    smooth_union,
    surface_of,
    swept,
    without,
)
from dissm_phantom.variety import LIVER_SHAPES, Trait

Change = Callable[[TriangleMesh, np.random.Generator], TriangleMesh]

VERY_LARGE_ML = (2200.0, 3500.0)
VERY_SMALL_ML = (500.0, 800.0)
_FISSURE_SIZES = (1.0, 0.75, 0.55)
_MIN_LEFT_BY_FISSURES = 0.94


def liver_of_shape(liver: TriangleMesh, shape: Trait, rng: np.random.Generator) -> TriangleMesh:
    """An ordinary liver changed into one of the known variants; the same state of the generator gives the same mesh.

    Args:
        liver: Closed mesh, LPS mm, axes about those of the patient.
        shape: One of `LIVER_SHAPES`.
        rng: Draws how far the shape goes.

    Returns:
        A closed mesh of one part, faces outward, in the same frame: vena cava and dome stay about where they were.

    Raises:
        ValueError: The trait is no shape of the liver.
    """
    if shape not in LIVER_SHAPES:
        raise ValueError(f"{shape} is not a shape of the liver")
    return _CHANGES[shape](liver, rng)


def _left_lobe_round_spleen(liver: TriangleMesh, rng: np.random.Generator) -> TriangleMesh:
    """A thin tongue goes on from the left lobe along the wall, past the stomach, to beside and behind the spleen."""
    marks = landmarks_of(liver)
    end_degrees = rng.uniform(8, 42)
    end_z = float(marks.high[2] - rng.uniform(45, 80))
    reach = marks.on_left_wall(end_degrees, 1.0, end_z)
    field = field_of(liver, high=[marks.spine_x + marks.half_width, reach[1] + 15, marks.high[2] + 10])
    path = _path_along_wall(field, marks, end_degrees, end_z, rng)
    share = np.linspace(0, 1, len(path))
    # Not above the dome: the left half of the diaphragm does not stand higher than the right one.
    path[:, 2] = np.minimum(path[:, 2], marks.high[2] - 28)
    thickness = np.interp(share, [0, 0.25, 0.8, 1], [0.9, 1.0, 0.75, 0.45]) * rng.uniform(7.5, 12)
    height = np.interp(share, [0, 0.2, 0.75, 1], [0.8, 1.0, 0.8, 0.4]) * rng.uniform(22, 36)
    sections = []
    for n, point in enumerate(path):
        along = path[min(n + 1, len(path) - 1)] - path[max(n - 1, 0)]
        along[2] *= 0.5
        along /= np.linalg.norm(along)
        across = np.cross(xyz(0, 0, 1), along)
        across /= np.linalg.norm(across)
        frame = np.stack([along, across, np.cross(along, across)], axis=1)
        sections.append(Ellipsoid(point, frame, (float(thickness[n]), float(thickness[n]), float(height[n]))))
    tongue = swept(field.grid, sections) + np.float32(1.2) * noise_on(field.grid, 30.0, rng)
    return _meshed(field, smooth_union(field.mm, tongue, 14.0))


def _path_along_wall(
    field: SignedDistance, marks: LiverLandmarks, end_degrees: float, end_z: float, rng: np.random.Generator
) -> Points:
    """Points [N, 3] about 3 mm apart from within the left lobe to the end of the tongue."""
    tip = marks.left_tip
    start = middle_of_section(field, float(tip[0] - rng.uniform(22, 35)))
    flat = (tip[:2] - [marks.spine_x, marks.cavity_y]) / [marks.half_width, marks.half_depth]
    tip_degrees, tip_share = float(np.rad2deg(np.arctan2(flat[1], flat[0]))), float(np.hypot(*flat))
    wall = rng.uniform(0.84, 0.9)
    knots = [start]
    if tip_degrees < end_degrees - 12:
        degrees = np.arange(tip_degrees, end_degrees, 8.0)
        for done in np.linspace(0, 1, len(degrees) + 1)[1:]:
            share = tip_share + (wall - tip_share) * float(smooth_step(np.array([done / 0.45]))[0])
            z = float(tip[2] + (end_z - tip[2]) * done)
            knots.append(marks.on_left_wall(tip_degrees + (end_degrees - tip_degrees) * done, share, z))
    else:
        knots.append(tip + xyz(0, 25, -10))
    line = np.array(knots)
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    at = np.linspace(0, chord[-1], max(8, int(chord[-1] / 3.0)))
    return np.stack([np.interp(at, chord, line[:, axis]) for axis in range(3)], axis=1)


def _riedel_lobe(liver: TriangleMesh, rng: np.random.Generator) -> TriangleMesh:
    """The lateral part of the right lobe becomes a tongue with a round end that reaches far down."""
    marks = landmarks_of(liver)
    points = liver.vertices
    lateral = points[points[:, 0] < marks.low[0] + rng.uniform(55, 75)]
    lowest = lateral[lateral[:, 2] < lateral[:, 2].min() + 30]
    axis, bottom = lowest.mean(axis=0), float(lateral[:, 2].min())
    top = bottom + rng.uniform(0.35, 0.55) * float(marks.size[2])
    longer = rng.uniform(60, 115)
    edge = float(marks.low[0] + rng.uniform(85, 105))

    # Down, by an amount that only grows downwards: this cannot fold the surface. It ends in an edge; the rest is round.
    depth = np.clip((top - points[:, 2]) / (top - bottom), 0, None)
    moved = points.copy()
    moved[:, 2] -= 0.6 * longer * smooth_step((edge - points[:, 0]) / 50) * depth**1.5
    end = bottom - longer
    share = np.linspace(0, 1, max(8, int((top - end) / 5)))
    wide, deep = rng.uniform(14, 21), rng.uniform(24, 38)
    room = xyz(wide + 8, deep + 8, 0)
    field = field_of(TriangleMesh(moved, liver.faces), xyz(axis[0], axis[1], end - 8) - room, axis + room)
    size = np.interp(share, [0, 0.4, 0.75, 1], [0.6, 1.0, 0.9, 0.6])
    inward = rng.uniform(-4, 14)
    sections = [
        Ellipsoid(
            xyz(float(axis[0] + inward * at), float(axis[1]), float(top - 15 + (end + 14 - top + 15) * at)),
            np.eye(3),
            (float(wide * part), float(deep * part), 14.0),
        )
        for at, part in zip(share, size, strict=True)
    ]
    tongue = swept(field.grid, sections) + np.float32(1.5) * noise_on(field.grid, 35.0, rng)
    return _meshed(field, smooth_union(field.mm, tongue, 16.0))


def _large_left_lobe(liver: TriangleMesh, rng: np.random.Generator) -> TriangleMesh:
    """The right lobe shrinks towards its back, the left one grows to the left, down and forward."""
    marks = landmarks_of(liver)
    return flowed(liver, _lobes(marks, liver, rng.uniform(-0.2, -0.1), rng.uniform(0.3, 0.5)))


def _lobes(marks: LiverLandmarks, liver: TriangleMesh, right: float, left: float) -> Velocity:
    """Logarithms of the scale of the right lobe, about its back and dome, and of the left, about the hilum."""
    plane = _quantile_of(field_of(liver), xyz(1, 0, 0), 0.72)
    behind = xyz(marks.spine_x - 70, marks.spine_y + 5, float(marks.high[2]) - 25)
    # Rather down than up, where the heart is.
    above = xyz(float(marks.hilum[0]), float(marks.hilum[1]), float(marks.low[2] + 0.78 * marks.size[2]))
    across = np.array([1.0, 0.55, 0.85])

    def velocity(points: Points) -> Points:
        leftness = smooth_step((points[:, :1] - (plane - 40)) / 80)
        of_right, of_left = right * (points - behind), left * across * (points - above)
        return np.asarray((1 - leftness) * of_right + leftness * of_left)

    return velocity


def _large_caudate_lobe(liver: TriangleMesh, rng: np.random.Generator) -> TriangleMesh:
    """A round lobe before the vena cava, often with a papillary process that reaches down and to the left."""
    marks = landmarks_of(liver)
    field = field_of(liver)
    nominal = xyz(marks.spine_x + rng.uniform(-12, 4), marks.spine_y - rng.uniform(38, 48), float(marks.hilum[2]) + 16)
    nearest = liver.vertices[int(np.argmin(((liver.vertices - nominal) ** 2).sum(axis=1)))]
    center = nearest + 0.35 * (nominal - nearest)
    radii = (rng.uniform(24, 34), rng.uniform(17, 24), rng.uniform(28, 42))
    lobe = Ellipsoid(center, rotation_about([0, 0, 1], rng.uniform(-25, 25)), radii).distance(field.grid)
    if rng.random() < 0.6:
        low = center + xyz(rng.uniform(4, 14), rng.uniform(-8, 2), -0.85 * radii[2])
        process = Ellipsoid(low, np.eye(3), (rng.uniform(10, 16), rng.uniform(9, 13), rng.uniform(14, 24)))
        lobe = smooth_union(lobe, process.distance(field.grid), 10.0)
    lobe = lobe + np.float32(1.5) * noise_on(field.grid, 28.0, rng)
    return _meshed(field, smooth_union(field.mm, lobe, 7.0))


def _deep_fissures(liver: TriangleMesh, rng: np.random.Generator) -> TriangleMesh:
    """The umbilical and the main fissure cut deep from below, the ligament's from behind, some the dome."""
    marks = landmarks_of(liver)
    field = field_of(liver)
    cuts = [_cut_from_below(liver, field, xyz(1, rng.uniform(-0.25, 0.15), 0), rng.uniform(0.74, 0.84), rng)]
    if rng.random() < 0.75:
        cuts.append(_cut_from_below(liver, field, _cantlie_normal(rng), rng.uniform(0.55, 0.66), rng))
    if rng.random() < 0.6:
        cuts.append(_ligament_cut(liver, marks, rng))
    cuts += [_dome_cut(liver, marks, rng) for _ in range(int(rng.integers(0, 3)))]
    warp = np.float32(1.6) * noise_on(field.grid, 24.0, rng)
    for shrink in _FISSURE_SIZES:
        solid = field.mm
        for cut in cuts:
            solid = without(solid, cut.scaled(shrink).distance(field.grid) + warp, 3.0)
        split = _meshed(field, solid)
        # A fissure that runs through a thin lobe cuts it off: then it may not run as deep.
        if split.volume_ml > _MIN_LEFT_BY_FISSURES * liver.volume_ml:
            return split
    return liver


def _cut_from_below(
    liver: TriangleMesh, field: SignedDistance, normal: Vector, share: float, rng: np.random.Generator
) -> Ellipsoid:
    """A lens about the lowest frontal edge of the liver in the plane that leaves `share` of it on the normal's back."""
    normal = normal / np.linalg.norm(normal)
    near = liver.vertices[np.abs(liver.vertices @ normal - _quantile_of(field, normal, share)) < 6]
    edge = near[int(np.argmin(0.85 * near[:, 2] + 0.5 * near[:, 1]))]
    return _lens(edge, normal, rng.uniform(3.5, 6.5), rng.uniform(40, 62), rng.uniform(34, 52))


def _ligament_cut(liver: TriangleMesh, marks: LiverLandmarks, rng: np.random.Generator) -> Ellipsoid:
    """Between caudate and left lobe, from the left and behind."""
    nominal = xyz(marks.spine_x + 12, marks.spine_y - 52, float(marks.hilum[2]) + 18)
    entry = liver.vertices[int(np.argmin(((liver.vertices - nominal) ** 2).sum(axis=1)))]
    normal = xyz(rng.uniform(-0.35, 0.1), 1.0, rng.uniform(-0.2, 0.3))
    return _lens(entry, normal, rng.uniform(3.2, 4.8), rng.uniform(22, 34), rng.uniform(22, 32))


def _dome_cut(liver: TriangleMesh, marks: LiverLandmarks, rng: np.random.Generator) -> Ellipsoid:
    """A groove that a fold of the diaphragm presses into the right dome, about sagittal."""
    above = liver.vertices[(liver.normals[:, 2] > 0.5) & (liver.vertices[:, 0] < marks.spine_x - 30)]
    if len(above) == 0:
        above = liver.vertices[liver.vertices[:, 2] > marks.high[2] - 10]
    middle = above[int(rng.integers(len(above)))]
    normal = xyz(1.0, rng.uniform(-0.5, 0.5), 0.0)
    return _lens(middle, normal, rng.uniform(3.0, 4.2), rng.uniform(24, 42), rng.uniform(10, 20))


def _lens(center: Vector, normal: Vector, half_width: float, along: float, up: float) -> Ellipsoid:
    first = normal / np.linalg.norm(normal)
    third = xyz(0, 0, 1) - first[2] * first
    third /= np.linalg.norm(third)
    return Ellipsoid(center, np.stack([first, np.cross(third, first), third], axis=1), (half_width, along, up))


def _cirrhosis(liver: TriangleMesh, rng: np.random.Generator) -> TriangleMesh:
    """A shrunken right lobe, a grown left one, and a surface of nodules with narrow grooves between them."""
    marks = landmarks_of(liver)
    changed = flowed(liver, _lobes(marks, liver, rng.uniform(-0.18, -0.05), rng.uniform(0.06, 0.26)))
    field = field_of(changed)
    length = rng.uniform(12, 30)
    amplitude = rng.uniform(3, min(8, 0.35 * length))
    noise = noise_on(field.grid, 1.6 * length, rng)
    # The noise's sign changes where grooves are wanted: its size is high in the middle of a nodule, zero in a groove.
    nodules = np.minimum(np.sqrt(np.abs(noise)), np.float32(1.2))
    low, high = np.percentile(nodules, [5, 95])
    nodules = (nodules - nodules.mean()) / np.float32(high - low)
    coarse = noise_on(field.grid, 55.0, rng)
    return _meshed(field, field.mm - np.float32(amplitude) * nodules + np.float32(1.5) * coarse)


def _after_right_resection(liver: TriangleMesh, rng: np.random.Generator) -> TriangleMesh:
    """Without its right lobe; what stayed has grown, and has turned into the empty place."""
    rest = _cut_off(liver, -_cantlie_normal(rng), rng.uniform(0.55, 0.68), rng)
    marks = landmarks_of(liver)
    turned = rotation_about([0, 0, 1], -rng.uniform(4, 18))
    growth = (rng.uniform(0.62, 0.85) * liver.volume_ml / rest.volume_ml) ** (1 / 3)
    wider = float(np.exp(rng.uniform(0.02, 0.12)))
    scale = growth * np.array([wider, 1.0, 1.0 / wider])
    points = (rest.vertices - marks.vena_cava) @ turned.T * scale + marks.vena_cava
    return TriangleMesh(points + xyz(-rng.uniform(4, 18), 0, 0), rest.faces)


def _after_left_resection(liver: TriangleMesh, rng: np.random.Generator) -> TriangleMesh:
    """Without the left lobe, or without segments 2 and 3 only; what stayed has grown a little."""
    marks = landmarks_of(liver)
    lateral = rng.random() < 0.5
    normal = xyz(1, rng.uniform(-0.2, 0.2), 0) if lateral else _cantlie_normal(rng)
    share = rng.uniform(0.12, 0.2) if lateral else rng.uniform(0.28, 0.4)
    rest = _cut_off(liver, normal, share, rng)
    wanted = min(0.97, rest.volume_ml / liver.volume_ml * rng.uniform(1.05, 1.25))
    growth = (wanted * liver.volume_ml / rest.volume_ml) ** (1 / 3)
    return scaled_about(rest, xyz(marks.spine_x - 70, marks.spine_y, float(marks.high[2]) - 20), growth)


def _cut_off(liver: TriangleMesh, outward: Vector, share: float, rng: np.random.Generator) -> TriangleMesh:
    """The liver without the `share` of its volume that lies farthest along `outward`: a wavy plane, rounded edges."""
    outward = outward / np.linalg.norm(outward)
    field = field_of(liver)
    x, y, z = axes_of(field.grid)
    along = np.float32(outward[0]) * x + np.float32(outward[1]) * y + np.float32(outward[2]) * z
    beyond = along - np.float32(_quantile_of(field, outward, 1 - share))
    wavy = beyond + np.float32(rng.uniform(2, 5)) * noise_on(field.grid, 60.0, rng)
    return _meshed(field, -smooth_union(-field.mm, -wavy, float(rng.uniform(8, 16))))


def _very_large_liver(liver: TriangleMesh, rng: np.random.Generator) -> TriangleMesh:
    """Blunt edges, 2200 to 3500 ml; it grows forward, down and to the sides from the back of its dome."""
    marks = landmarks_of(liver)
    field = field_of(liver)
    blunt = _meshed(field, field.mm - np.float32(rng.uniform(2, 6)))
    return _scaled_to(blunt, rng.uniform(*VERY_LARGE_ML), marks, rng)


def _very_small_liver(liver: TriangleMesh, rng: np.random.Generator) -> TriangleMesh:
    """500 to 800 ml."""
    return _scaled_to(liver, rng.uniform(*VERY_SMALL_ML), landmarks_of(liver), rng)


def _scaled_to(liver: TriangleMesh, volume_ml: float, marks: LiverLandmarks, rng: np.random.Generator) -> TriangleMesh:
    """A volume reached by scaling about the back of the dome, not quite the same along every axis."""
    uneven = rng.uniform(0.94, 1.06, 3)
    uneven /= np.prod(uneven) ** (1 / 3)
    factor = (volume_ml / liver.volume_ml) ** (1 / 3)
    behind = xyz(marks.spine_x - 75, marks.spine_y + 10, float(marks.high[2]) - 10)
    return scaled_about(liver, behind, factor * uneven)


def _cantlie_normal(rng: np.random.Generator) -> Vector:
    """Unit normal [3], to the left, of the plane through gallbladder and vena cava that parts right and left liver."""
    turn = np.deg2rad(rng.uniform(14, 34))
    normal = xyz(float(np.cos(turn)), -float(np.sin(turn)), float(rng.uniform(-0.2, 0.15)))
    return np.asarray(normal / np.linalg.norm(normal))


def _quantile_of(field: SignedDistance, direction: Vector, share: float) -> float:
    """How far along a direction the plane lies that has `share` of the liver's volume behind it, mm."""
    return float(np.quantile(inner_points(field) @ (direction / np.linalg.norm(direction)), share))


def _meshed(field: SignedDistance, mm: Field) -> TriangleMesh:
    return surface_of(SignedDistance(np.asarray(mm, dtype=np.float32), field.grid))


_CHANGES: Mapping[Trait, Change] = MappingProxyType(
    {
        Trait.LEFT_LOBE_ROUND_SPLEEN: _left_lobe_round_spleen,
        Trait.RIEDEL_LOBE: _riedel_lobe,
        Trait.LARGE_LEFT_LOBE: _large_left_lobe,
        Trait.LARGE_CAUDATE_LOBE: _large_caudate_lobe,
        Trait.DEEP_FISSURES: _deep_fissures,
        Trait.CIRRHOSIS: _cirrhosis,
        Trait.RIGHT_RESECTION: _after_right_resection,
        Trait.LEFT_RESECTION: _after_left_resection,
        Trait.VERY_LARGE_LIVER: _very_large_liver,
        Trait.VERY_SMALL_LIVER: _very_small_liver,
    }
)
