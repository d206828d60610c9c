"""One data set, four ways to train two towers: point-wise, pair-wise, list-wise and in the batch, compared.

On a simulated shop, and on the real files of MovieLens 100K:

    python examples/training_modes.py
    python examples/training_modes.py --data path/to/ml-100k

Every mode trains the same towers on the same positives for the same number of epochs and ranks the whole catalog, less
what the user has in the training part. The first three draw their negatives from the catalog, the last one takes the
other candidates of its batch, and is told how often each comes. Settings are the same for all and were not tuned.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from _shared import EpochBar, pairs, positive_integer, print_table, read_or_exit, small_shop, user_item_towers

from tfrankloss import BPRLoss, InBatchSoftmaxLoss, SampledSoftmaxLoss, retrieval
from tfrankloss.data import Interactions, NegativeSampler, load_movielens, with_negatives
from tfrankloss.models import TwoTower, two_tower
from tfrankloss.sampling import probability_table

METRICS = ("ndcg@10", "recall@10", "mrr@10", "coverage@10")
# Negatives per positive.
NEGATIVES = {"pointwise": 4, "pairwise": 1, "listwise": 20}


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """Run the example; returns the closing table: the metrics of each row."""
    parser = make_parser()
    args = parser.parse_args(argv)
    data = read_or_exit(parser, load_movielens, args.data) if args.data else small_shop(args.quick)
    train, test = data.positives(4 if args.data else 3).split(0.8, seed=args.seed)
    print(f"{len(train)} positives to train on, {len(data.user_ids)} users, {len(data.item_ids)} items")
    rankings = {
        "popularity": retrieval.popularity_scores(train.popularity()),
        **{mode: scores(fit(mode, train, args)) for mode in (*NEGATIVES, "in_batch")},
    }
    settings = {"k": 10, "exclude": pairs(train), "popularity": train.popularity(), "verbose": False}
    relevant = new_pairs(train, test)
    results = {name: retrieval.evaluate(ranking, relevant, **settings) for name, ranking in rankings.items()}
    rows = [[name, *(f"{found[metric]:.4f}" for metric in METRICS)] for name, found in results.items()]
    print_table("Test set, all items ranked but those of the training part", ["", *METRICS], rows)
    return results


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of MovieLens 100K; without it, a shop is simulated")
    parser.add_argument("--epochs", type=positive_integer, default=20, help="of each mode (default: %(default)s)")
    parser.add_argument("--batch-size", type=positive_integer, default=512, help="default: %(default)s")
    parser.add_argument("--dimension", type=positive_integer, default=32, help="of embeddings (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of split and training (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="simulate few users, to try things out")
    return parser


def new_pairs(train: Interactions, test: Interactions) -> np.ndarray:
    """The pairs of the test part that are not in the training part as well."""
    known = set(map(tuple, pairs(train).tolist()))
    return np.array([pair for pair in pairs(test).tolist() if tuple(pair) not in known])


def fit(mode: str, train: Interactions, args: argparse.Namespace) -> TwoTower:
    """A two-tower model trained in one mode."""
    keras.utils.set_random_seed(args.seed)
    model = two_tower(*user_item_towers(train, args.dimension), mode=mode)
    losses = {
        "pointwise": keras.losses.BinaryCrossentropy(from_logits=True),
        "pairwise": BPRLoss(),
        "listwise": SampledSoftmaxLoss(),
        "in_batch": InBatchSoftmaxLoss(
            targets="candidate_ids",
            candidate_probability=probability_table(train.item_index, len(train.item_ids)),
        ),
    }
    model.compile(keras.optimizers.Adam(0.01), losses[mode])
    settings = {"epochs": args.epochs, "verbose": 0, "callbacks": [EpochBar(mode, "loss")]}
    if mode == "in_batch":
        inputs = {"user": train.user_index, "item": train.item_index}
        model.fit(inputs, train.item_index, batch_size=args.batch_size, **settings)
        return model
    sampler = NegativeSampler(pairs(train), len(train.item_ids), seed=args.seed)
    batches = with_negatives(pairs(train), sampler, NEGATIVES[mode], args.batch_size, seed=args.seed)
    model.fit(batches.map(flat) if mode == "pointwise" else batches, **settings)
    return model


def flat(inputs: dict, labels: keras.KerasTensor) -> tuple[dict, keras.KerasTensor]:
    """Lists of one positive and its negatives as single pairs of user and item."""
    count = labels.shape[1]
    users, items = keras.ops.repeat(inputs["user"], count), keras.ops.reshape(inputs["item"], (-1,))
    return {"user": users, "item": items}, keras.ops.reshape(labels, (-1,))


def scores(model: TwoTower) -> retrieval.Scores:
    """A function from places of users to their scores of all items."""
    sizes = [tower.get_layer(index=1).input_dim for tower in (model.query_tower, model.candidate_tower)]
    users, items = (np.arange(size) for size in sizes)
    return retrieval.embedding_scores(model.embed_queries(users), model.embed_candidates(items))


if __name__ == "__main__":
    main()
