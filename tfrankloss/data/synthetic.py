"""A seeded shop: users, items, visits and their clicks, for examples and tests that must run without any download."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tfrankloss.data.interactions import MOVIELENS_GENRES, Interactions
from tfrankloss.data.lists import RankingLists, to_lists
from tfrankloss.errors import check_kind, check_number, check_positive_integer, received

FEATURE_NAMES = (
    *("affinity", "genre_match", "popularity", "quality", "price_match"),
    *("freshness", "text_match", "searching", "noise_a", "noise_b"),
)
_GENRES = MOVIELENS_GENRES[1:]
_OCCUPATIONS = ("artist", "doctor", "educator", "engineer", "lawyer", "librarian", "student", "writer")
_FACTORS = 6
_SHOWN_BY_TASTE = 2.5
# Pleasure from which the grades 1, 2 and 3 are given.
_JUDGED_AT = (1.0, 2.0, 3.5)
_MONTH = 30 * 24 * 3600
_START = 1_700_000_000


@dataclass(frozen=True, eq=False)
class ClickLog:
    """What `simulate_clicks` returns: one log of impressions, seen in two ways.

    Row n of `interactions` is the n-th item of `lists` that is no padding: `to_rows(log.lists.labels, log.lists.mask)`
    equals `log.interactions.labels`. In a list, items stand in the order in which they were shown.

    Attributes:
        interactions: A row per item shown, with catalogs of users and items in the form of `load_movielens`.
        lists: A list per visit; features (B, L, 10), labels (B, L), query ids "user/visit".
        judgments: (N,) float32 grades 0 to 3, aligned with rows of `interactions`: how each item pleases by the word of
            the user, asked about all that was shown. Neither its place nor whether it was clicked plays a part.
        feature_names: What the columns of `lists.features` stand for.

    Examples:
        >>> from tfrankloss.data.lists import to_rows
        >>> log = simulate_clicks(num_users=20, num_items=50, list_size=5)
        >>> bool((to_rows(log.lists.labels, log.lists.mask) == log.interactions.labels).all())
        True
    """

    interactions: Interactions
    lists: RankingLists[np.ndarray]
    judgments: np.ndarray
    feature_names: tuple[str, ...] = FEATURE_NAMES


@dataclass(frozen=True, eq=False)
class _World:
    """The truth behind the log, U users by I items; a model sees noisy traces of it alone."""

    affinity: np.ndarray  # (U, I), deviation 1: taste of the user for the item
    genre_match: np.ndarray  # (U, I), the part of it that genres explain
    popularity: np.ndarray  # (I,), log weight of being shown
    quality: np.ndarray  # (I,)
    price: np.ndarray  # (I,)
    budget: np.ndarray  # (U,)
    year: np.ndarray  # (I,)
    genres: np.ndarray  # (I, G)
    occupation: np.ndarray  # (U,)
    age: np.ndarray  # (U,)
    female: np.ndarray  # (U,)


@dataclass(frozen=True, eq=False)
class _Shown:
    """The N items shown: flat, visit after visit, in the order of display."""

    user: np.ndarray
    visit: np.ndarray  # 0.. within the user
    list: np.ndarray  # 0.. over all
    item: np.ndarray
    position: np.ndarray


def simulate_clicks(
    num_users: int = 1000,
    num_items: int = 1500,
    *,
    visits_per_user: float = 5.0,
    list_size: int = 20,
    popularity_bias: float = 0.6,
    position_bias: float = 0.3,
    grades: Sequence[float] = (1, 3, 4, 5),
    seed: int = 0,
) -> ClickLog:
    """A log of simulated visits to a shop, with graded feedback on every item shown.

    Users and items have latent factors, which genres and occupations explain in part. A visit shows from half of
    `list_size` to `list_size` items, drawn by popularity (a power law) and taste, the popular ones rather further up;
    nobody is shown an item twice. The item at position p (from 1) is looked at with probability p^(-position_bias),
    clicked if it pleases, then put in the cart, then ordered. What pleases: taste, quality and price; in a search visit
    also how well the text matches, otherwise freshness. This last interaction is what a network learns and a linear
    scorer cannot. Judgments have a grade of what pleases for every item shown: clicks say as well what was shown and
    looked at.

    Args:
        num_users: U.
        num_items: I. Time and memory grow with U x I.
        visits_per_user: Mean number of visits, at least 1; a user has 1 + Poisson(visits_per_user - 1), as far as there
            are items left to show.
        list_size: L, the largest number of items of a visit; at most `num_items`.
        popularity_bias: Exponent of the power law, 0 or more: the item of popularity rank r is shown with weight
            r^(-popularity_bias).
        position_bias: Exponent of the looks, 0 or more; 0 means that everything is seen.
        grades: Labels of an item that was shown, clicked, put in the cart and ordered; at least 0, increasing.
        seed: The same seed and settings give the same log.

    Returns:
        `ClickLog`. User features are `age`, `gender` and `occupation`; item features `title`, `year`, `genres` and
        `price`. Every item shown is a row: `log.interactions.positives(grades[1])` keeps the clicked ones.

    Raises:
        ValueError: If a setting lies outside of its range.

    Examples:
        >>> log = simulate_clicks(num_users=50, num_items=80, list_size=10, seed=1)
        >>> log.lists.features.shape[1:], np.unique(log.interactions.labels).tolist()
        ((10, 10), [1.0, 3.0, 4.0, 5.0])
        >>> bool(len(log.interactions) == log.lists.mask.sum())
        True

    Source: position bias as in Joachims et al., "Unbiased Learning-to-Rank with Biased Feedback" (2017),
    arXiv:1608.04468.
    """
    _check_settings(num_users, num_items, visits_per_user, list_size, popularity_bias, position_bias)
    grades = _checked_grades(grades)
    rng = np.random.default_rng(seed)
    world = _make_world(rng, num_users, num_items, popularity_bias)
    shown = _show(rng, world, visits_per_user, list_size)
    features, pleasure = _look(rng, world, shown)
    labels = np.array(grades, np.float32)[_respond(rng, pleasure, shown.position, position_bias)]
    interactions = _interactions(rng, world, shown, labels)
    visits = np.char.add(np.char.add(interactions.users, "/"), (shown.visit + 1).astype(str))
    # Draws of their own, which leave the rest of the log as it is.
    judgments = _judge(np.random.default_rng([seed, 1]), pleasure)
    return ClickLog(interactions, to_lists(visits, labels, features, list_size=list_size), judgments)


def _make_world(rng: np.random.Generator, num_users: int, num_items: int, popularity_bias: float) -> _World:
    genres = _draw_genres(rng, num_items)
    occupation = rng.integers(len(_OCCUPATIONS), size=num_users)
    # Few of the factors stand out, as in real feedback: that is what makes the taste learnable from a dozen clicks.
    strength = 0.8 ** np.arange(_FACTORS)
    of_genre = rng.normal(size=(len(_GENRES), _FACTORS))
    of_occupation = rng.normal(size=(len(_OCCUPATIONS), _FACTORS))
    users = (0.6 * of_occupation[occupation] + 0.8 * rng.normal(size=(num_users, _FACTORS))) * strength
    known = genres @ of_genre / np.sqrt(genres.sum(axis=1, keepdims=True))
    items = 0.85 * known + 0.5 * rng.normal(size=(num_items, _FACTORS))
    return _World(
        affinity=_standard(users @ items.T),
        genre_match=_standard(users @ known.T),
        popularity=-popularity_bias * np.log(rng.permutation(num_items) + 1.0),
        quality=rng.normal(size=num_items),
        price=rng.normal(size=num_items),
        budget=rng.normal(size=num_users),
        year=rng.integers(1990, 2025, size=num_items),
        genres=genres,
        occupation=occupation,
        age=rng.integers(16, 75, size=num_users),
        female=rng.random(num_users) < 0.5,
    )


def _draw_genres(rng: np.random.Generator, num_items: int) -> np.ndarray:
    """(I, G) with one to three genres of each item set to 1."""
    order = rng.random((num_items, len(_GENRES))).argsort(axis=1).argsort(axis=1)
    return (order < rng.integers(1, 4, size=(num_items, 1))).astype(np.float32)


def _show(rng: np.random.Generator, world: _World, visits_per_user: float, list_size: int) -> _Shown:
    """Who saw which items, in what order."""
    num_users, num_items = world.affinity.shape
    visits = 1 + rng.poisson(visits_per_user - 1, size=(num_users,))
    sizes = rng.integers((list_size + 1) // 2, list_size + 1, size=(num_users, visits.max()))
    sizes[np.arange(visits.max()) >= visits[:, np.newaxis]] = 0
    sizes[sizes.cumsum(axis=1) > num_items] = 0
    totals = sizes.sum(axis=1)
    # The largest sums of log weight and Gumbel noise are a draw without replacement by weight.
    wanted = world.popularity + _SHOWN_BY_TASTE * world.affinity + rng.gumbel(size=world.affinity.shape)
    drawn = (-wanted).argsort(axis=1)[:, : totals.max()]
    user, place = np.nonzero(np.arange(totals.max()) < totals[:, np.newaxis])
    item = drawn[user, place]
    shuffled = np.lexsort((rng.random(len(user)), user))
    of_user, of_visit = np.nonzero(sizes)
    sizes = sizes[of_user, of_visit]
    lists = np.repeat(np.arange(len(sizes)), sizes)
    item = item[shuffled]
    # Popular items stand further up: popularity and place are confounded, as in a real shop.
    item = item[np.lexsort((-world.popularity[item] - rng.gumbel(size=len(item)), lists))]
    starts = np.cumsum(sizes) - sizes
    return _Shown(user, of_visit[lists], lists, item, np.arange(len(lists)) - starts[lists])


def _look(rng: np.random.Generator, world: _World, shown: _Shown) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, 10) and pleasure (N,) of the items shown."""
    user, item, num_lists = shown.user, shown.item, int(shown.list[-1]) + 1
    noise = rng.normal(size=(5, len(user)))
    searching = (rng.random(num_lists) < 0.5)[shown.list]
    text_match = rng.normal(size=len(user))
    # As BM25 of different queries, text scores of two visits do not compare.
    text_scale = rng.lognormal(sigma=0.4, size=num_lists)[shown.list]
    price_match = 1 - np.abs(world.price[item] - world.budget[user])
    freshness = (world.year[item] - 2007) / 10
    taste = world.affinity[user, item]
    pleasure = 1.2 * taste + 0.7 * world.quality[item] + 0.5 * price_match
    pleasure = pleasure + np.where(searching, 1.2 * text_match, 0.9 * freshness)
    features = [
        taste + 0.8 * noise[0],
        world.genre_match[user, item],
        world.popularity[item],
        world.quality[item] + 0.8 * noise[1],
        price_match,
        freshness,
        text_scale * (text_match + 0.3 * noise[2] + 1),
        searching,
        noise[3],
        noise[4],
    ]
    return np.stack(features, axis=1).astype(np.float32), pleasure


def _respond(rng: np.random.Generator, pleasure: np.ndarray, position: np.ndarray, position_bias: float) -> np.ndarray:
    """(N,) integers: 0 shown, 1 clicked, 2 put in the cart, 3 ordered."""
    looked = rng.random(len(pleasure)) < (position + 1.0) ** -position_bias
    clicked = looked & (rng.random(len(pleasure)) < _sigmoid(2.0 * pleasure - 2.0))
    carted = clicked & (rng.random(len(pleasure)) < _sigmoid(1.2 * pleasure - 2.5))
    ordered = carted & (rng.random(len(pleasure)) < _sigmoid(1.2 * pleasure - 2.5))
    return clicked.astype(int) + carted + ordered


def _judge(rng: np.random.Generator, pleasure: np.ndarray) -> np.ndarray:
    """(N,) float32 grades 0 to 3, with the noise of an answer."""
    return np.digitize(pleasure + rng.logistic(scale=0.5, size=len(pleasure)), _JUDGED_AT).astype(np.float32)


def _interactions(rng: np.random.Generator, world: _World, shown: _Shown, labels: np.ndarray) -> Interactions:
    user_ids = (np.arange(len(world.age)) + 1).astype(str)
    item_ids = (np.arange(len(world.year)) + 1).astype(str)
    visit_starts = _START + np.sort(rng.integers(_MONTH, size=int(shown.list[-1]) + 1))
    first_genres = np.array(_GENRES)[world.genres.argmax(axis=1)]
    return Interactions(
        users=user_ids[shown.user],
        items=item_ids[shown.item],
        labels=labels,
        timestamps=visit_starts[shown.list] + shown.position,
        user_ids=user_ids,
        item_ids=item_ids,
        user_features={
            "age": world.age.astype(np.int32),
            "gender": np.where(world.female, "F", "M"),
            "occupation": np.array(_OCCUPATIONS)[world.occupation],
        },
        item_features={
            "title": np.array([f"Item {one} ({genre})" for one, genre in zip(item_ids, first_genres, strict=True)]),
            "year": world.year.astype(np.int32),
            "genres": world.genres,
            "price": np.exp(3 + 0.5 * world.price).round(2).astype(np.float32),
        },
        genre_names=_GENRES,
    )


def _standard(table: np.ndarray) -> np.ndarray:
    return (table - table.mean()) / table.std()


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * logits))  # no overflow, whatever the logit


def _check_settings(
    num_users: int,
    num_items: int,
    visits_per_user: float,
    list_size: int,
    popularity_bias: float,
    position_bias: float,
) -> None:
    check_positive_integer("num_users", num_users)
    check_positive_integer("num_items", num_items)
    check_positive_integer("list_size", list_size)
    if list_size > num_items:
        raise ValueError(f"`list_size` must be at most num_items={num_items}. {received('list_size', list_size)}")
    for name, value, least in (
        ("visits_per_user", visits_per_user, 1),
        ("popularity_bias", popularity_bias, 0),
        ("position_bias", position_bias, 0),
    ):
        check_number(name, value)
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}. {received(name, value)}")


def _checked_grades(grades: Sequence[float]) -> list[float]:
    check_kind("grades", grades, (Sequence, np.ndarray), "a sequence of four numbers")
    for grade in grades:
        check_number("grades", grade)
    if len(grades) != 4 or grades[0] < 0 or any(a >= b for a, b in pairwise(grades)):
        raise ValueError(
            "`grades` must be four increasing numbers of at least 0: shown, clicked, in the cart, ordered. "
            f"{received('grades', grades)}"
        )
    return list(grades)
