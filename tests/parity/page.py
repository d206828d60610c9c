"""Writes docs/parity.md: every row measured, and the deliberate differences with the tests that pin them.

Run as ``python -m parity.page`` from the folder of the tests.
"""

from pathlib import Path

from parity import measure, rax_rows, tensorflow_ranking

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parity.md"

HEAD = """# Parity with TensorFlow Ranking and rax

Written by `make parity`; the tests measure every row again. Each row compares value and gradient on 500 random lists
of 2 to 25 items, live, in float32. The figures are the largest relative differences: of a value to its own size, of an
entry of a gradient to the largest entry of its list, or to the mean of those in the batch where that is more. Losses
are compared as sums per list, before any reduction.
"""

# What is meant to differ, and the test that shows both sides: (what, test file, test function).
DIFFERENCES = [
    (
        "The scalar of a pairwise or pointwise loss: theirs is a mean over lists and places, padding "
        "included, ours over lists. Ours is theirs times the length of the list.",
        "test_tensorflow_ranking.py",
        "test_difference_pairwise_mean_over_padding",
    ),
    (
        "The same for pointwise losses.",
        "test_tensorflow_ranking_pointwise.py",
        "test_difference_mean_over_padding",
    ),
    (
        "ListMLE beside padding: theirs adds log(k!) for k places of padding.",
        "test_tensorflow_ranking.py",
        "test_difference_list_mle_beside_padding",
    ),
    (
        "ListMLE of scores far apart: theirs is infinite.",
        "test_tensorflow_ranking.py",
        "test_difference_list_mle_of_far_scores",
    ),
    (
        "ListMLE of equal labels: theirs draws an order, ours sums over all orders.",
        "test_tensorflow_ranking.py",
        "test_difference_ties_of_list_mle",
    ),
    (
        "Item weights of ListMLE: theirs makes one list weight of them, ours weighs each place.",
        "test_tensorflow_ranking.py",
        "test_difference_item_weights_of_list_mle",
    ),
    (
        "A NaN in a padded score is harmless.",
        "test_tensorflow_ranking.py",
        "test_difference_nan_in_a_padded_score",
    ),
    (
        "Weights (batch,) are weights of lists, also where there are as many lists as items.",
        "test_tensorflow_ranking.py",
        "test_difference_weights_of_square_batches",
    ),
    (
        "Softmax losses: theirs ignores lambda weights of the V2 form without a word.",
        "test_tensorflow_ranking_softmax.py",
        "test_difference_lambda_weights_that_theirs_ignores",
    ),
    (
        "CalibratedSoftmax with item weights: the virtual item weighs 1 in theirs, the mean of the items in ours.",
        "test_tensorflow_ranking_softmax.py",
        "test_difference_item_weights_of_calibrated_softmax",
    ),
    (
        "Circle loss: theirs is NaN without pairs and infinite for wrong orders.",
        "test_tensorflow_ranking_softmax.py",
        "test_difference_circle_of_wrong_orders",
    ),
    (
        "RankDistil beside padding: theirs adds places of padding.",
        "test_tensorflow_ranking_softmax.py",
        "test_difference_rank_distil_beside_padding",
    ),
    (
        "MixtureEM: theirs ignores its temperature.",
        "test_tensorflow_ranking_pointwise.py",
        "test_difference_temperature_of_the_mixture",
    ),
    (
        "NeuralSort cross entropy of scores far apart: theirs is cut off by an epsilon.",
        "test_tensorflow_ranking_smooth.py",
        "test_difference_cross_entropy_of_far_scores",
    ),
    (
        "Metrics of equal scores: theirs shuffles, ours is the mean over all orders.",
        "test_tensorflow_ranking_metrics.py",
        "test_difference_ties",
    ),
    (
        "Metrics with item weights: theirs gives lists without a relevant item the mean weight of their batch.",
        "test_tensorflow_ranking_metrics.py",
        "test_difference_weights_of_lists_without_relevant_items",
    ),
    (
        "Metrics over batches: ours do not depend on how lists are cut into batches.",
        "test_tensorflow_ranking_metrics.py",
        "test_difference_cutting_into_batches",
    ),
]


def table(rows):
    """The lines of a Markdown table of measured rows."""
    lines = ["| theirs | ours | value | gradient |", "|---|---|---|---|"]
    for row in rows:
        values, gradients = measure.differences(row)
        shown = "" if gradients is None else f"{gradients:.0e}"
        lines.append(f"| `{row.theirs}` | `{row.ours}` | {values:.0e} | {shown} |")
    return lines


def sections():
    """The titles of the tables and their rows."""
    return {
        "TensorFlow Ranking 0.5.5": tensorflow_ranking.rows(),
        "rax, on lists with padding": rax_rows.rows(),
    }


def differences():
    """The lines of the list of deliberate differences."""
    return [f"- {what} (`tests/{file}::{name}`)" for what, file, name in DIFFERENCES]


def write():
    """Measure everything and write the page."""
    lines = [HEAD]
    for title, rows in sections().items():
        lines += [f"## {title}", "", *table(rows), ""]
    lines += ["## Deliberate differences", "", *differences()]
    PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write()
