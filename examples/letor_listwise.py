"""Judged lists: train a linear scorer and a small network with a ranking loss, compare, export, ask the export.

On simulated data, and on the real files of LETOR MQ2008:

    python examples/letor_listwise.py
    python examples/letor_listwise.py --data ../shared/data/mq2008 --loss list_mle
    python examples/letor_listwise.py --data ../shared/data/mq2008 --loss all

A run uses the test lists for its closing table alone: the epoch, the best single feature and the model to export are
chosen on training and validation lists. The fixed settings below (learning rates, label temperature, mean over pairs)
are not that innocent: figures of MQ2008's test part were seen before they were settled.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from _shared import EpochBar, draw, positive_integer, print_table, read_or_exit
from matplotlib.axes import Axes

from tfrankloss import NDCG, KLListwiseLoss, ListMLELoss, ListNetLoss, RankNetLoss, SoftmaxLoss, serving
from tfrankloss.data import RankingLists, load_letor, simulate_clicks, to_rows
from tfrankloss.functional import ndcg
from tfrankloss.models import linear_scorer, mlp_scorer

ROOT = Path(__file__).resolve().parents[1]
METRIC = "val_ndcg_at_10"
MODELS = {"linear": linear_scorer, "mlp": lambda num_features: mlp_scorer(num_features, hidden=(64, 32), dropout=0.2)}
LINE_STYLES = {"linear": "-", "mlp": ":"}
# A linear model bears, and needs, larger steps.
LEARNING_RATES = {"linear": 0.01, "mlp": 0.001}
# With a label temperature of 1, grades 0 and 2 would get target probabilities only e^2 apart in a list of a hundred.
LOSSES: dict[str, Callable[[str], keras.losses.Loss]] = {
    "list_mle": lambda ties: ListMLELoss(ties=ties, seed=0),
    "softmax": lambda ties: SoftmaxLoss(),
    "rank_net": lambda ties: RankNetLoss(pair_reduction="mean"),
    "list_net": lambda ties: ListNetLoss(label_temperature=0.2),
    "kl": lambda ties: KLListwiseLoss(label_temperature=0.2),
}
# How TensorFlow Ranking breaks the ties of its ListMLE; a comparison, not a recommendation.
RANDOM_TIES = "list_mle, TF-Ranking's random ties"


@dataclass(frozen=True)
class Parts:
    """Lists to train on, to choose on and to report on."""

    train: RankingLists
    valid: RankingLists
    test: RankingLists


@dataclass(frozen=True)
class Run:
    """One training: the model of its best epoch, NDCG@10 by epoch on validation lists, and on the test lists."""

    model: keras.Model
    curve: list[float]
    test: float


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run the example; returns the closing table: NDCG@10 on the test lists by row."""
    parser = make_parser()
    args = parser.parse_args(argv)
    pool, test = read_or_exit(parser, read_lists, args.data) if args.data else simulate(args.quick)
    print(f"{len(pool)} lists to train on, {len(test)} to test on, {pool.features.shape[2]} features")
    # The simulated lists are five times as many.
    epochs = args.epochs or (40 if args.data else 15)
    parts = [Parts(*pool.split(0.8, seed=seed), test) for seed in range(args.seeds)]
    runs = {
        f"{name}, {kind}": [train(kind, loss, epochs, parts[seed], seed) for seed in range(args.seeds)]
        for name, loss in chosen_losses(args.loss, args.ties).items()
        for kind in (MODELS if args.model == "both" else [args.model])
    }
    report_epochs(runs)
    results = report(runs, pool, test)
    # Of several losses and models, the best on validation, so that the test lists decide nothing.
    best = max(runs, key=lambda row: np.mean([max(run.curve) for run in runs[row]]))
    draw_curves(args.output, runs, parts, best)
    export_and_ask(runs[best][0].model, best, args.export, test)
    return results


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data",
        type=Path,
        help="folder of LETOR files (*.txt): test.txt, or else the last file by name, is the test set, all others are "
        "training and validation; without --data, lists are simulated",
    )
    parser.add_argument("--loss", choices=[*LOSSES, "all"], default="list_mle", help="default: %(default)s")
    parser.add_argument(
        "--ties",
        choices=["exact", "breslow", "efron", "random", "position"],
        default="exact",
        help="how list_mle takes items of equal label; random is TensorFlow Ranking's way (default: %(default)s)",
    )
    parser.add_argument("--model", choices=[*MODELS, "both"], default="both", help="default: %(default)s")
    parser.add_argument("--seeds", type=positive_integer, default=3, help="trainings per row (default: %(default)s)")
    parser.add_argument("--epochs", type=positive_integer, help="default: 40 with --data, 15 on simulated lists")
    parser.add_argument("--quick", action="store_true", help="simulate few lists, to try things out")
    parser.add_argument("--output", type=Path, default=ROOT / "runs/letor_listwise.png", help="the picture")
    parser.add_argument("--export", type=Path, default=ROOT / "saved_models/letor_listwise", help="the SavedModel")
    return parser


def read_lists(folder: Path) -> tuple[RankingLists, RankingLists]:
    """The lists to train and choose on, and those to test on."""
    files = sorted(folder.glob("*.txt")) if folder.is_dir() else []
    if len(files) < 2:
        raise ValueError("a folder with two *.txt files or more is needed")
    test = folder / "test.txt" if folder / "test.txt" in files else files[-1]
    pool = load_letor([file for file in files if file != test])
    return pool, load_letor(test, num_features=pool.features.shape[2])


def simulate(quick: bool) -> tuple[RankingLists, RankingLists]:
    """The same from a simulated shop, with grades 0 (shown) to 3 (ordered)."""
    log = simulate_clicks(num_users=80 if quick else 400, num_items=400, grades=(0, 1, 2, 3))
    pool, test = log.lists.split(0.8)
    return pool, test


def chosen_losses(name: str, ties: str) -> dict[str, keras.losses.Loss]:
    """The losses to train with, by what the tables call them."""
    if name == "all":
        return {**{one: make("exact") for one, make in LOSSES.items()}, RANDOM_TIES: LOSSES["list_mle"]("random")}
    return {name if ties == "exact" or name != "list_mle" else f"{name} (ties={ties})": LOSSES[name](ties)}


def train(kind: str, loss: keras.losses.Loss, epochs: int, parts: Parts, seed: int) -> Run:
    """Train one model; the weights of the epoch with the best NDCG@10 on validation lists are kept."""
    keras.utils.set_random_seed(seed)
    model = MODELS[kind](parts.train.features.shape[2])
    model.compile(keras.optimizers.Adam(LEARNING_RATES[kind]), loss, metrics=[NDCG(k=10)])
    # Patience of all epochs: it never stops early, so that the curves of all seeds have one length.
    keep_best = keras.callbacks.EarlyStopping(METRIC, mode="max", patience=epochs, restore_best_weights=True)
    history = model.fit(
        parts.train.features,
        parts.train.labels,
        batch_size=32,
        epochs=epochs,
        validation_data=(parts.valid.features, parts.valid.labels),
        callbacks=[keep_best, EpochBar(f"{loss.name}, {kind}, seed {seed}", METRIC)],
        verbose=0,
    )
    return Run(model, history.history[METRIC], ndcg_at_10(predict(model, parts.test), parts.test))


def predict(model: keras.Model, lists: RankingLists) -> np.ndarray:
    """The scores (B, L) of all items."""
    return model.predict(lists.features, verbose=0)


def ndcg_at_10(scores: np.ndarray, lists: RankingLists) -> float:
    """Mean NDCG@10 over all lists, those without a relevant item counted as 0."""
    return float(np.mean(keras.ops.convert_to_numpy(ndcg(lists.labels, scores, lists.mask, k=10))))


def random_ndcg(lists: RankingLists, draws: int = 20) -> float:
    """What an order by chance reaches on average."""
    rng = np.random.default_rng(0)
    return float(np.mean([ndcg_at_10(rng.random(lists.labels.shape), lists) for _ in range(draws)]))


def feature_ndcg(lists: RankingLists) -> np.ndarray:
    """(2F,): what an order by each single feature reaches, descending for the first F and ascending for the others."""
    columns = np.moveaxis(lists.features, 2, 0)
    return np.array([ndcg_at_10(scores, lists) for scores in (*columns, *-columns)])


def feature_name(place: int, num_features: int) -> str:
    """What the tables call place ``place`` of `feature_ndcg`."""
    return f"feature {place % num_features + 1}{', ascending' if place >= num_features else ''}"


def report_epochs(runs: Mapping[str, Sequence[Run]]) -> None:
    """Print the mean validation NDCG@10 of the first epoch and of seven more."""
    curves = {row: np.mean([run.curve for run in of], axis=0) for row, of in runs.items()}
    num_epochs = len(next(iter(curves.values())))
    shown = sorted({*np.linspace(1, num_epochs, min(num_epochs, 8)).round().astype(int).tolist()})
    rows = [[row, *(f"{curve[epoch - 1]:.4f}" for epoch in shown)] for row, curve in curves.items()]
    print_table("NDCG@10 on validation lists by epoch, mean over seeds", ["", *map(str, shown)], rows)


def report(runs: Mapping[str, Sequence[Run]], pool: RankingLists, test: RankingLists) -> dict[str, float]:
    """Print the closing table, and return the means in it."""
    on_pool, on_test, num_features = feature_ndcg(pool), feature_ndcg(test), pool.features.shape[2]
    place, hindsight = int(on_pool.argmax()), int(on_test.argmax())
    baselines = {
        "random order": random_ndcg(test),
        f"best single feature ({feature_name(place, num_features)})": float(on_test[place]),
        f"best in hindsight, on test ({feature_name(hindsight, num_features)})": float(on_test[hindsight]),
    }
    rows = [[name, f"{value:.4f}", "", ""] for name, value in baselines.items()]
    means = {}
    for row, of in runs.items():
        values = np.array([run.test for run in of])
        means[row] = float(values.mean())
        rows.append([row, f"{means[row]:.4f}", f"{values.min():.4f}", f"{values.max():.4f}"])
    seeds = len(next(iter(runs.values())))
    print_table(f"NDCG@10 on test lists, {seeds} seed(s)", ["", "mean", "lowest", "highest"], rows)
    print("The best single feature is the best on the lists trained on; the one in hindsight is no fair rival.")
    names = ("random", "best single feature", "hindsight")
    return {**dict(zip(names, baselines.values(), strict=True)), **means}


def draw_curves(path: Path, runs: Mapping[str, Sequence[Run]], parts: Sequence[Parts], best: str) -> None:
    """Save the learning curves, and the scores of the test items of each label by the best model."""
    feature = np.mean([feature_ndcg(part.valid)[feature_ndcg(part.train).argmax()] for part in parts])

    def curves(axes: Axes) -> None:
        losses = list(dict.fromkeys(row.rpartition(", ")[0] for row in runs))
        for row, of in runs.items():
            loss, _, kind = row.rpartition(", ")
            values = np.array([run.curve for run in of])
            epochs = np.arange(1, values.shape[1] + 1)
            style = {"color": f"C{losses.index(loss)}", "linestyle": LINE_STYLES[kind]}
            axes.plot(epochs, values.mean(axis=0), label=row, **style)
            if len(losses) == 1:  # of more, the bands would hide each other
                axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), alpha=0.12, **style)
        axes.axhline(feature, color="black", linestyle="--", linewidth=1, label="best single feature")
        axes.set(xlabel="epoch", ylabel="validation NDCG@10, mean over seeds")

    test = parts[0].test
    scores, labels = (to_rows(values, test.mask) for values in (predict(runs[best][0].model, test), test.labels))
    by_label = {f"{label:g}": scores[labels == label] for label in np.unique(labels)}
    draw(path, f"List-wise ranking: {best}", curves, by_label, "label")


def export_and_ask(model: keras.Model, row: str, base: Path, test: RankingLists) -> None:
    """Export the model, load the export and print its answer for the first test list with a relevant item."""
    result = serving.export(model, base)
    print(f"exported: {result.path} ({row}, seed 0; {result.size_bytes / 1e3:.0f} kB)")
    query = int(np.argmax(test.labels.max(axis=1) > 0))
    mask = test.mask[query]
    with serving.load(base) as servable:
        scores = servable.query(features=test.features[query][mask][None])["scores"][0]
    labels = test.labels[query][mask]
    order = np.argsort(-scores)[:10]
    rows = [[str(rank), str(item), f"{scores[item]:.3f}", f"{labels[item]:g}"] for rank, item in enumerate(order, 1)]
    title = (
        f"Query {test.query_ids[query]} asked of the reloaded export: the first {len(order)} of its {len(labels)} items"
    )
    print_table(title, ["rank", "item", "score", "label"], rows)


if __name__ == "__main__":
    main()
