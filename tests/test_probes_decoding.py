"""Probes that decode, on decoders that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from stratagem.inference.probes import (
    Analogy,
    Clusters,
    Depth,
    Interpolation,
    Search,
    Space,
    Transfer,
    Traversal,
)
from stratagem.inference.probes.distance import EditDistance, EmbeddingDistance
from stratagem.inference.probes.interpolation import _pairs as ends_of
from stratagem.inference.probes.paths import linear, spherical
from stratagem.inference.probes.searches import Evolution, SearchStep, SmoothedGradient
from stratagem.inference.probes.subspace import codes, matrix_subspace
from stratagem.models import Categorical, Dirichlet, Normal, RelaxedCategorical, TextEncoder, VonMisesFisher
from torch.nn.functional import normalize

from .encoder_fixtures import save_encoder
from .probe_fixtures import KnownCoder, exactly, known_space, rounded


def words(text: str) -> list[int]:
    return [ord(word) for word in text.split()]


def normal(count: int = 40, size: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def test_the_edit_distance_is_a_metric() -> None:
    distance = EditDistance(words)
    # ab -> ba takes two edits: 2 * 2 / (2 + 2 + 2)
    np.testing.assert_allclose(distance(["a b", "a", "", "a b"], ["b a", "", "", "a b"]), [2 / 3, 1, 0, 0])
    rng = np.random.default_rng(0)
    a, b, c = ([" ".join(rng.choice(list("ab"), rng.integers(5))) for _ in range(300)] for _ in range(3))
    assert (distance(a, c) <= distance(a, b) + distance(b, c) + 1e-12).all()
    np.testing.assert_allclose(distance(a, b), distance(b, a))


def test_the_embedding_distance_is_half_that_of_directions(tmp_path: Path) -> None:
    encoder = TextEncoder(str(save_encoder(tmp_path, "bert")))
    found = EmbeddingDistance(encoder)(["sort 1", "sort 2 3"], ["sort 1", "4"])
    hidden, _ = encoder(None, ["sort 2 3"])
    other, _ = encoder(None, ["4"])
    expected = (normalize(hidden[0].mean(0), dim=0) - normalize(other[0].mean(0), dim=0)).norm() / 2
    np.testing.assert_allclose(found, [0, float(expected)], atol=1e-6)
    assert 0 < found[1] <= 1


def test_ways_begin_and_end_where_they_should_in_even_steps() -> None:
    rng = np.random.default_rng(0)
    first, last = rng.normal(size=(2, 5, 3))
    for way in (linear, spherical):
        points = way(first, last, 6)
        np.testing.assert_allclose(points[:, 0], first, atol=1e-12)
        np.testing.assert_allclose(points[:, -1], last, atol=1e-12)
    np.testing.assert_allclose(np.ptp(np.diff(linear(first, last, 6), axis=1), axis=1), 0, atol=1e-12)
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (first, last)]
    circle = spherical(*unit, 6)
    np.testing.assert_allclose(np.linalg.norm(circle, axis=-1), 1)
    np.testing.assert_allclose(np.ptp((circle[:, 1:] * circle[:, :-1]).sum(-1), axis=1), 0, atol=1e-12)


def test_opposite_points_are_joined_on_the_sphere() -> None:
    points = spherical(np.array([[1.0, 0, 0]]), np.array([[-1.0, 0, 0]]), 5)[0]
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1)
    np.testing.assert_allclose(points[2] @ points[0], 0, atol=1e-12)
    straight = spherical(np.zeros((1, 2)), np.array([[2.0, 0]]), 3)[0]
    np.testing.assert_allclose(straight, [[0, 0], [1, 0], [2, 0]], atol=1e-12)


@pytest.mark.parametrize("latent", [Dirichlet(3), RelaxedCategorical(3)])
def test_the_weights_nearest_to_a_point_are_nearer_than_all_others(
    latent: Dirichlet | RelaxedCategorical,
) -> None:
    points = 1.5 * normal(50, 3)
    found = latent.nearest(points)
    latent.features(found)
    others = torch.distributions.Dirichlet(torch.full((3,), 0.5)).sample((400,))
    assert ((points - found).norm(dim=1) <= torch.cdist(points, others).min(1).values + 1e-6).all()
    torch.testing.assert_close(latent.nearest(found), found)


def test_a_way_whose_decodings_go_straight_is_smooth() -> None:
    z = torch.tensor([[0.0], [8.0]])
    # k a's behind 8 - k b's: each step replaces one token
    space = known_space(KnownCoder(z, lambda v, _: " ".join(["1"] * round(v[0]) + ["2"] * (8 - round(v[0])))))
    found = Interpolation(pairs=3, steps=9)(space)
    steps = 8 * (2 / 17)  # one edit between texts of 8 tokens
    assert found.figures["interpolation/smoothness"] == pytest.approx((16 / 24) / steps)
    assert found.figures["interpolation/changes"] == 1
    assert found.figures["interpolation/quality"] == 1
    assert found.figures["interpolation/quality_exchanged"] == pytest.approx(1 - 16 / 24)
    assert len(found.rows) == 27
    assert found.picture is not None


def test_one_jump_is_smooth_and_a_detour_is_not() -> None:
    z = torch.tensor([[0.0], [1.0]])
    jump = known_space(KnownCoder(z, rounded))
    found = Interpolation(pairs=2, steps=6)(jump).figures
    assert found["interpolation/smoothness"] == 1
    assert found["interpolation/changes"] == pytest.approx(1 / 5)
    detour = known_space(KnownCoder(z, lambda v, _: "0" if v[0] == 0 else "1" if v[0] == 1 else "2 2 2"))
    assert Interpolation(pairs=2, steps=3)(detour).figures["interpolation/smoothness"] < 0.7


def test_decodings_that_never_change_have_no_smoothness() -> None:
    found = Interpolation(pairs=2)(known_space(KnownCoder(normal(), lambda *_: "1"))).figures
    assert found["interpolation/changes"] == 0
    assert "interpolation/smoothness" not in found


def test_directions_are_joined_by_directions() -> None:
    coder = KnownCoder(normalize(normal(), dim=1), exactly, VonMisesFisher(3))
    Interpolation(pairs=4, steps=5)(known_space(coder))
    z, index, temperature = coder.decoded[0]
    torch.testing.assert_close(z.norm(dim=1), torch.ones(20))
    angles = (z.unflatten(0, (4, 5))[:, 1:] * z.unflatten(0, (4, 5))[:, :-1]).sum(-1).clamp(max=1).acos()
    torch.testing.assert_close(angles, angles[:, :1].expand(-1, 4), atol=1e-3, rtol=0)
    assert index[::5] == index[4::5]
    assert temperature == 0


@pytest.mark.parametrize("over", ["router", "posterior"])
def test_a_traversal_changes_what_its_coordinate_does(over: str) -> None:
    z = normal(400, 3)
    coder = KnownCoder(
        z, lambda v, _: rounded(10 * v[:1]), router=lambda s, r: 2 * normal(s * r).reshape(s, r, 3)
    )
    found = Traversal(over=over, share=0.8, texts=2, steps=5)(known_space(coder))
    assert found.figures["traversal/z[0]"] == pytest.approx(2 / 3)
    assert found.figures["traversal/z[1]"] == found.figures["traversal/z[2]"] == 0
    high = max(float(row["value"]) for row in found.rows)
    assert high == pytest.approx(1.28 * (2 if over == "router" else 1), abs=0.25)
    moved = coder.decoded[0][0].reshape(2, 3, 5, 3)
    torch.testing.assert_close(moved[0, 0, :, 1:], z[0, 1:].expand(5, 2))


def test_offsets_that_mean_the_same_everywhere_are_analogies() -> None:
    rng = np.random.default_rng(0)
    colour, size = rng.integers(2, size=(2, 200))
    z = torch.tensor(np.stack([4.0 * colour, 4.0 * size], 1) + 0.1 * rng.normal(size=(200, 2))).float()
    tasks = {
        "colour": lambda text: "rb"[text.split()[0] != "0"],
        "size": lambda text: "sl"[text.split()[1] != "0"],
    }
    coder = KnownCoder(z, lambda v, _: rounded(v / 4), named=tasks)
    space = known_space(coder, colour=["rb"[c] for c in colour], size=["sl"[s] for s in size])
    found = Analogy(quadruples=50)(space).figures
    for label, other in (("colour", "size"), ("size", "colour")):
        assert found[f"analogy/{label}/success"] == 1
        assert found[f"analogy/{label}/unmoved"] == 0
        assert found[f"analogy/{label}/parallel_over_{other}"] > 0.99
    assert found["analogy/nearest/colour_size"] == 1
    assert found["analogy/nearest/colour_size_chance"] < 0.4
    # labels that only the given texts have are read from the z of the new ones
    coder.labels, coder.written = {}, exactly
    assert Analogy(quadruples=50)(space).figures["analogy/colour/success"] == 1


def test_offsets_that_mean_the_opposite_elsewhere_are_not() -> None:
    colour, size = np.tile([0, 1, 0, 1], 30), np.tile([0, 0, 1, 1], 30)
    z = torch.tensor(np.stack([np.where(colour == size, 1.0, -1.0), 4.0 * size], 1)).float()
    space = known_space(
        KnownCoder(z, exactly), colour=["rb"[c] for c in colour], size=["sl"[s] for s in size]
    )
    assert Analogy()(space).figures["analogy/colour/parallel_over_size"] == pytest.approx(-1)


def test_the_subspace_of_labels_is_found() -> None:
    rng = np.random.default_rng(0)
    truth = np.linalg.qr(rng.normal(size=(6, 6)))[0][:3]
    y = codes(list(rng.choice(list("abcd"), 20000)), list("abcd"))
    corners = np.unique(np.round(y, 9), axis=0)
    np.testing.assert_allclose(corners @ corners.T, np.eye(4) - 0.25, atol=1e-8)
    z = 3 + y @ truth + 0.5 * rng.normal(size=(20000, 6)) @ (np.eye(6) - truth.T @ truth)
    M = matrix_subspace(z, y)
    np.testing.assert_allclose(M @ M.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(M, truth, atol=0.05)
    turned = M @ np.linalg.qr(np.eye(6) + 0.1 * rng.normal(size=(6, 6)))[0]
    centred = z - z.mean(0), y - y.mean(0)
    assert loss(M, *centred) < loss(turned, *centred)


def loss(M: np.ndarray, z: np.ndarray, y: np.ndarray) -> float:
    within = z @ M.T
    return float(((within - y) ** 2).sum() + ((z - within @ M) ** 2).sum())


def test_a_transfer_changes_one_label_and_keeps_the_other() -> None:
    rng = np.random.default_rng(0)
    colour, size = rng.integers(3, size=200), rng.integers(2, size=200)
    corners = np.array([[0.0, 0], [4, 0], [0, 4]])
    z = torch.tensor(
        np.concatenate([corners[colour], 4.0 * size[:, None], rng.normal(size=(200, 1))], 1)
    ).float()
    tasks = {
        "colour": lambda text: {"0 0": "r", "1 0": "g", "0 1": "b"}.get(
            " ".join(text.split()[:2]), "unknown"
        ),
        "size": lambda text: "sl"[text.split()[2] != "0"],
    }
    coder = KnownCoder(z, lambda v, _: rounded(v[:3] / 4), named=tasks)
    space = known_space(coder, colour=["rgb"[c] for c in colour], size=["sl"[s] for s in size])
    found = Transfer(texts=20)(space)
    for label, other in (("colour", "size"), ("size", "colour")):
        assert found.figures[f"transfer/{label}/success"] == 1
        assert found.figures[f"transfer/{label}/unmoved"] == 0
        assert found.figures[f"transfer/{label}/kept_{other}"] == 1
        assert 0 < found.figures[f"transfer/{label}/moved"] < 1
    assert len(found.rows) == 20 * 2 + 20
    with pytest.raises(ValueError, match=r"colour has 3 values, which take 2 coordinates, and z has 1; give"):
        Transfer()(known_space(KnownCoder(z[:, :1], exactly), colour=["rgb"[c] for c in colour]))


@pytest.mark.parametrize("kind", [Evolution, SmoothedGradient])
def test_a_search_finds_the_top_of_a_hill(kind: type[Evolution | SmoothedGradient]) -> None:
    top = np.array([[3.0, -2.0, 0.5], [0.0, 0.0, -4.0]])
    step = kind(2, 3, 16, np.random.default_rng(0))
    for _ in range(60):
        points = step.propose()
        step.learn(points, -(((points - top[:, None]) * [1, 3, 1]) ** 2).sum(-1))
    far = np.linalg.norm(step.mean - top, axis=1)
    assert (far < (0.01 if kind is Evolution else 0.5)).all()


@pytest.mark.parametrize("kind", [Evolution, SmoothedGradient])
def test_a_flat_reward_leaves_numbers_finite(kind: type[SearchStep]) -> None:
    step = kind(1, 2, 8, np.random.default_rng(0))
    for _ in range(50):
        points = step.propose()
        assert np.isfinite(points).all()
        step.learn(points, np.zeros((1, 8)))


def test_the_smoothed_gradient_is_that_of_the_mean_reward() -> None:
    """Of a linear reward, whose gradient over its standard deviation is a unit vector."""
    slope, width = np.array([3.0, -4.0]), 0.5
    step = SmoothedGradient(1, 2, 200_000, np.random.default_rng(0), width=width)
    points = step.propose()
    step.learn(points, points @ slope + 7)
    np.testing.assert_allclose(step.mean[0], width * slope / 5, atol=0.01)


def hill(_: str, response: str) -> float:
    return -sum((float(word) - 2.5) ** 2 for word in response.split())


def search(**settings: object) -> Search:
    return Search(f"{__name__}.hill", **{"texts": 3, **settings})


def router(draws: int, rows: int) -> torch.Tensor:
    return normal(draws * rows, 2, seed=draws).reshape(draws, rows, 2)


@pytest.mark.parametrize("method", ["evolution", "gradient"])
def test_a_search_beats_as_many_draws(method: str) -> None:
    found = search(method=method, rounds=20)(known_space(KnownCoder(normal(5, 2), exactly, router=router)))
    assert found.figures["search/decodings"] == 320
    assert found.figures["search/router"] == pytest.approx(-2 * (2.5**2 + 1), abs=1)
    assert found.figures["search/found"] > -0.1 > found.figures["search/best_of_router"]
    assert found.figures["search/gain"] == pytest.approx(
        found.figures["search/found"] - found.figures["search/best_of_router"]
    )
    assert len(found.rows) == 3


def test_all_values_are_tried_where_they_can_be() -> None:
    coder = KnownCoder(
        torch.zeros(5, dtype=torch.long),
        lambda v, _: str(int(v)),
        Categorical(4),
        router=lambda s, r: torch.zeros(s, r, dtype=torch.long),
    )
    found = search()(known_space(coder))
    assert found.figures["search/decodings"] == 4
    assert found.figures["search/found"] == -0.25
    assert found.figures["search/router"] == found.figures["search/best_of_router"] == -6.25
    assert {row["z"] for row in found.rows} <= {"2", "3"}


def test_what_noise_has_chosen_is_judged_afresh() -> None:
    rng = np.random.default_rng(0)
    coder = KnownCoder(normal(5, 2), lambda *_: str(rng.normal()), router=router)
    found = search(temperature=1.0, fresh=200)(known_space(coder)).figures
    assert found["search/found"] == pytest.approx(-(2.5**2 + 1), abs=1)
    assert found["search/best_of_router"] == pytest.approx(-(2.5**2 + 1), abs=1)
    assert {temperature for *_, temperature in coder.decoded} == {1.0}


def test_a_label_is_read_where_it_is() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(2, size=100)
    states = [rng.normal(size=(100, 3, 4)) for _ in range(2)]
    states[0][:, 1, 2] = label
    coder = KnownCoder(normal(100, 2), exactly, states=states)
    found = Depth(bins=2)(known_space(coder, kind=["ab"[k] for k in label]))
    assert found.figures["depth/kind/best"] == 1
    assert (found.figures["depth/kind/best_layer"], found.figures["depth/kind/best_position"]) == (0, 1)
    assert found.figures["depth/kind/z"] < 0.7
    assert [list(row) for row in found.rows] == [["label", "layer", "prompt", "0%-50%", "50%-100%"]] * 2
    assert all(float(row["prompt"]) < 0.7 for row in found.rows)


def test_groups_that_lie_apart_have_a_silhouette_near_one() -> None:
    rng = np.random.default_rng(0)
    kind = rng.integers(2, size=60)
    z = torch.tensor(20.0 * kind[:, None] + rng.normal(size=(60, 3))).float()
    mixed = [str(k) for k in rng.integers(2, size=60)]
    found = Clusters()(known_space(KnownCoder(z, exactly), kind=["ab"[k] for k in kind], mixed=mixed))
    assert found.figures["clusters/kind/silhouette"] > 0.9
    assert abs(found.figures["clusters/mixed/silhouette"]) < 0.1
    assert found.figures["clusters/pca_share"] > 0.95
    assert found.picture is not None
    assert [panel.get_title(loc="left") for panel in found.picture.axes] == [
        "PCA, by kind",
        "t-SNE, by kind",
        "PCA, by mixed",
        "t-SNE, by mixed",
    ]


def test_what_cannot_be_asked_of_a_space_is_refused() -> None:
    discrete = known_space(KnownCoder(torch.zeros(3, dtype=torch.long), lambda *_: "1", Categorical(2)))
    for probe in (Interpolation(), Traversal(), Analogy(), Transfer()):
        with pytest.raises(
            ValueError, match=r"the run has z \(Categorical\); fit one with latent@latents.z=normal"
        ):
            probe(discrete)
    space = known_space(KnownCoder(normal(), exactly))
    with pytest.raises(ValueError, match=r"latent=w: no such latent; the run has z \(Normal\)"):
        Interpolation(latent="w")(space)
    with pytest.raises(ValueError, match="has points and no model"):
        Depth()(Space(space.points, space.coordinates, space.data, {}))
    coder = KnownCoder(normal(), exactly)
    coder.latents["w"], coder.draws["w"] = Normal(3), coder.draws["z"]
    with pytest.raises(
        ValueError, match=r"several continuous latents, z \(Normal\), w \(Normal\); give probe.latent"
    ):
        Traversal()(known_space(coder))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Interpolation(path="round"), "path must be linear or spherical, got round"),
        (lambda: Interpolation(steps=2), "steps at least 3, got 20 and 2"),
        (lambda: Traversal(over="prior"), "over must be router or posterior, got prior"),
        (lambda: Traversal(share=0), "share must be above 0"),
        (lambda: Analogy(values=1), "values must be at least 2"),
        (lambda: Transfer(texts=0), "texts at least 1, got 6 and 0"),
        (lambda: Depth(folds=1), "folds at least 2, got 5 and 1"),
        (lambda: Clusters(["mds"]), "maps must be some of pca, tsne, umap"),
        (lambda: Search(None), "probe.reward=module.function"),
        (lambda: Search("nowhere.f"), "No module named 'nowhere'.*PYTHONPATH"),
        (lambda: Search("math.pi"), "math.pi is float, expected a function"),
        (lambda: Search("math.pow", method="grid"), "method must be evolution or gradient"),
        (lambda: Search("math.pow", population=3), "population at least 4, got 10, 10, 8 and 3"),
    ],
)
def test_settings_out_of_range_are_refused(make: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_a_reward_that_is_no_number_is_refused() -> None:
    coder = KnownCoder(normal(5, 2), exactly, router=router)
    with pytest.raises(
        ValueError, match=r"reward=operator.concat gave 'x0.*' for the response '.*'; expected a finite"
    ):
        Search("operator.concat")(known_space(coder))


def test_points_that_are_the_same_have_no_map() -> None:
    same = known_space(KnownCoder(torch.ones(20, 3), exactly), kind=["a", "b"] * 10)
    with pytest.raises(ValueError, match="all points are the same, so that there is nothing to map"):
        Clusters()(same)


@pytest.mark.parametrize(("texts", "pairs"), [(2, 3), (7, 3), (7, 20), (8, 4)])
def test_no_text_is_an_end_again_before_all_have_been(texts: int, pairs: int) -> None:
    ends = ends_of(texts, pairs, np.random.default_rng(0))
    assert ends.shape == (2, pairs)
    assert (ends[0] != ends[1]).all()
    counts = np.bincount(ends.T.ravel()[: texts // 2 * 2], minlength=texts)
    assert counts.max() == 1
