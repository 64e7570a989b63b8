"""The pictures of a diagnosis: which are drawn, what they show, and that they are named and alike at each call."""

from __future__ import annotations

import io
import math
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from scipy.stats import binom
from sklearn.decomposition import PCA
from stratagem.inference.diagnosis import Diagnosis
from stratagem.inference.diagnosis.pictures import PICTURES, draw
from stratagem.inference.diagnosis.pictures.embedding import planes, posterior_means
from stratagem.inference.diagnosis.pictures.labels import named_groups
from stratagem.inference.diagnosis.pictures.responsibilities import ROWS, clustered
from stratagem.inference.diagnosis.pictures.strategies import strategy_headings, strategy_names
from stratagem.inference.diagnosis.pictures.style import COLOURS
from stratagem.models import Categorical

from .report_fixtures import bare, continuous_subject, full, mixed_subject, tiny_subject

DISCRETE = {
    "usage",
    "information",
    "responsibilities",
    "router",
    "self_consistency",
    "divergence",
    "effect",
    "position",
    "calibration",
    "ranks",
    "importance_weights",
    "course",
}
CONTINUOUS = {"information", "ranks", "importance_weights", "dimensions", "embedding", "course"}


@pytest.fixture(scope="module")
def discrete() -> Diagnosis:
    return full(tiny_subject())


@pytest.fixture(scope="module")
def continuous() -> Diagnosis:
    return full(continuous_subject())


def figure_of(name: str, diagnosis: Diagnosis) -> Figure:
    ((_, figure),) = draw(diagnosis, [picture for picture in PICTURES if picture.name == name])
    return figure


def names_of(diagnosis: Diagnosis) -> set[str]:
    return {picture.name for picture, _ in draw(diagnosis)}


def test_every_picture_is_drawn_for_the_latents_that_it_is_about(
    discrete: Diagnosis, continuous: Diagnosis
) -> None:
    assert names_of(discrete) == DISCRETE
    assert names_of(continuous) == CONTINUOUS
    assert {picture.name for picture in PICTURES} == DISCRETE | CONTINUOUS


def test_latents_of_both_kinds_have_the_pictures_of_continuous_ones() -> None:
    assert names_of(full(mixed_subject())) == CONTINUOUS


def test_pictures_without_their_readings_are_left_out(discrete: Diagnosis, continuous: Diagnosis) -> None:
    assert names_of(bare(discrete.subject)) == {"usage", "responsibilities", "router"}
    assert names_of(bare(continuous.subject)) == {"embedding"}


def test_axes_say_what_they_are_of(discrete: Diagnosis, continuous: Diagnosis) -> None:
    for diagnosis in (discrete, continuous):
        for picture, figure in draw(diagnosis):
            shown = [panel for panel in figure.axes if panel.axison and panel.get_label() != "<colorbar>"]
            assert shown[0].get_ylabel() or picture.name == "information", picture.name
            for panel in shown:
                assert panel.get_xlabel(), picture.name


def test_quantities_have_their_units(discrete: Diagnosis, continuous: Diagnosis) -> None:
    assert "(nats per sequence)" in figure_of("information", discrete).axes[0].get_xlabel()
    assert "(nats)" in figure_of("dimensions", continuous).axes[0].get_ylabel()
    assert "(nats)" in figure_of("router", discrete).axes[1].get_xlabel()
    assert "(tokens)" in figure_of("effect", discrete).axes[0].get_xlabel()
    assert "(nats per sequence" in figure_of("divergence", discrete).axes[0].get_title("left")
    assert all("nats" in panel.get_ylabel() for panel in figure_of("course", discrete).axes[:4])


@pytest.mark.parametrize("name", ["usage", "router", "calibration", "course"])
def test_a_picture_is_the_same_whatever_the_settings_of_matplotlib(name: str, discrete: Diagnosis) -> None:
    def file() -> str:
        content = io.StringIO()
        figure = figure_of(name, discrete)
        with mpl.rc_context({"svg.hashsalt": "same"}):
            figure.savefig(content, format="svg", metadata={"Date": None})
        return content.getvalue()

    first = file()
    with mpl.rc_context({"axes.grid": False, "lines.linewidth": 9, "axes.labelcolor": "red", "font.size": 4}):
        assert file() == first


def test_usage_shows_the_means_of_the_three_laws(discrete: Diagnosis) -> None:
    seen = discrete.subject.seen
    (panel,) = figure_of("usage", discrete).axes
    heights = [[bar.get_height() for bar in bars] for bars in panel.containers if len(bars) == 3]
    for found, law in zip(heights, (seen.router, seen.posterior, seen.amortized), strict=True):
        assert law is not None
        assert found == pytest.approx(law.double().mean(0).tolist(), abs=1e-6)


def test_responsibilities_are_the_posterior_with_like_rows_side_by_side(discrete: Diagnosis) -> None:
    posterior = discrete.subject.seen.posterior
    assert posterior is not None
    shown = np.asarray(figure_of("responsibilities", discrete).axes[0].images[0].get_array()).T
    rows = posterior.double().numpy()
    assert np.allclose(shown[np.lexsort(shown.T)], rows[np.lexsort(rows.T)])

    def steps(table: np.ndarray) -> float:
        return float(np.abs(np.diff(table, axis=0)).sum())

    assert steps(shown) < 0.6 * steps(rows)


def test_a_clustering_keeps_groups_together() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 3, 60)
    order = clustered(np.eye(3)[groups] + 0.01 * rng.random((60, 3)))
    assert sorted(order) == list(range(60))
    assert np.count_nonzero(np.diff(groups[order])) == 2


def test_many_data_are_thinned_out_and_that_is_said(discrete: Diagnosis) -> None:
    seen = discrete.subject.seen
    assert seen.posterior is not None
    many = replace(seen, posterior=seen.posterior.repeat(40, 1))
    assert len(seen.posterior) * 40 > 2 * ROWS
    panel = figure_of("responsibilities", bare(replace(discrete.subject, seen=many))).axes[0]
    assert panel.images[0].get_array().shape == (3, 320)
    assert panel.get_xlabel() == "held-out data, clustered (960; 320 of 960, evenly taken)"


def test_matrices_are_those_of_the_readings(discrete: Diagnosis) -> None:
    for name, curve in (("self_consistency", "confusion"), ("divergence", "divergence")):
        panel = figure_of(name, discrete).axes[0]
        values = discrete.curves[f"intervention/{curve}"]
        assert np.array_equal(np.asarray(panel.images[0].get_array()), values)
        assert [text.get_text() for text in panel.texts] == [f"{value:.2f}" for value in values.flat]


def test_the_router_is_shown_beside_what_came(discrete: Diagnosis) -> None:
    seen = discrete.subject.seen
    assert seen.router is not None
    assert seen.posterior is not None
    left, right = figure_of("router", discrete).axes
    likeliest = seen.router.argmax(1)
    for k, row in enumerate(np.asarray(left.images[0].get_array())):
        here = seen.posterior[likeliest == k].double()
        assert row == pytest.approx(here.mean(0).tolist() if len(here) else 0.0, abs=1e-6)
    entropies = np.asarray(right.collections[0].get_offsets())
    assert seen.router_entropy is not None
    assert entropies[:, 0] == pytest.approx(seen.router_entropy.numpy(), abs=1e-5)
    assert (entropies[:, 0] - entropies[:, 1]).mean() > 0


def estimates(panel: Axes) -> dict[str, ErrorbarContainer]:
    """The points with their intervals, by the name of their row."""
    bars = [bar for bar in panel.containers if isinstance(bar, ErrorbarContainer)]
    return dict(zip([label.get_text() for label in panel.get_yticklabels()], bars, strict=True))


def test_estimates_that_cannot_be_trusted_are_hollow(discrete: Diagnosis) -> None:
    found = estimates(figure_of("information", discrete).axes[0])
    filled = {label: bar.lines[0].get_markerfacecolor() != "none" for label, bar in found.items()}
    assert filled == {
        "responses of the base": True,
        "InfoNCE, a lower bound\n(at most 6.20, not to be trusted)": False,
        "aggregate posterior": True,
    }
    one = replace(bare(discrete.subject), figures={"use/mutual_information": 0.3})
    assert "information" not in names_of(one)


def test_bounds_on_the_information_are_shown_with_what_they_leave_open(discrete: Diagnosis) -> None:
    bounds = {
        "use/mutual_information": 0.9,
        "information/lower": 0.5,
        "information/lower_se": 0.1,
        "information/upper": 0.8,
        "information/upper_se": 0.2,
        "information/infonce": 0.3,
        "information/infonce_width": 0.4,
        "information/infonce_ceiling": 1.2,
    }
    figure = figure_of("information", replace(bare(discrete.subject), figures=bounds))
    panel = figure.axes[0]
    held = estimates(panel)["between two bounds"]
    assert held.lines[0].get_xdata() == pytest.approx([0.5, 0.8])
    ends = np.asarray(held.lines[2][0].get_segments())[:, :, 0]
    assert ends == pytest.approx(np.array([[0.5 - 0.196, 0.5 + 0.196], [0.8 - 0.392, 0.8 + 0.392]]))
    bars = [bar.patches[0] for bar in panel.containers if isinstance(bar, BarContainer)]
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [
        pytest.approx((0.5, 0.3)),
        pytest.approx((0.3, 0.4)),
    ]
    shown = {text.get_text() for text in figure.legends[0].get_texts()}
    assert shown == {"between the bounds", "most that InfoNCE can give"}


def test_reliability_leaves_out_empty_bins(discrete: Diagnosis) -> None:
    (panel,) = figure_of("calibration", discrete).axes
    router, guide = (
        np.asarray(dots.get_offsets()) for dots in panel.collections if len(dots.get_offsets()) > 1
    )
    assert router == pytest.approx(discrete.curves["calibration/router"][:2, 1:].T)
    assert guide == pytest.approx(discrete.curves["calibration/posterior"][:2].T)
    bars = panel.containers[1].lines[2][0].get_segments()[4]
    assert (bars[1, 1] - bars[0, 1]) / 2 == pytest.approx((0.45 * 0.55 / 20) ** 0.5)


def test_the_band_holds_uniform_ranks(discrete: Diagnosis) -> None:
    (panel,) = figure_of("ranks", discrete).axes
    low, high = binom.interval(0.95, 24, 1 / 5)
    band = panel.patches[0]
    assert (band.get_y(), band.get_y() + band.get_height()) == (low, high)
    assert [bar.get_height() for bar in panel.patches[1:]] == discrete.curves["calibration/sbc"].tolist()


def test_tails_are_counted_among_all_data(continuous: Diagnosis) -> None:
    panel, share = figure_of("importance_weights", continuous).axes
    assert panel.get_title("left") == "k > 0.7: 5 of 24 data"
    assert sum(bar.get_height() for bar in panel.patches) == 23
    assert sum(bar.get_height() for bar in share.patches) == 24


def test_dimensions_are_in_order_of_what_they_carry(continuous: Diagnosis) -> None:
    (panel,) = figure_of("dimensions", continuous).axes
    assert [bar.get_height() for bar in panel.patches] == [2.0, 0.5, 0.1]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["1", "2", "0"]


def test_the_course_shows_what_was_logged(discrete: Diagnosis) -> None:
    figure = figure_of("course", discrete)
    shown = {panel.get_ylabel(): panel for panel in figure.axes}
    fidelity = shown["log p0 - bound (nats per token)"].lines[0]
    assert fidelity.get_xydata().tolist() == [[step, 1 / step] for step in (10, 20, 30, 40)]
    assert [line.get_label() for line in shown["usage of each strategy"].lines] == ["0", "1", "2"]
    weights = shown["weights that are scheduled"].lines
    assert [line.get_label() for line in weights] == ["beta"]
    assert weights[0].get_ydata()[-1] == 1
    assert "KL(q || router) (nats per sequence)" in shown
    broken = (
        {"split": "test", "step": 1, "bound": -2.0, "usage/0": math.nan},
        {"split": "test", "step": 2, "bound": -math.inf},
    )
    (panel,) = figure_of("course", replace(discrete, course=broken)).axes
    assert panel.lines[0].get_xydata().tolist() == [[1, -2]]


def test_posterior_means_are_projected_on_their_principal_components(continuous: Diagnosis) -> None:
    draws = continuous.subject.seen.draws
    assert draws is not None
    means = posterior_means(continuous)
    assert means is not None
    assert means == pytest.approx(draws["z"].double().mean(0).numpy())
    pca, tsne = figure_of("embedding", continuous).axes
    flat = np.asarray(pca.collections[0].get_offsets())
    assert flat == pytest.approx(PCA(2, random_state=0).fit_transform(means))
    share = PCA(2).fit(means).explained_variance_ratio_[0]
    assert pca.get_xlabel() == f"component 1 ({share:.0%} of the variance)"
    assert tsne.get_title("left") == "t-SNE"


def test_a_tsne_keeps_clusters_apart() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(3), 20)
    maps = planes(5 * np.eye(3)[groups] + 0.1 * rng.normal(size=(60, 3)))
    at = next(points for name, _, points in maps if name == "t-SNE")
    nearest = np.argsort(((at[:, None] - at[None]) ** 2).sum(-1), axis=1)[:, 1]
    assert (groups[nearest] == groups).all()


def test_umap_is_shown_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    means = np.random.default_rng(0).normal(size=(12, 3))
    (tmp_path / "umap.py").write_text(
        "class UMAP:\n"
        "    def __init__(self, random_state, n_jobs):\n"
        "        pass\n"
        "    def fit_transform(self, means):\n"
        "        return means[:, 1:]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        name, _, points = planes(means)[2]
    finally:
        sys.modules.pop("umap", None)
    assert name == "UMAP"
    assert np.array_equal(points, means[:, 1:])


@pytest.mark.parametrize("size", [1, 2])
def test_one_and_two_coordinates_are_shown_as_they_are(size: int) -> None:
    means = np.random.default_rng(0).normal(size=(12, size))
    ((_, _, points),) = planes(means)
    assert np.array_equal(points[:, :size], means)


def test_points_are_coloured_by_labels_else_by_the_discrete_latent_else_alike(continuous: Diagnosis) -> None:
    def colours(diagnosis: Diagnosis) -> list[str]:
        figure = figure_of("embedding", diagnosis)
        return [mpl.colors.to_hex(dots.get_facecolor()[0]) for dots in figure.axes[0].collections]

    assert colours(continuous) == [COLOURS[0]]
    labels = tuple("even" if n % 2 else "odd" for n in range(24))
    assert colours(replace(continuous, labels=labels)) == list(COLOURS[:2])
    mixed = mixed_subject()
    assert mixed.seen.draws is not None
    kinds = mixed.seen.draws["kind"].mode(0).values
    assert len(colours(bare(mixed))) == len(kinds.unique())


def test_labels_are_few_groups_in_the_users_own_letters() -> None:
    labels = ["$a_$"] * 3 + ["b"] * 2 + [f"rare {i}" for i in range(10)]
    groups = named_groups(labels)
    assert groups is not None
    assert len(groups.names) == len(COLOURS)
    assert groups.names[:2] == [r"\$a_\$", "b"]
    assert groups.names[-1] == "other (5 names)"
    assert groups.place.tolist() == [0] * 3 + [1] * 2 + [2, 3, 4, 5, 6] + [7] * 5
    assert named_groups([]) is None


def test_letters_of_a_label_are_never_mathematics(continuous: Diagnosis) -> None:
    labels = tuple(["$\\frac{1}$"] * 12 + ["a $ b"] * 12)
    for diagnosis in (continuous, full(tiny_subject())):
        figure = next(
            f
            for p, f in draw(replace(diagnosis, labels=labels))
            if p.name in ("embedding", "responsibilities")
        )
        content = io.StringIO()
        with mpl.rc_context({"svg.fonttype": "none"}):
            figure.savefig(content, format="svg")
        assert "$\\frac{1}$" in content.getvalue()
        assert "a $ b" in content.getvalue()


def test_joint_values_are_named_by_all_their_latents() -> None:
    subject = tiny_subject({"kind": Categorical(2), "style": Categorical(3)})
    assert strategy_names(subject) == ["0, 0", "1, 0", "0, 1", "1, 1", "0, 2", "1, 2"]
    assert strategy_headings(subject)[3] == "kind = 1, style = 1"
    assert [row[0].z for row in subject.greedy][3] == {"kind": 1, "style": 1}
    assert strategy_headings(tiny_subject())[2] == "z = 2"
    assert strategy_names(mixed_subject()) == []


def test_a_posterior_that_is_the_same_for_all_data_is_drawn(discrete: Diagnosis) -> None:
    seen = discrete.subject.seen
    assert seen.posterior is not None
    flat = torch.full_like(seen.posterior, 1 / 3)
    subject = replace(discrete.subject, seen=replace(seen, posterior=flat, router=flat, amortized=flat))
    assert names_of(bare(subject)) == {"usage", "responsibilities", "router"}
