"""Films for a history: softmax over the whole catalog, one model and then an ensemble, exported as one SavedModel.

On a simulated shop, and on the real files of MovieLens 100K:

    python examples/movielens_full_softmax.py
    python examples/movielens_full_softmax.py --data path/to/ml-100k

Every row counts as a positive (of the simulated shop, every click), a random fifth of them is the test set, and what a
user has in the training part is taken out of the ranking. `docs/quality.md` has the figures of three splits beside
those of EASE, and how the settings were chosen.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from _shared import EpochBar, draw, positive_integer, print_table, read_or_exit
from keras import layers, ops
from matplotlib.axes import Axes

from tfrankloss import SoftmaxLoss, retrieval, serving
from tfrankloss.data import Interactions, load_movielens, simulate_clicks
from tfrankloss.models import catalog_scorer

ROOT = Path(__file__).resolve().parents[1]
METRICS = ("ndcg@10", "recall@10", "coverage@10", "novelty@10", "popularity_lift@10")
# Similarity and temperature of the members of the ensemble; the first alone is the single model.
# Raw ids that a served history has room for.
HISTORY = 1000
MEMBERS = (("dot", 1.0), ("dot", 1.0), ("dot", 1.0), ("cosine", 0.2), ("cosine", 0.2))


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """Run the example; returns the closing table: the metrics of each row."""
    parser = make_parser()
    args = parser.parse_args(argv)
    data = read_or_exit(parser, load_movielens, args.data) if args.data else simulate(args.quick)
    train, test = data.split(0.8, seed=args.seed)
    print(f"{len(train)} rows to train on, {len(data.user_ids)} users, {len(data.item_ids)} items")
    members, losses = train_members(train, args)
    model = ensemble(members)
    results = report({"one model": members[0], "ensemble": model}, train, test)
    draw_pictures(args.output, losses, model, train, test)
    export_and_ask(model, train, args)
    return results


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, help="folder with u.data, u.item and u.user; without it, a shop is simulated"
    )
    parser.add_argument("--epochs", type=positive_integer, default=90, help="of each model (default: %(default)s)")
    parser.add_argument("--batch-size", type=positive_integer, default=128, help="users (default: %(default)s)")
    parser.add_argument("--dimension", type=positive_integer, default=128, help="of embeddings (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of split and training (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="simulate few users, to try things out")
    parser.add_argument("--output", type=Path, default=ROOT / "runs/movielens_full_softmax.png", help="the picture")
    parser.add_argument(
        "--export", type=Path, default=ROOT / "saved_models/movielens_full_softmax", help="the SavedModel"
    )
    return parser


def simulate(quick: bool) -> Interactions:
    """The clicks of a simulated shop."""
    shop = simulate_clicks(num_users=200 if quick else 1000, num_items=300 if quick else 1500)
    return shop.interactions.positives(3)


def histories(rows: Interactions) -> np.ndarray:
    """(U, I): 1 where the user has a row with the item."""
    table = np.zeros((len(rows.user_ids), len(rows.item_ids)), "float32")
    table[rows.user_index, rows.item_index] = 1
    return table


def fit(train: Interactions, similarity: str, temperature: float, seed: int, args: argparse.Namespace) -> keras.Model:
    """A model fitted to the histories; they are the labels too."""
    keras.utils.set_random_seed(seed)
    model = catalog_scorer(
        len(train.item_ids),
        args.dimension,
        similarity=similarity,
        temperature=temperature,
        name=f"{similarity}_{seed}",  # an ensemble takes no two models of one name
    )
    # `fit` ends with the running average of the weights in the model.
    model.compile(keras.optimizers.AdamW(0.005, weight_decay=0.01, use_ema=True, ema_momentum=0.99), SoftmaxLoss())
    table = histories(train)
    table = table[table.any(axis=1)]
    bar = EpochBar(f"{similarity}, seed {seed}", "loss")
    model.fit(table, table, batch_size=args.batch_size, epochs=args.epochs, verbose=0, callbacks=[bar])
    return model


def train_members(train: Interactions, args: argparse.Namespace) -> tuple[list[keras.Model], dict[str, list[float]]]:
    """The models of the ensemble, and their losses by epoch."""
    members, losses = [], {}
    for number, (similarity, temperature) in enumerate(MEMBERS):
        members.append(fit(train, similarity, temperature, args.seed + number, args))
        losses[f"{similarity}, seed {args.seed + number}"] = members[-1].history.history["loss"]
    return members, losses


def ensemble(members: Sequence[keras.Model]) -> keras.Model:
    """One model: the mean of the members' scores, each standardised over the catalog, as their scales differ."""
    history = keras.Input(members[0].input_shape[1:], name="history")
    standardised = []
    for member in members:
        scores = member(history)
        gaps = scores - ops.mean(scores, axis=1, keepdims=True)
        standardised.append(gaps / ops.sqrt(ops.mean(ops.square(gaps), axis=1, keepdims=True)))
    return keras.Model(history, layers.average(standardised), name="ensemble")


def catalog_scores(model: keras.Model, train: Interactions) -> retrieval.Scores:
    """A function from places of users to their scores of all items."""
    table = model.predict(histories(train), batch_size=1024, verbose=0)
    return lambda users: table[users]


def pairs(rows: Interactions) -> np.ndarray:
    """(N, 2): the places of user and item of every row."""
    return np.stack([rows.user_index, rows.item_index], axis=1)


def report(models: dict[str, keras.Model], train: Interactions, test: Interactions) -> dict[str, dict[str, float]]:
    """Print and return the closing table."""
    counts = train.popularity()
    rankings = {
        "random": retrieval.random_scores(len(train.item_ids)),
        "popularity": retrieval.popularity_scores(counts),
        **{name: catalog_scores(model, train) for name, model in models.items()},
    }
    settings = {"k": 10, "exclude": pairs(train), "popularity": counts, "verbose": False}
    results = {name: retrieval.evaluate(ranking, pairs(test), **settings) for name, ranking in rankings.items()}
    rows = [[name, *(f"{found[metric]:.4f}" for metric in METRICS)] for name, found in results.items()]
    print_table("Test set, all items ranked but those of the history", ["", *METRICS], rows)
    return results


def draw_pictures(
    path: Path, losses: dict[str, list[float]], model: keras.Model, train: Interactions, test: Interactions
) -> None:
    """Save the losses by epoch, and the scores of test rows by label."""

    def curve(axes: Axes) -> None:
        for name, values in losses.items():
            axes.plot(range(1, len(values) + 1), values, label=name)
        axes.set(xlabel="epoch", ylabel="training loss per user")

    of_rows = catalog_scores(model, train)(test.user_index)[np.arange(len(test)), test.item_index]
    by_label = {f"{label:g}": of_rows[test.labels == label] for label in np.unique(test.labels)}
    draw(path, "Softmax over the whole catalog", curve, by_label, "label")


def padded(ids: list[str]) -> list[str]:
    """A history as the export takes it: ``HISTORY`` ids, empty ones behind the others."""
    return ids + [""] * (HISTORY - len(ids))


def lookup(item_ids: np.ndarray) -> keras.Model:
    """A model from the raw ids of a history, "" where there are no more, to what the ensemble takes."""
    ids = keras.Input((HISTORY,), name="watched", dtype="string")
    place = layers.StringLookup(vocabulary=item_ids.tolist(), mask_token="", num_oov_indices=1)(ids)
    # Columns 0 and 1 are of the empty string and of unknown ids.
    return keras.Model(
        {"watched": ids}, {"history": layers.CategoryEncoding(len(item_ids) + 2, "multi_hot")(place)[:, 2:]}
    )


def export_and_ask(model: keras.Model, train: Interactions, args: argparse.Namespace) -> None:
    """Export the model with the ids of its catalog, load it and print the best for a history, without its items."""
    result = serving.export(
        model,
        args.export,
        candidates=serving.CandidateIndex(train.item_ids),
        exclude=HISTORY,
        preprocessing={"inputs": lookup(train.item_ids)},
    )
    print(f"exported: {result.path} ({result.size_bytes / 1e6:.1f} MB), signatures {', '.join(result.signatures)}")
    sizes = histories(train).sum(axis=1)
    user = int(np.argsort(sizes, kind="stable")[len(sizes) // 2])
    known = train.item_ids[np.unique(train.item_index[train.user_index == user])][:HISTORY].tolist()
    with serving.load(args.export) as servable:
        answers = servable.query(watched=[padded(known)], exclude_ids=[padded(known)])
    titles = dict(zip(train.item_ids.tolist(), train.item_features["title"], strict=True))
    best = list(zip(answers["ids"][0, :10].tolist(), answers["scores"][0, :10], strict=True))
    print_table(
        f"What the reloaded export answers to the {len(known)} items of user {train.user_ids[user]}",
        ["title", "score"],
        [[str(titles[item]), f"{score:.3f}"] for item, score in best],
    )


if __name__ == "__main__":
    main()
