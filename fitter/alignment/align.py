"""Where the model's face lies on a scan, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from fitter.alignment.evidence import Evidence, gather
from fitter.alignment.landmarks import WRONG, pose_of_landmarks, usable
from fitter.alignment.poses import Poses, angles_between, different
from fitter.alignment.refine import Refined, Refinement, refine
from fitter.alignment.samples import Samples, sample_scan
from fitter.alignment.search import search
from fitter.alignment.template import Template, template_of
from fitter.capture.types import ScanLandmarks
from fitter.errors import InputError
from fitter.model.morphable import MorphableModel

TRIAL = Refinement(points=400, steps=15, gates=(12.0, 5.0))
"""For every pose that the search ended in."""
FINAL = Refinement(points=1200, steps=60, gates=(8.0, 6.0), tolerance=0.005)
"""For the one that is returned; ends when nothing moves by 0.005 mm."""
NEAR = 130.0
"""mm around the nose tip that the final refinement looks at."""
APART = (20.0, 20.0)
"""Degrees and mm: a pose farther away than either is another pose."""
IN_PLACE = (15.0, 15.0)
"""Degrees and mm within which the scan counts as lying in the model's frame already."""
GOOD_SCORE, GOOD_GAP, GOOD_COST_OF_SEEN = 0.38, 0.05, 0.34
"""At most this score, at least this far from the runner-up, and at most this cost of what is seen of the face: no wrong
pose had all three (see `evidence`)."""
NO_FACE = 0.50
"""Scores above this were never a face, not even half of one."""
STRAYED = (15.0, 15.0)
"""Degrees and mm: where the surface pulls the landmarks' pose farther than this, one of them is wrong."""
LANDMARKS_OFF = 10.0
"""Median distance (mm) of the landmarks from the adjusted face's above which they are not this surface's."""
INSIDE_OUT = "The scan is inside out (its triangles face inwards); it was aligned as if turned over."


@dataclass(frozen=True)
class Alignment:
    """A rigid alignment of the model to a scan."""

    scan_from_model: np.ndarray
    """[4, 4] rigid, mm."""
    score: float
    """Two-way score in [0, 1], lower is better."""
    runner_up: float
    """Best score of a pose more than 20 degrees or 20 mm away; nan where no other pose was tried (landmarks)."""
    method: str
    """`landmarks`, `search`, or `in place`: found by the search where the model lies already."""
    certain: bool
    """Whether the score and its distance from the runner-up are those of right poses."""
    warnings: tuple[str, ...]
    """Plain sentences."""


def align_scan(
    scan_vertices: np.ndarray,
    scan_triangles: np.ndarray,
    model: MorphableModel,
    *,
    landmarks: ScanLandmarks | None = None,
    seed: int = 0,
) -> Alignment:
    """Align the model's mean face to a scan, with landmarks or without, in any pose.

    Args:
        scan_vertices: [V, 3] mm.
        scan_triangles: [F, 3], oriented alike, outwards (if they point inwards, that is found out and said).
        model: The face model.
        landmarks: Points that somebody set or a detector found; they override the search unless they are impossible.
        seed: Of the samples; the same seed gives the same alignment.

    Raises:
        InputError: The scan has no surface, or nothing on it resembles a face.
    """
    vertices = np.ascontiguousarray(scan_vertices, np.float64)
    template = template_of(model)
    samples = sample_scan(vertices, np.asarray(scan_triangles, np.int64), seed)
    if landmarks is None:
        return _searched(template, samples, ())
    numbers, points, reason = usable(landmarks)
    if reason:
        return _searched(template, samples, (f"The landmarks were not used: {reason}.",))
    return _by_landmarks(template, samples, numbers, points, seed)


@dataclass(frozen=True, eq=False)
class _Best:
    """The best pose of a search, refined."""

    refined: Refined
    evidence: Evidence
    runner_up: float

    @property
    def certain(self) -> bool:
        good = self.evidence.score <= GOOD_SCORE and self.evidence.cost_of_seen <= GOOD_COST_OF_SEEN
        return good and self.runner_up - self.evidence.score >= GOOD_GAP


def _best_of_search(template: Template, samples: Samples) -> _Best:
    found = search(template, samples)
    tried = refine(template, samples, found.poses, TRIAL)
    evidence = gather(template, samples, tried.fitted, tried.coefficients)
    scores = np.array([item.score for item in evidence])
    best = int(scores.argmin())
    others = scores[different(tried.poses, tried.poses[best : best + 1], *APART)]
    refined = _final(template, samples, tried.poses[best : best + 1])
    evidence = gather(template, samples, refined.fitted, refined.coefficients)[0]
    return _Best(refined, evidence, float(others.min()) if len(others) else 1.0)


def _final(template: Template, samples: Samples, pose: Poses) -> Refined:
    near = samples.near(pose.translations[0], NEAR)
    return refine(template, near if len(near.points) > 100 else samples, pose, FINAL)


def _searched(template: Template, samples: Samples, warnings: tuple[str, ...]) -> Alignment:
    inside_out = samples.outwards is False
    best = _best_of_search(template, samples.flipped() if inside_out else samples)
    if not best.certain and samples.outwards is None:
        turned = _best_of_search(template, samples.flipped())
        if turned.evidence.score < best.evidence.score - GOOD_GAP:
            best, inside_out = turned, True
    if best.evidence.score > NO_FACE:
        raise InputError(
            "scan",
            f"nothing that resembles a face (score {best.evidence.score:.2f}, whole faces score below {GOOD_SCORE})",
            "a scan of a face in millimetres",
            "Check its unit, or give landmarks.",
        )
    if inside_out:
        warnings += (INSIDE_OUT,)
    if not best.certain:
        warnings += (
            f"It is not certain that the face was found: the best pose scores {best.evidence.score:.2f}, "
            f"another one {best.runner_up:.2f}. Look at the alignment, or give landmarks.",
        )
    return _alignment(template, best.refined, best.evidence, best.runner_up, "search", best.certain, warnings)


def _alignment(template: Template, refined: Refined, evidence: Evidence, runner_up, method, certain, warnings):
    matrix = refined.poses.matrix(0)
    matrix[:3, 3] -= matrix[:3, :3] @ template.nose_tip
    in_place = angles_between(matrix[:3, :3], np.eye(3)) < IN_PLACE[0]
    moved = np.linalg.norm(matrix[:3, :3] @ template.nose_tip + matrix[:3, 3] - template.nose_tip)
    if method == "search" and in_place and moved < IN_PLACE[1]:
        method = "in place"
    return Alignment(matrix, evidence.score, runner_up, method, bool(certain), tuple(warnings))


def _by_landmarks(template: Template, samples: Samples, numbers, points, seed: int) -> Alignment:
    asked = pose_of_landmarks(template, numbers, points, seed)
    warnings: tuple[str, ...] = ()
    if asked.mirrored:
        warnings += ("The landmarks look mirrored (left and right exchanged); they were not used.",)
        return _searched(template, samples, warnings)
    wrong = numbers[asked.off > WRONG]
    if len(wrong):
        names = ", ".join(str(number) for number in wrong)
        warnings += (f"Landmarks more than {WRONG:.0f} mm from where the others put them: {names}.",)
    refined = _final(template, samples, asked.pose)
    evidence = gather(template, samples, refined.fitted, refined.coefficients)[0]
    flipped = samples.flipped()
    turned = _final(template, flipped, asked.pose)
    turned_evidence = gather(template, flipped, turned.fitted, turned.coefficients)[0]
    if turned_evidence.score < evidence.score - GOOD_GAP:
        refined, evidence = turned, turned_evidence
        warnings += (INSIDE_OUT,)
    strayed = bool(different(refined.poses, asked.pose, *STRAYED)[0])
    landmarks = template.landmarks + template.landmark_modes @ refined.coefficients[0]
    off = np.linalg.norm(refined.fitted.points(landmarks)[0][numbers] - points, axis=1)
    off_by = float(np.median(off))
    if strayed or evidence.score > NO_FACE or (off_by > LANDMARKS_OFF and evidence.score > GOOD_SCORE):
        warnings += ("The landmarks disagree with the surface; the pose is the landmarks' alone.",)
        evidence = gather(template, samples, asked.pose, np.zeros_like(refined.coefficients))[0]
        refined = replace(refined, poses=asked.pose)
        return _alignment(template, refined, evidence, math.nan, "landmarks", False, warnings)
    if off_by > LANDMARKS_OFF:
        warnings += (f"The landmarks disagree with the surface by {off_by:.0f} mm; the pose is the surface's.",)
    return _alignment(template, refined, evidence, math.nan, "landmarks", off_by <= LANDMARKS_OFF, warnings)
