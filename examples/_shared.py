"""What the examples share: reading `--data`, small towers, progress bars, tables and pictures."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import keras
import matplotlib
import numpy as np

matplotlib.use("Agg")  # the pictures are saved, never shown: an example also runs where there is no screen
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from tqdm import tqdm

from tfrankloss.data import Interactions, simulate_clicks
from tfrankloss.models import mlp_tower

Data = TypeVar("Data")


def read_or_exit(parser: argparse.ArgumentParser, read: Callable[[Path], Data], path: Path) -> Data:
    """What ``read`` makes of ``path``; on a bad path or a bad file, one line on stderr and exit code 2."""
    try:
        return read(path)
    except (OSError, ValueError) as fault:
        parser.exit(2, f"{parser.prog}: error: cannot use --data {path}: {fault}\n")


def positive_integer(text: str) -> int:
    """An argument of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


class EpochBar(keras.callbacks.Callback):
    """One progress bar for a whole training, with the latest loss and validation metric beside it."""

    def __init__(self, description: str, metric: str):
        super().__init__()
        self.description = description
        self.metric = metric
        self.bar: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Open the bar."""
        self.bar = tqdm(total=self.params["epochs"], desc=self.description, unit="epoch")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Move it by one epoch."""
        self.bar.set_postfix({"loss": f"{logs['loss']:.4f}", self.metric: f"{logs[self.metric]:.4f}"}, refresh=False)
        self.bar.update()

    def on_train_end(self, logs: Any = None) -> None:
        """Close it."""
        self.bar.close()


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A title, a header and rows; the first column to the left, the others to the right."""
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]

    def text(line: Sequence[str]) -> str:
        first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        return "  ".join([first.strip().ljust(widths[0]), *others])

    rule = "-" * len(text(header))
    print("", title, rule, text(header), rule, *(text(row) for row in rows), rule, sep="\n", flush=True)


def draw(
    path: Path, title: str, curve: Callable[[Axes], None], scores: Mapping[str, Sequence[float]], label_name: str
) -> None:
    """Save a picture of a learning curve beside the distribution of the scores of each label.

    Args:
        path: The PNG file; its folder is made.
        title: Stands over both.
        curve: Draws the learning curve.
        scores: The scores of the items of each label, in the order in which to show them.
        label_name: What the labels are, under their axis.
    """
    figure, (left, right) = plt.subplots(1, 2, layout="constrained")
    figure.suptitle(title)
    curve(left)
    # Under the axes, where it hides no curve however many there are.
    lines = len(left.get_legend_handles_labels()[0])
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize="small", frameon=False)
    figure.set_size_inches(11, 4.6 + 0.1 * lines)
    left.set_title("Learning curve")
    left.grid(alpha=0.3)
    right.boxplot(list(scores.values()), widths=0.6, showfliers=False, medianprops={"color": "tab:red"})
    right.set_xticks(range(1, len(scores) + 1), [f"{label}\n(n={len(of)})" for label, of in scores.items()])
    right.set(xlabel=label_name, ylabel="score of the model", title="Scores by label (test set)")
    right.grid(axis="y", alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"picture: {path}")


def small_shop(quick: bool) -> Interactions:
    """Users, items and feedback of a simulated shop: 1 shown, 3 clicked, 4 put in the cart, 5 ordered."""
    return simulate_clicks(num_users=200 if quick else 1000, num_items=300 if quick else 1500).interactions


def pairs(rows: Interactions) -> np.ndarray:
    """(N, 2): the places of user and item of every row."""
    return np.stack([rows.user_index, rows.item_index], axis=1)


def user_item_towers(data: Interactions, dimension: int) -> tuple[keras.Model, keras.Model]:
    """A tower of the user's id; a tower of the item's id and genres, which are added up. Both are asked by place."""
    users = [(keras.Input((), dtype="int32", name="user"), keras.layers.Embedding(len(data.user_ids), dimension))]
    genres = data.item_features["genres"]
    of_genres = keras.layers.Embedding(len(genres), genres.shape[1], weights=[genres], trainable=False)
    item = keras.Input((), dtype="int32", name="item")
    own = keras.layers.Embedding(len(data.item_ids), dimension)(item)
    both = keras.layers.add([own, keras.layers.Dense(dimension, use_bias=False)(of_genres(item))])
    return mlp_tower(users, dimension, hidden=(), name="users"), keras.Model(item, both, name="items")
