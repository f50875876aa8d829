"""The one face model type behind which every published model stands."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

from torch import Tensor

REGIONS = ("face", "skin", "eyes", "lips", "mouth_inside")
"""Vertex masks that every loader provides: the face's front, all skin, eyeballs, lips, inside of the mouth."""


@dataclass(frozen=True)
class LandmarkEmbedding:
    """Landmarks as barycentric points of the surface."""

    vertices: Tensor
    """[L, 3] int64 vertex numbers."""
    weights: Tensor
    """[L, 3], each row sums to 1."""

    def rows(self, index: Tensor) -> LandmarkEmbedding:
        """The landmarks `index` [M] alone."""
        return LandmarkEmbedding(self.vertices[index], self.weights[index])

    def __call__(self, vertices: Tensor) -> Tensor:
        """Landmark positions [..., L, 3] on `vertices` [..., V, 3]."""
        return (vertices[..., self.vertices, :] * self.weights[..., None]).sum(-2)


@dataclass(frozen=True, eq=False)
class MorphableModel:
    """A linear 3D morphable model with everything a fit needs. Millimetres; +y up, +z out of the face; linear RGB."""

    name: str
    mean: Tensor
    """[V, 3] mean shape, mm."""
    identity_basis: Tensor
    """[V, 3, I] mm per standard deviation."""
    expression_basis: Tensor
    """[V, 3, E] mm per unit (named expressions: fully on = 1; unnamed: one standard deviation)."""
    expression_names: tuple[str, ...]
    """E names; ARKit names where the model has them, `expression_00` … where it does not."""
    expressions_are_named: bool
    """True: coefficients live in [0, 1]. False: unit variance around 0."""
    albedo_mean: Tensor
    """[V, 3] linear RGB in [0, 1]."""
    albedo_basis: Tensor
    """[V, 3, A] per standard deviation."""
    triangles: Tensor
    """[F, 3] int64, counter-clockwise from outside."""
    uv: Tensor
    """[T, 2] the model's own texture coordinates, origin bottom-left."""
    uv_triangles: Tensor
    """[F, 3] int64 rows of `uv`."""
    landmarks: LandmarkEmbedding
    """iBUG-68, as detectors find them."""
    mediapipe: LandmarkEmbedding | None
    """MediaPipe landmarks of the model, or None."""
    mediapipe_indices: tuple[int, ...]
    """Which of MediaPipe's 478 points `mediapipe` embeds, in its order."""
    regions: dict[str, Tensor]
    """Boolean [V] masks, at least those of `REGIONS`."""
    atlas_uv: Tensor
    """[V, 2] the maps' own coordinates in [0, 1]², origin bottom-left: no flipped triangle, half of the square is face."""
    atlas_triangles: Tensor
    """[Fa, 3] int64: the triangles that take part in the maps (outer skin; no eyeballs, no inside of the mouth)."""
    source: dict[str, str] = field(default_factory=dict)
    """Where the model came from (file names, checksums, licence), for the result's record."""
    marked: LandmarkEmbedding | None = None
    """iBUG-68, as people mark them on a scan; None where that is not known to differ from `landmarks`."""

    @property
    def vertex_count(self) -> int:
        """Number of vertices V."""
        return self.mean.shape[0]

    @property
    def hidden(self) -> Tensor:
        """Boolean [V]: eye sockets, inside of the mouth, tongue."""
        found = self.regions["mouth_inside"].clone()
        for name in ("sockets", "tongue"):
            if name in self.regions:
                found |= self.regions[name]
        return found

    @property
    def outer_triangles(self) -> Tensor:
        """[F', 3] int64: those that can be seen. A closest point is asked of these: the inside of a cheek lies near, too."""
        return self.triangles[~self.hidden[self.triangles].all(1)]

    def shape(self, identity: Tensor, expression: Tensor) -> Tensor:
        """Vertices [..., V, 3], mm, of identity [..., I] and expression [..., E] coefficients."""
        offsets = identity @ self.identity_basis.flatten(0, 1).T + expression @ self.expression_basis.flatten(0, 1).T
        return self.mean + offsets.unflatten(-1, (-1, 3))

    def landmarks_as_set_by(self, *, people: bool) -> LandmarkEmbedding:
        """iBUG-68 where people mark them on a scan, or where a detector finds them in photographs."""
        return self.marked if people and self.marked is not None else self.landmarks

    def albedo(self, coefficients: Tensor) -> Tensor:
        """Vertex albedo [..., V, 3], linear RGB, of albedo coefficients [..., A]."""
        offsets = (coefficients @ self.albedo_basis.flatten(0, 1).T).unflatten(-1, (-1, 3))
        return (self.albedo_mean + offsets).clamp(0.0, 1.0)

    def to(self, *args, **kwargs) -> MorphableModel:
        """Move all tensors; a dtype changes the floating ones only."""

        def move(value):
            if isinstance(value, Tensor):
                moved = value.to(*args, **kwargs)
                return moved if value.is_floating_point() else moved.to(value.dtype)
            if isinstance(value, LandmarkEmbedding):
                return LandmarkEmbedding(move(value.vertices), move(value.weights))
            if isinstance(value, dict):
                return {key: move(item) for key, item in value.items()}
            return value

        return replace(self, **{f.name: move(getattr(self, f.name)) for f in fields(self)})
