"""Two workers on one machine: each embeds half of a batch, and the candidates of both are negatives for both.

On a simulated shop, and on the real files of MovieLens 100K:

    python examples/two_workers.py
    python examples/two_workers.py --data ../shared/data/ml-100k

This program starts both workers, as a cluster would with one on each machine. When one of them dies it starts both
again, and they go on from their last backup. At the end it ranks the whole catalog by the model that the chief saved.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from _shared import positive_integer, print_table, read_or_exit

from tfrankloss import InBatchSoftmaxLoss, distribution, retrieval
from tfrankloss.data import Interactions, load_movielens, simulate_clicks
from tfrankloss.models import two_tower

ROOT = Path(__file__).resolve().parents[1]
WORKERS = 2
# How often workers are started before it is given up.
STARTS = 3
METRICS = ("recall@10", "recall@100", "ndcg@10")


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """Run the example, or one worker of it; returns the closing table: the metrics of each row."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if "TF_CONFIG" in os.environ:
        # Before anything else runs on a device, and so before the data are read.
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        work(strategy, read(parser, args)[0], args)
        return {}
    train, test = read(parser, args)
    print(f"{len(train)} likes to train on, {len(train.user_ids)} users, {len(train.item_ids)} items")
    run_workers(list(sys.argv[1:] if argv is None else argv))
    return report(keras.models.load_model(args.export), train, test)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, help="folder with u.data, u.item and u.user; without it, a shop is simulated"
    )
    parser.add_argument("--epochs", type=positive_integer, default=15, help="default: %(default)s")
    parser.add_argument("--batch-size", type=positive_integer, default=512, help="of both (default: %(default)s)")
    parser.add_argument("--dimension", type=positive_integer, default=32, help="of embeddings (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="simulate few users, to try things out")
    parser.add_argument("--backup", type=Path, default=ROOT / "runs/two_workers_backup", help="a folder for it")
    parser.add_argument("--export", type=Path, default=ROOT / "saved_models/two_workers.keras", help="the model")
    return parser


def read(parser: argparse.ArgumentParser, args: argparse.Namespace) -> tuple[Interactions, Interactions]:
    """Likes to train on, and those to be found."""
    if args.data:
        data = read_or_exit(parser, load_movielens, args.data)
    else:
        data = simulate_clicks(
            num_users=200 if args.quick else 1000, num_items=300 if args.quick else 1500
        ).interactions
    train, test = data.split(0.8, seed=0)
    least = 4 if args.data else 3
    return train.positives(least), test.positives(least)


def work(strategy: tf.distribute.Strategy, likes: Interactions, args: argparse.Namespace) -> None:
    """What each worker does: the same program, with its part of each batch."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = build(likes, args.dimension)
        # The probability of an item to be in a batch, by which its score is corrected.
        share = (likes.popularity() + 1) / (likes.popularity() + 1).sum()
        loss = InBatchSoftmaxLoss(targets="candidate_ids", temperature=0.2, candidate_probability=share)
        model.compile(keras.optimizers.Adam(0.01), loss)
    inputs = {"user": likes.user_index, "item": likes.item_index}
    rows = tf.data.Dataset.from_tensor_slices((inputs, likes.item_index))
    # The order is that of the seed, so that a training that is taken up again sees the same batches.
    batches = rows.shuffle(len(likes), seed=0).batch(args.batch_size)
    distribution.fit(model, batches, epochs=args.epochs, strategy=strategy, backup_dir=args.backup, verbose=2)
    if distribution.is_chief(strategy):
        args.export.parent.mkdir(parents=True, exist_ok=True)
        model.save(args.export)


def build(data: Interactions, dimension: int) -> keras.Model:
    """An embedding of the user and one of the item."""
    user, item = keras.Input((), name="user", dtype="int32"), keras.Input((), name="item", dtype="int32")
    users = keras.layers.Embedding(len(data.user_ids), dimension)(user)
    items = keras.layers.Embedding(len(data.item_ids), dimension)(item)
    return two_tower(
        keras.Model(user, users, name="users"), keras.Model(item, items, name="items"), similarity="cosine"
    )


def run_workers(arguments: list[str]) -> None:
    """Run the workers to their end; all start again when one dies."""
    for _ in range(STARTS):
        if run_once(arguments):
            return
        print("a worker died: all start again from their last backup", flush=True)
    sys.exit(f"error: the workers died {STARTS} times")


def run_once(arguments: list[str]) -> bool:
    """Start the workers and wait for them; whether all of them came to their end."""
    addresses = free_addresses()
    workers = []
    for index in range(WORKERS):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CONFIG": json.dumps(config)}
        # What another than the chief complains about the chief complains about too.
        errors = None if index == 0 else subprocess.DEVNULL
        workers.append(subprocess.Popen([sys.executable, __file__, *arguments], env=environment, stderr=errors))
    try:
        while any(worker.poll() is None for worker in workers):
            if any(worker.poll() for worker in workers):
                return False
            try:
                workers[-1].wait(0.2)
                workers[0].wait(0.2)
            except subprocess.TimeoutExpired:
                pass
        return not any(worker.returncode for worker in workers)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def free_addresses() -> list[str]:
    """Addresses on this machine where nobody listens."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(WORKERS)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def report(model: keras.Model, train: Interactions, test: Interactions) -> dict[str, dict[str, float]]:
    """Print and return the closing table."""
    users, items = np.arange(len(train.user_ids)), np.arange(len(train.item_ids))
    rankings = {
        "random": retrieval.random_scores(len(items)),
        "popularity": retrieval.popularity_scores(train.popularity()),
        "two workers": retrieval.embedding_scores(model.embed_queries(users), model.embed_candidates(items)),
    }
    pairs = [np.stack([part.user_index, part.item_index], axis=1) for part in (train, test)]
    results = {}
    for name, scores in rankings.items():
        found = retrieval.evaluate(scores, pairs[1], k=(10, 100), exclude=pairs[0], verbose=False)
        results[name] = {metric: found[metric] for metric in METRICS}
    rows = [[name, *(f"{value:.4f}" for value in metrics.values())] for name, metrics in results.items()]
    print_table("Held-out likes, all items ranked but those the user has liked before", ["", *METRICS], rows)
    return results


if __name__ == "__main__":
    main()
