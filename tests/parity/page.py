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
        "The scalar of a pairwise loss: TensorFlow Ranking averages over lists and places, ours over lists. Ours is "
        "theirs times the length of the list.",
        "test_tensorflow_ranking.py",
        "test_golden_losses",
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
