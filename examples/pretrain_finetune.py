"""Two towers in two steps: pretrain on many clicks with in-batch softmax, fine-tune on few graded lists.

On a simulated shop, and on the real files of MovieLens 100K:

    python examples/pretrain_finetune.py
    python examples/pretrain_finetune.py --data path/to/ml-100k

Clicks are many, and tell the taste of every user; but they tell as much of what is shown often and far up. Users were
asked to grade what they saw in few visits, which is too little to learn their taste from, but tells what is good. The
table has the gain of each step on visits that neither step has seen: how well items are put in the order of their
grades. Of films a "click" is any rating, and the grade is the rating; lists are films of a user, taken at random.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from _shared import EpochBar, positive_integer, print_table, read_or_exit

from tfrankloss import InBatchSoftmaxLoss, ListMLELoss, functional
from tfrankloss.data import Interactions, RankingLists, load_movielens, simulate_clicks, to_lists
from tfrankloss.models import TwoTower, two_tower
from tfrankloss.sampling import probability_table

# The share of lists that is held out for the test, and that of graded lists by which training is stopped.
TEST, VALID = 0.2, 0.2
BASELINES = ("popularity", "mean grade of the item")
# What a row of the table is compared with.
BEFORE = {"fine-tuned alone": "untrained", "pretrained": "untrained", "pretrained, fine-tuned": "pretrained"}

Towers = tuple[keras.Model, keras.Model]


class Feedback(NamedTuple):
    """Positives of the training part, and lists of users, items and grades; none of a list is in two parts."""

    clicks: Interactions
    graded: RankingLists
    valid: RankingLists
    test: RankingLists


def main(argv: Sequence[str] | None = None) -> dict[str, list[float]]:
    """Run the example; returns the closing table: NDCG@10 on the test lists by row, for each seed."""
    parser = make_parser()
    args = parser.parse_args(argv)
    films = read_or_exit(parser, load_movielens, args.data) if args.data else None
    results: dict[str, list[float]] = {}
    for seed in range(args.seeds):
        feedback = of_shop(args, seed) if films is None else of_films(films, args, seed)
        print(
            f"{len(feedback.clicks)} clicks to pretrain on, {len(feedback.graded)} graded lists to fine-tune on and "
            f"{len(feedback.valid)} to stop by, {len(feedback.test)} to test on"
        )
        for name, value in run(feedback, args, seed).items():
            results.setdefault(name, []).append(value)
    report(results)
    return results


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of MovieLens 100K; without it, a shop is simulated")
    parser.add_argument("--graded", type=float, default=0.06, help="share of lists with grades (default: %(default)s)")
    parser.add_argument("--epochs", type=positive_integer, default=6, help="of pretraining (default: %(default)s)")
    parser.add_argument("--dimension", type=positive_integer, default=16, help="of embeddings (default: %(default)s)")
    parser.add_argument("--seeds", type=positive_integer, default=3, help="how often to run (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="simulate few users, to try things out")
    return parser


def of_shop(args: argparse.Namespace, seed: int) -> Feedback:
    """Clicks and judgments of a simulated shop; a list is what was shown in a visit."""
    size = {"num_users": 400, "num_items": 150} if args.quick else {"num_users": 1000, "num_items": 300}
    log = simulate_clicks(**size, visits_per_user=8, seed=seed)
    visits = np.repeat(np.arange(len(log.lists)), log.lists.mask.sum(axis=1))
    return parts(log.interactions, log.interactions.labels > 1, log.judgments, visits, args.graded, seed)


def of_films(rows: Interactions, args: argparse.Namespace, seed: int) -> Feedback:
    """Ratings as clicks and as grades from 0 to 4; a list is up to 20 films of a user."""
    rows = rows.select(np.lexsort((np.random.default_rng(seed).random(len(rows)), rows.user_index)))
    place = np.arange(len(rows)) - np.searchsorted(rows.user_index, rows.user_index)
    numbers = np.cumsum(place % 20 == 0) - 1
    return parts(rows, np.ones(len(rows), bool), rows.labels - 1, numbers, args.graded, seed)


def parts(
    rows: Interactions, clicked: np.ndarray, grades: np.ndarray, numbers: np.ndarray, graded: float, seed: int
) -> Feedback:
    """Lists, by their number in every row, drawn into the parts."""
    draws = np.random.default_rng(seed).random(numbers.max() + 1)[numbers]
    last = TEST + (1 - TEST) * graded
    first = last - (last - TEST) * VALID

    def lists(chosen: np.ndarray) -> RankingLists:
        places = {"user": rows.user_index[chosen], "item": rows.item_index[chosen]}
        return to_lists(numbers[chosen], grades[chosen], places, list_size=20)

    return Feedback(
        rows.select(clicked & (draws >= TEST)),
        lists((draws >= TEST) & (draws < first)),
        lists((draws >= first) & (draws < last)),
        lists(draws < TEST),
    )


def run(feedback: Feedback, args: argparse.Namespace, seed: int) -> dict[str, float]:
    """NDCG@10 of every row of the table."""
    items = feedback.test.features["item"]
    baselines = (feedback.clicks.popularity().astype("float32"), mean_grades(feedback))
    results = {name: ndcg(scores[items], feedback.test) for name, scores in zip(BASELINES, baselines, strict=True)}
    keras.utils.set_random_seed(seed)
    ranker = two_tower(*make_towers(feedback.clicks, args.dimension), mode="listwise")
    results["untrained"] = quality(ranker, feedback.test)
    finetune(ranker, feedback, f"seed {seed}, fine-tune alone")
    results["fine-tuned alone"] = quality(ranker, feedback.test)
    towers = make_towers(feedback.clicks, args.dimension)
    pretrain(towers, feedback.clicks, args.epochs, seed)
    ranker = two_tower(*towers, mode="listwise")
    results["pretrained"] = quality(ranker, feedback.test)
    # Few grades would spoil the tastes that many clicks have told.
    ranker.query_tower.trainable = False
    finetune(ranker, feedback, f"seed {seed}, fine-tune")
    results["pretrained, fine-tuned"] = quality(ranker, feedback.test)
    return results


def make_towers(rows: Interactions, dimension: int) -> Towers:
    """A tower of the user's id; a tower of the item's id and genres, with a bias."""
    layers = keras.layers
    user, item = (keras.Input((), dtype="int32", name=name) for name in ("user", "item"))
    of_user = layers.Embedding(len(rows.user_ids), dimension)(user)
    of_user = layers.concatenate([of_user, keras.ops.ones_like(of_user[:, :1])])
    table = rows.item_features["genres"]
    genres = layers.Embedding(len(table), table.shape[1], weights=[table], trainable=False)(item)
    own = layers.Embedding(len(table), dimension)(item)
    bias = layers.Embedding(len(table), 1, embeddings_initializer="zeros")(item)
    of_item = layers.concatenate([layers.add([own, layers.Dense(dimension, use_bias=False)(genres)]), bias])
    return keras.Model(user, of_user, name="users"), keras.Model(item, of_item, name="items")


def pretrain(towers: Towers, clicks: Interactions, epochs: int, seed: int) -> None:
    """Fit the towers to the clicks, the other candidates of a batch being negatives."""
    model = two_tower(*towers)
    shares = probability_table(clicks.item_index, len(clicks.item_ids))
    model.compile(
        keras.optimizers.Adam(0.01), InBatchSoftmaxLoss(targets="candidate_ids", candidate_probability=shares)
    )
    rows = {"user": clicks.user_index, "item": clicks.item_index}
    bar = EpochBar(f"seed {seed}, pretrain", "loss")
    model.fit(rows, clicks.item_index, batch_size=512, epochs=epochs, verbose=0, callbacks=[bar])


def finetune(ranker: TwoTower, feedback: Feedback, name: str) -> None:
    """Fit the towers to the graded lists until those kept aside have their least loss."""
    ranker.compile(keras.optimizers.Adam(0.005), ListMLELoss("efron"))
    stop = keras.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True)
    ranker.fit(
        inputs(feedback.graded),
        feedback.graded.labels,
        batch_size=32,
        epochs=40,
        verbose=0,
        validation_data=(inputs(feedback.valid), feedback.valid.labels),
        callbacks=[stop, EpochBar(name, "val_loss")],
    )


def inputs(lists: RankingLists) -> dict[str, np.ndarray]:
    """What the model takes: the user of each list (B,), and its items (B, L)."""
    return {"user": lists.features["user"][:, 0], "item": lists.features["item"]}


def mean_grades(feedback: Feedback) -> np.ndarray:
    """The mean grade (I,) of each item in the graded lists, drawn to the mean of all."""
    graded = [feedback.graded, feedback.valid]
    items = np.concatenate([lists.features["item"][lists.mask] for lists in graded])
    grades = np.concatenate([lists.labels[lists.mask] for lists in graded])
    count = len(feedback.clicks.item_ids)
    sums, sizes = np.bincount(items, grades, count), np.bincount(items, minlength=count)
    return ((sums + 3 * grades.mean()) / (sizes + 3)).astype("float32")


def quality(ranker: TwoTower, lists: RankingLists) -> float:
    """NDCG@10 of a model on lists."""
    return ndcg(keras.ops.convert_to_numpy(ranker(inputs(lists), training=False)), lists)


def ndcg(scores: np.ndarray, lists: RankingLists) -> float:
    """Mean NDCG@10 over lists with something to find."""
    found = lists.labels.max(axis=1) > 0
    values = functional.ndcg(lists.labels[found], scores[found], lists.mask[found], k=10)
    return float(np.mean(keras.ops.convert_to_numpy(values)))


def report(results: dict[str, list[float]]) -> None:
    """Print the closing table: means over seeds, and standard deviations where there are several."""

    def text(values: np.ndarray, sign: str = "") -> str:
        spread = f" ({values.std(ddof=1):.4f})" if len(values) > 1 else ""
        return f"{values.mean():{sign}.4f}{spread}"

    rows = []
    for name, found in results.items():
        values = np.array(found)
        gain = text(values - np.array(results[BEFORE[name]]), "+") if name in BEFORE else ""
        rows.append([name, text(values), gain, f"over {BEFORE[name]}" if name in BEFORE else ""])
    print_table("Graded lists of the test set", ["", "ndcg@10", "gain", ""], rows)


if __name__ == "__main__":
    main()
