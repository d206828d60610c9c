"""The simulator: deterministic, biased as it says, and learnable above what needs no learning."""

import numpy as np
import pytest

from tfrankloss.data import simulate_clicks, to_lists, to_rows


@pytest.fixture(scope="module")
def log():
    return simulate_clicks()


def ndcg(labels, scores, k=10):
    gains = np.where(labels >= 0, 2.0**labels - 1, 0)
    order = np.argsort(-np.where(labels >= 0, scores, -np.inf), axis=1, kind="stable")
    discount = 1 / np.log2(2 + np.arange(k))
    reached = (np.take_along_axis(gains, order, axis=1)[:, :k] * discount).sum(axis=1)
    ideal = (-np.sort(-gains, axis=1)[:, :k] * discount).sum(axis=1)
    return (reached / ideal).mean()


def recall(scores, train, test, k=10):
    scores = scores.copy()
    scores[train.user_index, train.item_index] = -np.inf
    top = np.argpartition(-scores, k, axis=1)[:, :k]
    wanted = np.zeros(scores.shape, bool)
    wanted[test.user_index, test.item_index] = True
    counts = wanted.sum(axis=1)
    return (np.take_along_axis(wanted, top, axis=1).sum(axis=1)[counts > 0] / counts[counts > 0]).mean()


def linear_scores(features, labels, test_features, steps=200):
    """A linear softmax-loss scorer, by gradient descent with momentum."""
    mask = labels >= 0
    mean, deviation = features[mask].mean(axis=0), features[mask].std(axis=0)
    features = (features - mean) / deviation * mask[..., np.newaxis]
    gains = np.where(mask, 2.0**labels - 2, 0)
    weights, velocity = np.zeros(features.shape[2]), 0.0
    for _ in range(steps):
        scores = np.where(mask, features @ weights, -1e30)
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        slope = (chances * gains.sum(axis=1, keepdims=True) - gains) / 20
        velocity = 0.9 * velocity + np.einsum("bl,blf->f", slope, features) / len(features)
        weights = weights - 0.1 * velocity
    return (test_features - mean) / deviation @ weights


def test_the_same_seed_gives_the_same_log():
    first, again, other = (simulate_clicks(60, 90, list_size=8, seed=seed) for seed in (5, 5, 6))
    assert (first.lists.features == again.lists.features).all()
    assert (first.interactions.items == again.interactions.items).all()
    assert (first.interactions.labels == again.interactions.labels).all()
    assert (first.interactions.timestamps == again.interactions.timestamps).all()
    assert not np.array_equal(first.lists.labels, other.lists.labels)


def test_both_views_are_one_log(log):
    rows, lists = log.interactions, log.lists
    assert 60_000 < len(rows) < 100_000 and len(rows) == lists.mask.sum()
    assert to_rows(lists.labels, lists.mask).tolist() == rows.labels.tolist()
    assert lists.features.shape == (len(lists), 20, len(log.feature_names)) and lists.features.dtype == np.float32
    users = np.char.partition(lists.query_ids, "/")[:, 0]
    assert users[np.nonzero(lists.mask)[0]].tolist() == rows.users.tolist()
    ids = lists.query_ids[np.nonzero(lists.mask)[0]]
    items = to_lists(ids, rows.labels, {"item": rows.items})
    assert (items.labels == lists.labels).all()
    sizes = lists.mask.sum(axis=1)
    assert sizes.min() == 10 and sizes.max() == 20 and len(set(lists.query_ids)) == len(lists)
    popularity = to_rows(lists.features, lists.mask)[:, log.feature_names.index("popularity")]
    assert all(len(set(popularity[rows.items == item])) == 1 for item in rows.item_ids[:20])


def test_judgments_know_no_place_and_tell_what_pleases():
    log = simulate_clicks(popularity_bias=0, position_bias=1.5)
    grades, clicked = log.judgments, log.interactions.labels > 1
    place = np.nonzero(log.lists.mask)[1]
    assert grades.dtype == np.float32 and set(grades.tolist()) == {0, 1, 2, 3} and len(grades) == len(clicked)
    top, low = place < 3, place >= 12
    assert clicked[top].mean() > 4 * clicked[low].mean()
    assert abs(grades[top].mean() - grades[low].mean()) < 0.1 * grades.std()
    of_grade = [clicked[top & (grades == grade)].mean() for grade in range(4)]
    assert of_grade[1] > 1.2 * of_grade[0] and of_grade[2] > 1.2 * of_grade[1] and of_grade[3] > of_grade[2]


def test_the_catalogs_have_the_form_of_movielens(log):
    rows = log.interactions
    assert len(rows.user_ids) == 1000 and len(rows.item_ids) == 1500
    assert set(rows.user_features) == {"age", "gender", "occupation"}
    assert set(rows.item_features) == {"title", "year", "genres", "price"}
    genres = rows.item_features["genres"]
    assert genres.shape == (1500, len(rows.genre_names)) and set(genres.sum(axis=1)) == {1, 2, 3}
    for place in (0, 11):
        first = rows.genre_names[int(genres[place].argmax())]
        assert rows.item_features["title"][place] == f"Item {place + 1} ({first})"
    assert rows.timestamps.dtype == np.int64 and (rows.item_features["price"] > 0).all()


def test_nobody_is_shown_an_item_twice(log):
    pairs = log.interactions.user_index * 1500 + log.interactions.item_index
    assert len(np.unique(pairs)) == len(pairs)


def test_feedback_is_a_funnel_of_the_given_grades():
    rows = simulate_clicks(200, 300, grades=(0, 1, 2, 3), seed=2).interactions
    shares = [(rows.labels >= grade).mean() for grade in (0, 1, 2, 3)]
    assert set(rows.labels.tolist()) == {0, 1, 2, 3}
    assert 1 == shares[0] > 0.45 > shares[1] > shares[2] > shares[3] > 0.05
    same = simulate_clicks(200, 300, grades=(1, 3, 4, 5), seed=2).interactions
    assert (np.array([1, 3, 4, 5])[rows.labels.astype(int)] == same.labels).all()
    assert set(same.positives(3).labels.tolist()) == {3, 4, 5}


def test_exposure_follows_a_power_law():
    def share_of_the_top_tenth(popularity_bias):
        log = simulate_clicks(300, 1000, list_size=5, popularity_bias=popularity_bias)
        counts = np.sort(log.interactions.popularity())
        return counts[-100:].sum() / counts.sum()

    none, half, full = (share_of_the_top_tenth(bias) for bias in (0.0, 0.5, 1.0))
    assert full > half + 0.1 and half > none + 0.02


def test_clicks_fall_with_the_position_as_stated():
    def rate(position_bias):
        lists = simulate_clicks(2000, 200, popularity_bias=0.0, position_bias=position_bias).lists
        clicks = lists.labels > 1
        return clicks[:, :10].mean(axis=0)  # every list has ten items

    # At equal weights the order is random, so the rate at position p is the rate at 1 times p^(-bias).
    steep = rate(0.5)
    np.testing.assert_allclose(steep / steep[0], np.arange(1, 11) ** -0.5, atol=0.06)
    np.testing.assert_allclose(rate(0.0), rate(0.0).mean(), rtol=0.06)


def test_tastes_are_learnable_above_popularity(log):
    train, test = log.interactions.positives(3).split(0.8)
    seen = np.zeros((1000, 1500))
    seen[train.user_index, train.item_index] = 1
    weighed = seen / np.sqrt(seen.sum(axis=1, keepdims=True) + 1) / (seen.sum(axis=0, keepdims=True) + 1) ** 0.25
    leading = np.linalg.eigh(weighed @ weighed.T)[1][:, -6:]  # the left singular vectors that matter
    factorised = leading @ (leading.T @ weighed)
    popular = np.broadcast_to(train.popularity().astype(float), seen.shape)
    assert recall(factorised, train, test) > 1.4 * recall(popular, train, test)


def test_lists_are_learnable_above_every_single_feature(log):
    train, test = log.lists.split(0.8)
    single = {
        name: ndcg(test.labels, sign * test.features[..., place])
        for place, name in enumerate(log.feature_names)
        for sign in (1, -1)
        if name != "searching"  # the same for a whole list: its order is the order of display
    }
    linear = ndcg(test.labels, linear_scores(train.features, train.labels, test.features))
    assert linear > max(single.values()) + 0.05
    assert linear > single["popularity"] + 0.1
    displayed = ndcg(test.labels, np.broadcast_to(-np.arange(20.0), test.labels.shape))
    assert linear > displayed + 0.05
    # What a linear scorer cannot do: weigh text in searches alone, freshness in the others alone.
    text, fresh, searching = (log.feature_names.index(name) for name in ("text_match", "freshness", "searching"))

    def crossed(features):
        ask = features[..., [searching]]
        return np.concatenate([features, ask * features[..., [text]], (1 - ask) * features[..., [fresh]]], axis=-1)

    network = ndcg(test.labels, linear_scores(crossed(train.features), train.labels, crossed(test.features)))
    assert network > linear + 0.01


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_users": 0}, r"`num_users` must be at least 1\. Received: num_users=0"),
        ({"num_items": 0}, r"`num_items` must be at least 1"),
        ({"list_size": 0}, r"`list_size` must be at least 1"),
        ({"num_items": 10, "list_size": 11}, r"`list_size` must be at most num_items=10\. Received: list_size=11"),
        ({"visits_per_user": 0.5}, r"`visits_per_user` must be at least 1\. Received: visits_per_user=0\.5"),
        ({"popularity_bias": -1}, r"`popularity_bias` must be at least 0"),
        ({"position_bias": float("nan")}, r"`position_bias` must be finite"),
        ({"grades": (1, 2, 3)}, r"`grades` must be four increasing numbers.*Received: grades=\(1, 2, 3\)"),
        ({"grades": (1, 1, 3, 4)}, r"`grades` must be four increasing numbers"),
        ({"grades": (-1, 1, 3, 4)}, r"`grades` must be four increasing numbers"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        simulate_clicks(**settings)


def test_the_smallest_shop_works():
    log = simulate_clicks(1, 3, visits_per_user=4, list_size=2)
    assert log.lists.labels.shape[1] == 2 and 1 <= len(log.interactions) <= 3
    assert np.isfinite(log.lists.features).all()
