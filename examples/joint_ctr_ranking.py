"""Clicks on everything, grades for little: one model for both, compared with a model for each.

    python examples/joint_ctr_ranking.py

On a simulated shop. Clicks are known of all lists, grades (clicked, put in the cart, ordered) of a few only. A joint
model's heads share what both have to tell: `alpha` is the weight of the ranking loss, and the last row learns the
weights of the two losses from their noise.
"""

import argparse
from collections.abc import Sequence

import keras
import numpy as np
from _shared import EpochBar, positive_integer, print_table

from tfrankloss import SoftmaxLoss, functional
from tfrankloss.data import RankingLists, simulate_clicks
from tfrankloss.models import JointRankingCTRModel, joint_ranking_ctr

# Weight of the ranking loss, and how it is set.
ROWS = {
    "ranking alone": (1.0, "fixed"),
    "clicks alone, ranked by them": (0.0, "fixed"),
    "joint, alpha 0.5": (0.5, "fixed"),
    "joint, uncertainty": (0.5, "uncertainty"),
}


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """Run the example; returns the closing table: the metrics of each row."""
    args = make_parser().parse_args(argv)
    log = simulate_clicks(num_users=150 if args.quick else 600, num_items=400, grades=(0, 1, 2, 3))
    train, test = log.lists.split(0.8, seed=args.seed)
    graded = np.random.default_rng(args.seed).random(len(train)) < args.graded
    print(f"{len(train)} lists with clicks to train on, {graded.sum()} of them with grades, {len(test)} to test on")
    by_feature = [functional.ndcg(test.labels, test.features[..., f], test.mask, k=10) for f in range(10)]
    results = {"best single feature": {"ndcg@10": max(map(mean, by_feature))}}
    for name, (alpha, weighting) in ROWS.items():
        results[name] = evaluate(fit(name, alpha, weighting, train, graded, args), test)
        if alpha == 1:  # Nobody has trained its click head.
            results[name] = {"ndcg@10": results[name]["ndcg@10"]}
    columns = ("ndcg@10", "auc", "log loss")
    rows = [
        [name, *(f"{found[column]:.4f}" if column in found else "" for column in columns)]
        for name, found in results.items()
    ]
    print_table("Test lists: NDCG@10 of the grades; AUC and log loss of the clicks", ["", *columns], rows)
    return results


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=positive_integer, default=20, help="of each model (default: %(default)s)")
    parser.add_argument("--graded", type=float, default=0.05, help="share of lists with grades (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of split and training (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="simulate few users, to try things out")
    return parser


def fit(
    name: str, alpha: float, weighting: str, train: RankingLists, graded: np.ndarray, args: argparse.Namespace
) -> JointRankingCTRModel:
    """A model trained on the clicks of all lists and the grades of some."""
    keras.utils.set_random_seed(args.seed)
    model = joint_ranking_ctr(train.features.shape[2], alpha=alpha, weighting=weighting)
    model.compile(keras.optimizers.Adam(0.003), SoftmaxLoss())
    # Labels of -1 are padding: a list without grades takes no part in the ranking loss.
    grades = np.where(graded[:, None], train.labels, -1)
    clicks = np.where(train.mask, np.minimum(train.labels, 1), -1)
    model.fit(
        train.features,
        {"scores": grades, "clicks": clicks},
        batch_size=64,
        epochs=args.epochs,
        verbose=0,
        callbacks=[EpochBar(name, "loss")],
    )
    return model


def evaluate(model: JointRankingCTRModel, test: RankingLists) -> dict[str, float]:
    """NDCG@10 of the ranking head, if that was trained; AUC and log loss of the click head."""
    outputs = model.predict(test.features, verbose=0)
    ranked_by = outputs["scores" if model.alpha else "clicks"]
    found = {"ndcg@10": mean(functional.ndcg(test.labels, ranked_by, test.mask, k=10))}
    clicks, logits = (test.labels > 0)[test.mask], outputs["clicks"][test.mask].astype("float64")
    places = np.empty(len(logits))
    places[np.argsort(logits, kind="stable")] = np.arange(1, len(logits) + 1)
    ones = clicks.sum()
    found["auc"] = float((places[clicks].sum() - ones * (ones + 1) / 2) / (ones * (len(clicks) - ones)))
    found["log loss"] = float(np.mean(np.logaddexp(0, np.where(clicks, -logits, logits))))
    return found


def mean(values: object) -> float:
    """The mean over lists."""
    return float(np.mean(keras.ops.convert_to_numpy(values)))


if __name__ == "__main__":
    main()
