"""Films for a user: train two towers with in-batch softmax, rank the whole catalog, export, ask the export.

On a simulated shop, and on the real files of MovieLens 100K:

    python examples/movielens_two_tower.py
    python examples/movielens_two_tower.py --data ../shared/data/ml-100k

A random fifth of all ratings is the test set, and a tenth of the rest tells after which epoch to stop. What a user
rated before is taken out of the ranking; what should be found are the held-out films that the user liked.

The settings (dimension, dropout, learning rate, what a like is) were settled after test figures of MovieLens 100K were
seen for one split; other seeds give other splits.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from _shared import EpochBar, draw, positive_integer, print_table, read_or_exit
from keras import layers
from matplotlib.axes import Axes

from tfrankloss import InBatchSoftmaxLoss, retrieval, serving
from tfrankloss.data import Interactions, load_movielens, simulate_clicks
from tfrankloss.models import two_tower

ROOT = Path(__file__).resolve().parents[1]
METRICS = ("recall@10", "recall@100", "ndcg@10", "mrr@100")
CHOSEN_BY = "val_ndcg@10"
PATIENCE = 4

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Parts:
    """Rows to train on, to choose the epoch on and to report on; labels of ``min_label`` and above are likes."""

    train: Interactions
    valid: Interactions
    test: Interactions
    min_label: float


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """Run the example; returns the closing table: the metrics of each row."""
    parser = make_parser()
    args = parser.parse_args(argv)
    data = read_or_exit(parser, load_movielens, args.data) if args.data else simulate(args.quick)
    parts = split(data, min_label=4 if args.data else 3, seed=args.seed)
    likes = parts.train.positives(parts.min_label)
    print(
        f"{len(data)} rows, {len(data.user_ids)} users, {len(data.item_ids)} items; "
        f"a label of {parts.min_label} or more is a like: {len(likes)} of them to train on"
    )
    keras.utils.set_random_seed(args.seed)
    trained = build(data, args.dimension)
    ranker = with_popularity(trained, likes.popularity())
    curves = train(trained, ranker, parts, args)
    scores = catalog_scores(ranker, data)
    results = report(scores, parts)
    draw_curve(args.output, curves, scores, parts)
    export_and_ask(ranker, data, parts, args)
    return results


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, help="folder with u.data, u.item and u.user; without it, a shop is simulated"
    )
    parser.add_argument("--epochs", type=positive_integer, default=30, help="at most (default: %(default)s)")
    parser.add_argument("--batch-size", type=positive_integer, default=1024, help="default: %(default)s")
    parser.add_argument("--dimension", type=positive_integer, default=32, help="of embeddings (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of split and training (default: %(default)s)")
    parser.add_argument("--user", help="raw id of the user to ask for (default: one with a middling history)")
    parser.add_argument("--quick", action="store_true", help="simulate few users, to try things out")
    parser.add_argument("--output", type=Path, default=ROOT / "runs/movielens_two_tower.png", help="the picture")
    parser.add_argument("--export", type=Path, default=ROOT / "saved_models/movielens_two_tower", help="the SavedModel")
    return parser


def simulate(quick: bool) -> Interactions:
    """Users, items and clicks of a simulated shop: 1 shown, 3 clicked, 4 put in the cart, 5 ordered."""
    return simulate_clicks(num_users=200 if quick else 1000, num_items=300 if quick else 1500).interactions


def split(data: Interactions, min_label: float, seed: int) -> Parts:
    """Random parts of all rows, liked or not."""
    known, test = data.split(0.8, seed=seed)
    train, valid = known.split(0.9, seed=seed)
    return Parts(train, valid, test, min_label)


def catalog(data: Interactions) -> Columns:
    """The inputs of the candidate tower for every item; index 0 is kept for ids that were never seen."""
    year = data.item_features["year"]
    return {
        "item": np.arange(1, len(data.item_ids) + 1),
        "genres": data.item_features["genres"],
        "decades": np.where(year > 0, (year - 1990) / 10, 0).astype("float32"),
    }


def build(data: Interactions, dimension: int) -> keras.Model:
    """Two towers: an embedding of the user; an embedding of the item plus what its genres and year tell."""
    user = keras.Input((), name="user", dtype="int32")
    # From zeros, a user who was never seen has no taste, and is recommended what is popular.
    of_user = layers.Embedding(len(data.user_ids) + 1, dimension, embeddings_initializer="zeros")(user)
    query_tower = keras.Model({"user": user}, layers.Dropout(0.3)(of_user), name="users")
    item = keras.Input((), name="item", dtype="int32")
    genres = keras.Input((len(data.genre_names),), name="genres")
    decades = keras.Input((), name="decades")
    of_item = layers.Embedding(len(data.item_ids) + 1, dimension)(item)
    features = layers.concatenate([genres, layers.Reshape((1,))(decades)])
    of_item = layers.add([of_item, layers.Dense(dimension, use_bias=False)(features)])
    candidate_tower = keras.Model(
        {"item": item, "genres": genres, "decades": decades}, layers.Dropout(0.3)(of_item), name="items"
    )
    return two_tower(query_tower, candidate_tower)


def with_popularity(trained: keras.Model, counts: np.ndarray) -> keras.Model:
    """The model that ranks: the trained towers, one dimension longer.

    In-batch negatives come as often as they are liked, so a trained score is the log of P(item | user) / P(item): how
    much more than others this user likes the item. To rank by P(item | user), log P(item) is added back, as a dimension
    that is 1 for every user.
    """
    shares = np.concatenate([[0], counts]) + 1  # one like for all, also for an unknown item, keeps the log finite
    log_share = layers.Embedding(len(shares), 1, trainable=False, name="log_share")
    log_share.build()
    log_share.set_weights([np.log(shares / shares.sum())[:, None]])
    of_user, of_item = trained.query_tower.output, trained.candidate_tower.output
    ones = keras.ops.ones_like(of_user[:, :1])
    return two_tower(
        keras.Model(trained.query_tower.input, layers.concatenate([of_user, ones]), name="user_queries"),
        keras.Model(
            trained.candidate_tower.input,
            layers.concatenate([of_item, log_share(trained.candidate_tower.input["item"])]),
            name="item_candidates",
        ),
    )


def train(trained: keras.Model, ranker: keras.Model, parts: Parts, args: argparse.Namespace) -> dict[str, list[float]]:
    """Fit the towers to the likes, keep the best epoch on validation, and return the metrics by epoch."""
    likes = parts.train.positives(parts.min_label)
    inputs = {name: column[likes.item_index] for name, column in catalog(likes).items()}
    inputs["user"] = likes.user_index + 1
    # With the ids of the candidates as targets, an item that comes twice in a batch is no negative of itself.
    trained.compile(keras.optimizers.Adam(0.005), InBatchSoftmaxLoss(targets="candidate_ids"))
    history = trained.fit(
        inputs,
        likes.item_index,
        batch_size=args.batch_size,
        epochs=args.epochs,
        callbacks=[
            retrieval.RetrievalEvaluation(
                # The ranker shares its towers' weights with the model in training, so it is asked, not that model.
                lambda _: catalog_scores(ranker, parts.train),
                pairs(parts.valid.positives(parts.min_label)),
                k=(10, 100),
                exclude=pairs(parts.train),
            ),
            keras.callbacks.EarlyStopping(CHOSEN_BY, mode="max", patience=PATIENCE, restore_best_weights=True),
            EpochBar("two towers", CHOSEN_BY),
        ],
        verbose=0,
    )
    return history.history


def catalog_scores(ranker: keras.Model, data: Interactions) -> retrieval.Scores:
    """A function from places of users in ``data.user_ids`` to their scores of all items."""
    users = ranker.embed_queries({"user": np.arange(1, len(data.user_ids) + 1)})
    return retrieval.embedding_scores(users, ranker.embed_candidates(catalog(data)))


def pairs(rows: Interactions) -> np.ndarray:
    """(N, 2): the places of user and item of every row."""
    return np.stack([rows.user_index, rows.item_index], axis=1)


def evaluate(
    scores: retrieval.Scores, rows: Interactions, known: Sequence[Interactions], min_label: float
) -> dict[str, float]:
    """How well the likes among ``rows`` are found, in a ranking of all items without the ``known`` ones."""
    found = retrieval.evaluate(
        scores,
        pairs(rows.positives(min_label)),
        k=(10, 100),
        exclude=np.concatenate([pairs(part) for part in known]),
        verbose=False,
    )
    return {name: found[name] for name in METRICS}


def report(scores: retrieval.Scores, parts: Parts) -> dict[str, dict[str, float]]:
    """Print and return the closing table."""
    rankings = {
        "random": retrieval.random_scores(len(parts.train.item_ids)),
        "popularity": retrieval.popularity_scores(parts.train.positives(parts.min_label).popularity()),
        "two towers": scores,
    }
    results = {
        name: evaluate(ranking, parts.test, [parts.train, parts.valid], parts.min_label)
        for name, ranking in rankings.items()
    }
    rows = [[name, *(f"{value:.4f}" for value in metrics.values())] for name, metrics in results.items()]
    ratios = [results["two towers"][name] / results["popularity"][name] for name in METRICS]
    rows.append(["two towers / popularity", *(f"{ratio:.2f}" for ratio in ratios)])
    print_table("Test set, all items ranked but those the user has rated before", ["", *METRICS], rows)
    return results


def draw_curve(path: Path, curves: Mapping[str, list[float]], scores: retrieval.Scores, parts: Parts) -> None:
    """Save the learning curve, and the scores of test rows by label."""
    counts = parts.train.positives(parts.min_label).popularity()
    popular = evaluate(retrieval.popularity_scores(counts), parts.valid, [parts.train], parts.min_label)

    def curve(axes: Axes) -> None:
        for name, color in (("recall@10", "tab:blue"), ("ndcg@10", "tab:orange")):
            values = curves[f"val_{name}"]
            axes.plot(range(1, len(values) + 1), values, color=color, marker=".", label=f"two towers, {name}")
            axes.axhline(popular[name], color=color, linestyle="--", linewidth=1, label=f"popularity, {name}")
        axes.set(xlabel="epoch", ylabel="on validation rows, all items ranked", ylim=(0, None))

    test = parts.test
    of_rows = scores(np.arange(len(test.user_ids)))[test.user_index, test.item_index]
    by_label = {f"{label:g}": of_rows[test.labels == label] for label in np.unique(test.labels)}
    draw(path, "Two-tower retrieval with in-batch softmax", curve, by_label, "label")


def lookups(data: Interactions) -> dict[str, keras.Model]:
    """Models from raw ids to the integers that the towers take, to put in front of the exported model."""
    user_id = keras.Input((), name="user_id", dtype="string")
    item_id = keras.Input((), name="item_id", dtype="string")
    genres = keras.Input((len(data.genre_names),), name="genres")
    decades = keras.Input((), name="decades")
    user = layers.StringLookup(vocabulary=data.user_ids.tolist())(user_id)
    item = layers.StringLookup(vocabulary=data.item_ids.tolist())(item_id)
    return {
        "query": keras.Model({"user_id": user_id}, {"user": user}),
        "candidate": keras.Model(
            {"item_id": item_id, "genres": genres, "decades": decades},
            {"item": item, "genres": genres, "decades": decades},
        ),
    }


def export_and_ask(ranker: keras.Model, data: Interactions, parts: Parts, args: argparse.Namespace) -> None:
    """Export the model, load the export and print what it answers to a user by raw id."""
    index = serving.CandidateIndex.from_model(ranker, catalog(data), data.item_ids)
    result = serving.export(ranker, args.export, candidates=index, k=min(100, index.size), preprocessing=lookups(data))
    print(f"exported: {result.path} ({result.size_bytes / 1e6:.1f} MB), signatures {', '.join(result.signatures)}")
    user = args.user or middling_user(parts)
    with serving.load(args.export) as servable:
        answer = servable.query(user_id=[user])
    print_answer(user, answer["ids"][0], answer["scores"][0], data, parts)


def middling_user(parts: Parts) -> str:
    """Of the users with at least 5 held-out likes (or the most there are), one with a history of median length."""
    held_out = np.bincount(parts.test.positives(parts.min_label).user_index, minlength=len(parts.test.user_ids))
    users = np.flatnonzero(held_out >= min(5, held_out.max()))
    history = np.bincount(parts.train.user_index, minlength=len(held_out))[users]
    return str(parts.test.user_ids[users[np.argsort(history, kind="stable")[len(users) // 2]]])


def print_answer(user: str, ids: np.ndarray, scores: np.ndarray, data: Interactions, parts: Parts) -> None:
    """Print what a user had liked, and the first ten of an answer that the user did not know."""
    titles = dict(zip(data.item_ids.tolist(), data.item_features["title"].tolist(), strict=True))
    history = [part.select(part.users == user) for part in (parts.train, parts.valid)]
    known = {item for part in history for item in part.items.tolist()}
    liked = sorted(zip(history[0].labels.tolist(), history[0].items.tolist(), strict=True), reverse=True)[:8]
    print_table(
        f"What user {user} liked most", ["title", "label"], [[titles[item], f"{label:g}"] for label, item in liked]
    )
    held_out = parts.test.select(parts.test.users == user)
    labels = dict(zip(held_out.items.tolist(), held_out.labels.tolist(), strict=True))
    rows = [
        [titles[item], f"{score:.3f}", f"{labels[item]:g}" if item in labels else "-"]
        for item, score in zip(ids, scores, strict=True)
        if item not in known
    ]
    header = ["title", "score", "held-out label"]
    print_table(f"What the reloaded export answers to user {user}, without what is known", header, rows[:10])


if __name__ == "__main__":
    main()
