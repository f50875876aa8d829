"""Generated subjects: high-resolution faces with known truth that the model cannot span, as scans and as photographs.

    python -m benchmarks.subjects OUT --seeds 0 1 2 [--renderer mitsuba|quick] [--views 5] [--size 640]

A face starts from the open model and leaves it by functions of 3D position only: it does not know the maps.
"""

from benchmarks.subjects.degrade import decimated, noisy, posed, random_pose
from benchmarks.subjects.geometry import generate_subject
from benchmarks.subjects.head import EXPRESSIONS
from benchmarks.subjects.subject import Mesh, Subject

__all__ = ["EXPRESSIONS", "Mesh", "Subject", "decimated", "generate_subject", "noisy", "posed", "random_pose"]
