"""How well softmax over the catalog and over the batch rank films, beside popularity and EASE: several splits.

    python benchmarks/movielens.py --data path/to/ml-100k

Without `--data` a small simulated shop takes the place of the films. Protocol: all rows are positives; "random" holds
out a fifth of them, "last" the latest row of every user; the training rows of a user are taken out of the ranking of
all items. EASE is solved in closed form, its one setting chosen by NDCG@10 on a tenth of the training rows. Softmax
over the catalog is the recipe of `examples/movielens_full_softmax.py`; softmax over the batch has the same two tables
as two towers, with the user's known positives left out of the negatives, and log Q.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

import keras
import movielens_full_softmax as recipe
import numpy as np
import tensorflow as tf
import timing

from tfrankloss import InBatchSoftmaxLoss, retrieval
from tfrankloss.data import load_movielens
from tfrankloss.models import two_tower
from tfrankloss.sampling import probability_table

REGULARIZATIONS = (100, 200, 300, 500, 700, 1000, 1500)
METRICS = ("ndcg@10", "recall@10", "hit_rate@10", "coverage@10", "popularity_lift@10")


def ease(train, regularization):
    """Scores (U, I): the linear map of histories onto themselves, its diagonal held at 0, of least squared error."""
    table = recipe.histories(train).astype("float64")
    inverse = np.linalg.inv(table.T @ table + regularization * np.eye(table.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return table @ weights


def evaluate(table, train, test):
    settings = {"k": 10, "exclude": recipe.pairs(train), "popularity": train.popularity(), "verbose": False}
    return retrieval.evaluate(lambda users: table[users], recipe.pairs(test), per_query=True, **settings)


def chosen_regularization(train):
    fitted, valid = train.split(0.9, seed=0)
    quality = {
        regularization: evaluate(ease(fitted, regularization), fitted, valid)["ndcg@10"].mean()
        for regularization in REGULARIZATIONS
    }
    return max(quality, key=quality.get)


def last_out(data):
    """The latest row of every user as the test set; of equal times the last in the file."""
    order = np.lexsort((np.arange(len(data)), data.timestamps, data.user_index))
    is_last = np.append(np.diff(data.user_index[order]) > 0, True)
    return data.select(np.sort(order[~is_last])), data.select(np.sort(order[is_last]))


def in_batch_towers(num_items, dimension):
    """Towers of a history, the mean of its items' embeddings, and of an item, with a bias; as `catalog_scorer` has."""
    normal = keras.initializers.RandomNormal
    history, item = keras.Input((num_items,), name="history"), keras.Input((), dtype="int32", name="item")
    kept = keras.layers.Dropout(0.8)(history)
    user = keras.layers.Dense(dimension, use_bias=False, kernel_initializer=normal())(kept)
    user = keras.layers.concatenate([user, keras.ops.ones_like(user[:, :1])])
    own = keras.layers.Embedding(num_items, dimension, embeddings_initializer=normal())(item)
    bias = keras.layers.Embedding(num_items, 1, embeddings_initializer="zeros")(item)
    candidate = keras.layers.concatenate([own, bias])
    return two_tower(keras.Model(history, user, name="users"), keras.Model(item, candidate, name="items"))


def in_batch(train, args, seed=0):
    """Scores (U, I) of two towers trained on pairs; the item of a pair is taken out of its history, as in training of
    the whole catalog.
    """
    keras.utils.set_random_seed(seed)
    known = recipe.histories(train)
    means = tf.constant(known / known.sum(axis=1, keepdims=True).clip(1))
    num_items, most = known.shape[1], int(known.sum(axis=1).max())
    positives = np.full((len(known), most), -1, "int32")
    for user, row in enumerate(known):
        items = np.flatnonzero(row)
        positives[user, : len(items)] = items

    def pair(users, items):
        history = tf.gather(means, users) * (1 - tf.one_hot(items, num_items))
        return {"history": history, "item": items}, tf.stack([items, users], axis=1)

    rows = tf.data.Dataset.from_tensor_slices((train.user_index.astype("int32"), train.item_index.astype("int32")))
    batches = rows.shuffle(len(train), seed=seed).batch(min(1024, len(train)), drop_remainder=True).map(pair)
    model = in_batch_towers(num_items, args.dimension)
    loss = InBatchSoftmaxLoss(
        targets="candidate_ids",
        candidate_probability=probability_table(train.item_index, num_items),
        known_positives=positives,
    )
    model.compile(keras.optimizers.AdamW(0.005, weight_decay=0.01, use_ema=True, ema_momentum=0.99), loss)
    model.fit(batches.prefetch(2), epochs=args.in_batch_epochs, verbose=0)
    return model.embed_queries(means.numpy()) @ model.embed_candidates(np.arange(num_items)).T


def tables(train, args):
    """Scores (U, I) by name of the model."""
    regularization = chosen_regularization(train)
    print(f"EASE: regularization {regularization}", flush=True)
    members = [
        recipe.fit(train, *member, args.seed + number, args)
        for number, member in enumerate(recipe.MEMBERS[: args.members])
    ]
    models = {"softmax, one model": members[0]}
    if len(members) > 1:
        models["softmax, ensemble"] = recipe.ensemble(members)
    users = np.arange(len(train.user_ids))
    return {
        "popularity": np.tile(train.popularity().astype("float64"), (len(users), 1)),
        "EASE": ease(train, regularization),
        "softmax in the batch": in_batch(train, args),
        **{name: recipe.catalog_scores(model, train)(users) for name, model in models.items()},
    }


def interval(differences, seed=0):
    """Mean and 95% bootstrap interval of differences, resampled by row (user)."""
    draws = np.random.default_rng(seed).integers(len(differences), size=(10_000, len(differences)))
    low, high = np.quantile(differences[draws].mean(axis=1), (0.025, 0.975))
    return f"{differences.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def measure(parts, args):
    """Print one table of means over the splits, and the differences of NDCG@10 to EASE by user."""
    found, by_user = {}, {}
    for train, test in parts:
        users = np.unique(test.user_index)
        for name, table in tables(train, args).items():
            values = evaluate(table, train, test)
            found.setdefault(name, []).append([np.mean(values[metric]) for metric in METRICS])
            row = np.full(len(train.user_ids), np.nan)
            row[users] = values["ndcg@10"]
            by_user.setdefault(name, []).append(row)
            print(name, *(f"{value:.4f}" for value in found[name][-1]), sep="  ", flush=True)
    rows = []
    for name, values in found.items():
        gaps = np.array(by_user[name]) - np.array(by_user["EASE"])
        seen = ~np.isnan(gaps).all(axis=0)
        rows.append(
            [name, *(f"{value:.4f}" for value in np.mean(values, axis=0)), interval(np.nanmean(gaps[:, seen], 0))]
        )
    print("\n" + timing.table(rows, ["", *METRICS, "ndcg@10 above EASE"]), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of MovieLens 100K; without it, a shop is simulated")
    parser.add_argument("--splits", type=int, default=3, help="random splits, or 0 for none (default: %(default)s)")
    parser.add_argument("--last", action="store_true", help="also hold out the latest row of every user")
    parser.add_argument("--epochs", type=int, default=90, help="over users, the whole catalog (default: %(default)s)")
    parser.add_argument("--members", type=int, default=len(recipe.MEMBERS), help="of the ensemble (default: all)")
    parser.add_argument("--in-batch-epochs", type=int, default=14, help="over pairs (default: %(default)s)")
    arguments = parser.parse_args()
    data = load_movielens(arguments.data) if arguments.data else recipe.simulate(quick=True)
    settings = recipe.make_parser().parse_args(["--epochs", str(arguments.epochs)])
    settings.in_batch_epochs = arguments.in_batch_epochs
    settings.members = arguments.members
    if arguments.splits:
        measure([data.split(0.8, seed=seed) for seed in range(arguments.splits)], settings)
    if arguments.last:
        measure([last_out(data)], settings)


if __name__ == "__main__":
    main()
