"""The energies of an Adam stage by name: each is one function of the scene and of its own settings.

To add an energy, write a function whose first argument is the scene, and put it into `ENERGIES`; the keyword arguments
are its settings in a configuration. Colours are compared relative to the face's own brightness in its photograph, on a
square-root scale: there, the noise of a camera is about the same everywhere, and a dark face counts like a bright one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from fitter.camera import clip_from_camera, project, transform_points
from fitter.energies.channel import discriminant_channels, highlight_trust
from fitter.energies.consistency import consistency_terms
from fitter.energies.contour import LOWER_PART, contour_energy
from fitter.energies.landmark import ibug68_weights, landmark_energy
from fitter.energies.laplacian_deformation import laplacian_deformation_energy, vertex_graph
from fitter.energies.perceptual import LpipsEnergy, RecognitionEnergy
from fitter.energies.photometric import photometric_energy, robust_photometric_energy
from fitter.energies.regularise import bilaplacian_energy, gaussian_prior
from fitter.energies.regularise import displacement_l1 as mean_absolute
from fitter.energies.regularise import total_variation as map_variation
from fitter.errors import InputError
from fitter.hierarchy.people import people_of
from fitter.hierarchy.samples import SurfaceSamples, surface_samples
from fitter.kernels.surface import vertex_normals
from fitter.optimise.observation import Signal, sample_image
from fitter.optimise.scene import Scene
from fitter.optimise.views import sampled_colours, surface_geometry, view_visibility
from fitter.render import MeshTopology, Render, antialias, interpolate, rasterize
from fitter.texture.colour import linear_to_srgb

Levels = Sequence[str]


def _relative(scene: Scene, linear: Tensor) -> Tensor:
    """Colours [N, S, S, 3] relative to the face's brightness, on a square-root scale."""
    relative = linear / scene.inputs.brightness[:, None, None, None]
    return relative.clamp_min(1e-3).sqrt()


def _attention(scene: Scene, render: Render) -> Tensor:
    """[N, S, S] where the render shows attended skin and the photograph is usable; a constant."""
    seen = render.triangle_id.long()
    return (scene.inputs.attended[seen.clamp_min(0)] & (seen >= 0)) * scene.inputs.crops.usable


def _overlap(scene: Scene, resolution: int = 96) -> Tensor:
    """[N, Q, Q] on the atlas: how well all *other* views see each point, from the surface at the stage's start."""
    parts = scene.inputs.parts
    if "overlap" not in parts:
        samples, weights = view_weights(scene, resolution)
        grids = samples.to_grid(weights.T).permute(2, 0, 1)
        parts["overlap"] = grids.sum(0, keepdim=True) - grids
    return parts["overlap"]


@torch.no_grad()
def view_weights(scene: Scene, resolution: int):
    """Surface samples of an atlas grid, and how well each view sees them [N, K] at the stage's start."""
    inputs = scene.inputs
    samples = surface_samples(inputs.model, resolution)
    weights = []
    normals = vertex_normals(inputs.start_vertices, inputs.topology)
    for view in range(inputs.start.view_count):
        row = inputs.start.expression_row(view)
        vertices = inputs.start_vertices[row]
        photograph = inputs.observation.level(view, 384)
        weight, _, _ = view_visibility(
            inputs.start, view, vertices, inputs.topology, samples.interpolate(vertices),
            torch.nn.functional.normalize(samples.interpolate(normals[row]), dim=-1), photograph,
        )  # fmt: skip
        weights.append(weight * samples.usable)
    return samples, torch.stack(weights)


def photometric(scene: Scene, *, levels: Levels = ("m1",)) -> Tensor:
    """HRN's photometric loss: mean colour distance over the skin, summed over the levels."""
    observed = _relative(scene, scene.inputs.crops.colour)
    renders = scene.renders(levels)
    return sum(photometric_energy(_relative(scene, r.colour), observed, _attention(scene, r)) for r in renders)


def robust_photometric(
    scene: Scene, *, levels: Levels = ("m1",), scale: float = 0.15, single_view: bool = True
) -> Tensor:
    """Geman-McClure photometric energy; highlights and stubble count as outliers.

    Args:
        scene: The evaluation.
        levels: Which renders.
        scale: Relative colour difference that counts one half.
        single_view: Weight a pixel by 1 / (1 + how well the other views see it): where views overlap, photo-consistency
            knows better (it hurts there if weighted alike).
    """
    total = scene.inputs.crops.zoom.new_zeros(())
    observed = _relative(scene, scene.inputs.crops.colour)
    for render in scene.renders(levels):
        weights = _attention(scene, render)
        if single_view and scene.state.view_count > 1:
            grid = render.uv.detach() * 2.0 - 1.0
            others = torch.nn.functional.grid_sample(_overlap(scene)[:, None], grid, align_corners=False)[:, 0]
            weights = weights / (1.0 + others)
        total = total + robust_photometric_energy(_relative(scene, render.colour), observed, weights, scale=scale)
    return total


def _encoded(scene: Scene, render: Render) -> tuple[Tensor, Tensor, Tensor]:
    """Render and photograph, sRGB-encoded, and the mask of the face."""
    images = (linear_to_srgb(linear.clamp(0.0, 1.0)) for linear in (render.colour, scene.inputs.crops.colour))
    return (*images, _attention(scene, render))


def perceptual(scene: Scene, *, levels: Levels = ("m1",), backbone: str = "alex") -> Tensor:
    """LPIPS distance inside of the face; needs the package lpips."""
    parts = scene.inputs.parts
    if "lpips" not in parts:
        parts["lpips"] = LpipsEnergy(backbone, scene.inputs.crops.colour)
    return sum(parts["lpips"](*_encoded(scene, render)) for render in scene.renders(levels))


def recognition(scene: Scene, *, state: str, levels: Levels = ("m1",)) -> Tensor:
    """Distance of identity embeddings; `state` is the path of a face-recognition network's safetensors state."""
    inputs = scene.inputs
    if inputs.observation.landmarks is None or inputs.observation.landmark_scheme != "ibug68":
        raise InputError("energy 'recognition'", "no iBUG-68 landmarks to align the face with", "68 points per view")
    if "recognition" not in inputs.parts:
        try:
            tensors = {name: value.to(inputs.crops.colour) for name, value in load_file(state).items()}
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(state, f"no readable safetensors file ({error})", "a recognition network") from error
        inputs.parts["recognition"] = RecognitionEnergy.from_state(tensors, state)
    points = inputs.crops.pixels(inputs.observation.landmarks)
    total = inputs.crops.zoom.new_zeros(())
    for render in scene.renders(levels):
        rendered, observed, mask = _encoded(scene, render)
        total = total + inputs.parts["recognition"](rendered, observed, points, mask)
    return total


def _landmark_targets(scene: Scene) -> tuple[Tensor, Tensor]:
    """Detected points [N, L, 2] and confidences [N, L] in the order of the model's."""
    observation = scene.inputs.observation
    if observation.landmarks is None:
        raise InputError("energy 'landmark'", "a session without landmarks", "landmarks beside each photograph")
    targets, confidence = observation.landmarks, observation.landmark_confidence
    count = scene.landmarks.shape[1]
    if observation.landmark_scheme != "ibug68" and targets.shape[1] != count:
        chosen = list(scene.inputs.model.mediapipe_indices)
        targets, confidence = targets[:, chosen], confidence[:, chosen]
    return targets, confidence


def landmark(scene: Scene, *, jaw: float = 1.0, emphasis: float = 1.0) -> Tensor:
    """Mean squared landmark distance in units of the distance of the eyes, with a jaw that slides.

    Args:
        scene: The evaluation.
        jaw: Weight of the 17 jaw points.
        emphasis: Weight of nose and inner mouth (20 in Deng et al. 2019 and HRN).
    """
    targets, confidence = _landmark_targets(scene)
    state, model = scene.state, scene.inputs.model
    weights = scene.choices.landmark_weight
    if scene.inputs.observation.landmark_scheme == "ibug68":
        weights = weights * ibug68_weights(scene.landmarks, jaw=jaw, emphasis=emphasis)
    # Eyes' distance in the photograph, were it seen from the front: a turned head weighs no more.
    eyes = model.landmarks(model.mean)
    apart = (eyes[36:42].mean(0) - eyes[42:48].mean(0)).norm()
    depth = transform_points(scene.inputs.start.cam_from_world, state.world_from_model[:3, 3].detach())[:, 0, 2]
    scale = (apart * state.intrinsics[:, 0, 0] / depth).detach()
    return landmark_energy(scene.landmarks, targets, confidence, weights, scale=scale)


def contour(scene: Scene, *, margin: float = 0.01, lower_part: float = LOWER_PART) -> Tensor:
    """HRN eq. 1-2: M1's outline to the edges of the face mask; margin and lower part as fractions of the crop."""
    size = (scene.inputs.crops.size, scene.inputs.crops.size)
    points = scene.crop_pixels()[:, scene.inputs.covered]
    return contour_energy(points, scene.inputs.edges, size, margin=margin, lower_part=lower_part)


def silhouette(scene: Scene, *, lower_part: float = LOWER_PART) -> Tensor:
    """Mean squared difference of the projected face's coverage, edges antialiased, and the face mask."""
    inputs, size = scene.inputs, (scene.inputs.crops.size, scene.inputs.crops.size)
    if "face_topology" not in inputs.parts:
        triangles = inputs.model.triangles[inputs.covered[inputs.model.triangles].all(-1)]
        inputs.parts["face_topology"] = MeshTopology.from_triangles(triangles, inputs.model.vertex_count)
    topology = inputs.parts["face_topology"]
    cam = transform_points(scene.state.cam_from_world, scene.view_vertices)
    projection = clip_from_camera(inputs.crops.intrinsics(scene.state.intrinsics), size)
    clip = torch.cat([cam, torch.ones_like(cam[..., :1])], -1) @ projection.transpose(-1, -2)
    fragments = rasterize(clip, topology, size)
    ones = interpolate(torch.ones_like(clip[..., :1]), fragments, topology)
    coverage = antialias(ones.contiguous(), fragments, clip, topology)[..., 0]
    # Only rows whose both edges are known: elsewhere the mask is the model's own outline.
    trust = torch.minimum(inputs.edges.left_weight, inputs.edges.right_weight)
    rows = trust.new_ones(size[0]).cumsum(0) > lower_part * size[0]
    weight = (trust * rows)[:, :, None].expand_as(coverage)
    return (weight * (coverage - inputs.masks).square()).sum() / weight.sum().clamp_min(1.0)


def total_variation(scene: Scene, *, deformation: float = 1.0, displacement: float = 0.0) -> Tensor:
    """Mean slope of the maps, mm per mm; one weight per map."""
    inputs, total = scene.inputs, scene.state.log_scale.new_zeros(())
    if deformation:
        total = total + deformation * map_variation(scene.state.deformation, inputs.deformation_texel_mm)
    if displacement:
        total = total + displacement * map_variation(scene.displacement[:, None], inputs.displacement_texel_mm)
    return total


def bilaplacian(
    scene: Scene, *, deformation: float = 1.0, displacement: float = 0.0, around_start: bool = False
) -> Tensor:
    """Mean squared curvature of the maps, (1 / mm)²; one weight per map.

    Of the deformation map itself, or (`around_start`) of what the stage adds to it.
    """
    inputs, total = scene.inputs, scene.state.log_scale.new_zeros(())
    if deformation:
        field = _deformation(scene, around_start)
        total = total + deformation * bilaplacian_energy(field, inputs.deformation_texel_mm)
    if displacement:
        total = total + displacement * bilaplacian_energy(scene.displacement[:, None], inputs.displacement_texel_mm)
    return total


def deformation_symmetry(scene: Scene) -> Tensor:
    """Mean squared distance (mm²) of the deformation from its mirror image.

    A face turned to the side shows one half; what that half asks for is the best guess of the other. The atlas is
    symmetric about u = 1/2, and the model's x axis is the one that changes sign.
    """
    field = scene.state.deformation
    mirrored = field.flip(-1) * field.new_tensor([-1.0, 1.0, 1.0])[:, None, None]
    return (field - mirrored).square().sum(0).mean()


def deformation_magnitude(scene: Scene, *, around_start: bool = False) -> Tensor:
    """Mean squared offset of M1 from M0, mm²: keeps what no energy sees at M0, or (`around_start`) where it began."""
    return _deformation(scene, around_start).square().sum(0).mean()


def _deformation(scene: Scene, around_start: bool) -> Tensor:
    """The deformation map, or what the stage has added to it."""
    return scene.state.deformation - scene.inputs.start.deformation if around_start else scene.state.deformation


def displacement_l1(scene: Scene) -> Tensor:
    """HRN's L_reg: mean absolute displacement, mm."""
    return mean_absolute(scene.displacement)


def laplacian_deformation(scene: Scene, *, landmarks: float = 1.0) -> Tensor:
    """Jin et al. 2021, eq. 2-3, towards the detected landmarks, raised to the depth at which the stage began.

    Divided by the number of vertices.
    """
    inputs = scene.inputs
    if inputs.observation.landmark_scheme != "ibug68":
        raise InputError("energy 'laplacian_deformation'", "landmarks of another scheme", "iBUG-68 landmarks")
    if "graph" not in inputs.parts:
        inputs.parts["graph"] = vertex_graph(inputs.model.triangles, inputs.model.vertex_count)
    targets, confidence = _landmark_targets(scene)
    corner = inputs.model.landmarks.weights.argmax(-1, keepdim=True)
    inner = inputs.model.landmarks.vertices.gather(1, corner)[:, 0]
    total = scene.state.log_scale.new_zeros(())
    for view in range(scene.state.view_count):
        row = scene.state.expression_row(view)
        vertices = inputs.start_vertices[row]
        chosen = torch.cat([scene.choices.jaw_vertices[view], inner[17:]])
        camera, intrinsics = inputs.start.cam_from_world[view], inputs.start.intrinsics[view]
        cam = transform_points(camera, vertices[chosen])
        pixels = targets[view].nan_to_num()  # what has no confidence has no weight
        rays = torch.cat([pixels, torch.ones_like(pixels[:, :1])], -1) @ torch.linalg.inv(intrinsics).T
        goal = transform_points(torch.linalg.inv(camera), rays * cam[:, 2:])
        weights = landmarks * confidence[view] * scene.choices.landmark_weight[view]
        energy = laplacian_deformation_energy(
            scene.vertices[row], vertices, inputs.parts["graph"], chosen, goal, weights
        )
        total = total + energy / inputs.model.vertex_count
    return total


def identity_prior(scene: Scene, *, sigma: float = 1.0, around_people: bool = False) -> Tensor:
    """Gaussian prior of the identity around the mean face, or around that of scanned people where it is another."""
    people = people_of(scene.inputs.model) if around_people else None
    return gaussian_prior(scene.state.identity, sigma, 0.0 if people is None else people.identity)


def expression_prior(scene: Scene, *, sigma: float = 0.3, around_start: bool = False) -> Tensor:
    """Gaussian prior of the expressions, around zero or around the stage's start."""
    return gaussian_prior(scene.state.expression, sigma, scene.inputs.start.expression if around_start else 0.0)


def albedo_prior(scene: Scene, *, sigma: float = 1.0) -> Tensor:
    """Gaussian prior of the albedo around the model's mean."""
    return gaussian_prior(scene.state.albedo, sigma)


@torch.no_grad()
def _compared(scene: Scene, samples: SurfaceSamples, image: int, lowpass: float) -> tuple[Tensor, tuple[Signal, ...]]:
    """How well each view sees the samples [N, S, S], and the channels that are compared, from the stage's start."""
    inputs = scene.inputs
    geometry = surface_geometry(inputs.model, inputs.start, inputs.topology)
    colours, weight = sampled_colours(inputs.start, inputs.observation, samples, geometry, inputs.topology, image)
    grids = samples.to_grid(colours.transpose(0, 1)).permute(2, 3, 0, 1)
    seen = samples.to_grid(weight.T).permute(2, 0, 1)
    channels = inputs.start.mixtures
    if channels.shape[0] == 0:
        channels = discriminant_channels(grids, seen, lowpass)
    signals = inputs.observation.signals(image, channels)
    return seen * highlight_trust(grids, seen), signals


def consistency(
    scene: Scene, *, samples: int = 96, image: int = 384, mode: str = "gain", lowpass: float = 8.0,
    window: float = 4.0, sigma: float = 0.9,
) -> Tensor:  # fmt: skip
    """Photo-consistency of the views on the atlas; zero where there is one view only.

    The Gauss-Newton stages minimise the same energy, sooner; here it stands beside rendered energies.
    """
    inputs, state = scene.inputs, scene.state
    if state.view_count < 2:
        return state.log_scale.new_zeros(())
    points = surface_samples(inputs.model, samples)
    key = f"consistency {samples} {image}"
    if key not in inputs.parts:
        inputs.parts[key] = _compared(scene, points, image, lowpass)
    seen, signals = inputs.parts[key]
    values = []
    for view, signal in enumerate(signals):
        world = points.interpolate(scene.vertices[state.expression_row(view)])
        pixels = project(transform_points(state.cam_from_world[view], world), state.intrinsics[view])
        values.append(sample_image(signal.image[: signal.channel_count], pixels * signal.scale))
    grids = points.to_grid(torch.stack(values, 1)).permute(3, 2, 0, 1)
    terms = []
    for channel in grids:
        first = terms[0] if terms else None
        terms.append(
            consistency_terms(channel, seen, mode=mode, lowpass=lowpass, window=window, sigma=sigma, beside=first)
        )
    return torch.stack([one.energy for one in terms]).sum()


ENERGIES: dict[str, Callable[..., Tensor]] = {
    function.__name__: function
    for function in (
        photometric, robust_photometric, perceptual, recognition, landmark, contour, silhouette, total_variation,
        bilaplacian, deformation_magnitude, deformation_symmetry, displacement_l1, laplacian_deformation,
        identity_prior, expression_prior,
        albedo_prior, consistency,
    )
}  # fmt: skip


def check_settings(energies: Mapping[str, Mapping[str, Any]], stage: str) -> frozenset[str]:
    """Refuse unknown energies and settings, and tell which levels have to be rendered.

    Raises:
        InputError: An unknown energy, or a setting that it does not have, or no weight.
    """
    levels: set[str] = set()
    for name, settings in energies.items():
        place = f"stage '{stage}', energy '{name}'"
        if name not in ENERGIES:
            raise InputError(place, "no Adam energy of this name", ", ".join(ENERGIES), "Correct the name.")
        parameters = inspect.signature(ENERGIES[name]).parameters
        known = [key for key in parameters if key != "scene"]
        unknown = [key for key in settings if key not in known and key != "weight"]
        if unknown or "weight" not in settings:
            found = f"the unknown setting '{unknown[0]}'" if unknown else "no weight"
            raise InputError(place, found, ", ".join(["weight", *known]), "Correct the configuration.")
        if "levels" in parameters:
            levels.update(settings.get("levels", parameters["levels"].default))
    if levels - {"m1", "m2"}:
        raise InputError(f"stage '{stage}'", f"levels {sorted(levels)}", "m1, m2", "Correct the configuration.")
    return frozenset(levels)


def evaluate(scene: Scene, energies: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """Every energy of the stage, times its weight."""
    values = {}
    for name, settings in energies.items():
        own = {key: value for key, value in settings.items() if key != "weight"}
        values[name] = float(settings["weight"]) * ENERGIES[name](scene, **own)
    return values
