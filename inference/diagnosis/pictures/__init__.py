"""Pictures of a diagnosis, one a file."""

from collections.abc import Iterable

from matplotlib.figure import Figure

from ..diagnostic import Diagnosis
from .calibration import calibration
from .course import course
from .dimensions import dimensions
from .divergence import divergence
from .effect import effect
from .embedding import embedding
from .importance_weights import importance_weights
from .information import information
from .picture import Picture
from .position import position
from .ranks import ranks
from .responsibilities import responsibilities
from .router import router
from .self_consistency import self_consistency
from .usage import usage

PICTURES: tuple[Picture, ...] = (
    Picture(
        "usage",
        "Usage of the strategies",
        "How often each strategy is used: means over the held-out data, with standard errors. Router and posterior "
        "agree where the router is right in the mean; a guide that differs from the posterior is not yet fitted.",
        usage,
    ),
    Picture(
        "information",
        "Information of z",
        "What the response tells of z, by several estimates with 95 % intervals, and last what the prompt tells. "
        "All but the first are on the model's own responses and should agree; a hollow one is not to be trusted at "
        "this number of data. A bar, to the bound from above: what the number of draws leaves open.",
        information,
    ),
    Picture(
        "responsibilities",
        "Responsibilities",
        "The exact posterior of each held-out datum, a column each, like ones side by side. Full and empty cells: "
        "each response belongs to one strategy. Pale all over: the responses tell nothing of z.",
        responsibilities,
    ),
    Picture(
        "router",
        "Router against posterior",
        "Left: prompts by the strategy that the router finds likeliest, and the posterior of their responses; weight "
        "on the diagonal is what the prompt foretells. Right: below the diagonal, the response told something of z; "
        "on it, nothing.",
        router,
    ),
    Picture(
        "self_consistency",
        "Self-consistency",
        "A response is generated under each strategy, and the strategy inferred back from it. 1 on the diagonal: "
        "each strategy leaves its own mark. Weight beside the diagonal: strategies that are taken for each other.",
        self_consistency,
    ),
    Picture(
        "divergence",
        "Divergence between strategies",
        "How different the responses of any two strategies to the same prompt are. Near 0: two strategies do the "
        "same.",
        divergence,
    ),
    Picture(
        "effect",
        "Effect of a strategy",
        "Properties of the responses under each forced strategy, with standard errors. A strategy with a much "
        "larger perplexity is not one that the base would follow.",
        effect,
    ),
    Picture(
        "position",
        "Where in the response z shows",
        "How much of z the first tokens of a response tell, with standard errors. A jump at a single token: z is a "
        "surface choice made there. A slow rise: z shows in the whole response.",
        position,
    ),
    Picture(
        "calibration",
        "Calibration",
        "On the diagonal, what is given a probability happens that often; larger points hold more data. Router: "
        "against the posterior of the base's responses. Guide: against the z that the model itself drew.",
        calibration,
    ),
    Picture(
        "ranks",
        "Ranks of simulation-based calibration",
        "Flat within the band, but for a bin in twenty: inference inverts the model. High at both ends: the guide is "
        "too narrow. High in the middle: it is too wide. High at one end: it is off to one side.",
        ranks,
    ),
    Picture(
        "importance_weights",
        "Importance weights",
        "What draws of the guide are worth as draws of the posterior: all of them at 1, one of them near 0. Tails "
        "above 0.7: the guide misses a part of the posterior, and figures that weigh its draws are unreliable.",
        importance_weights,
    ),
    Picture(
        "dimensions",
        "Dimensions",
        "What each coordinate of a continuous latent carries: its divergence from the router. Coordinates at 0 are "
        "not used.",
        dimensions,
    ),
    Picture(
        "embedding",
        "Embedding",
        "The guide's posterior means in the plane. Distances within t-SNE and UMAP are not to scale.",
        embedding,
    ),
    Picture(
        "course",
        "Course of the fit",
        "The fit: batches of training, smoothed, and held-out data.",
        course,
    ),
)
"""In the order of the report."""


def draw(diagnosis: Diagnosis, pictures: Iterable[Picture] = PICTURES) -> list[tuple[Picture, Figure]]:
    """Those pictures whose readings are there, laid out once for all formats."""
    drawn = []
    for picture in pictures:
        figure = picture.draw(diagnosis)
        if figure is not None:
            drawn.append((picture, laid_out(figure)))
    return drawn


def laid_out(figure: Figure) -> Figure:
    """The figure with its places fixed, the same in every format."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


__all__ = ["PICTURES", "Picture", "draw", "laid_out"]
