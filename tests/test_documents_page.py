"""docs/documents.md: its Python prints what stands under it, and what it says of wrong forms is so."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from tfrankloss import losses

pytestmark = pytest.mark.backends

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "documents.md").read_text()
BLOCKS = list(re.finditer(r"^```python\n(.*?)^```\n```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
HEADINGS = [re.findall(r"^#+ (.+)$", PAGE[: block.start()], re.MULTILINE)[-1] for block in BLOCKS]
FIGURES = re.findall(r"(?<![\w.])-?\d+\.\d+", re.sub(r"^```.*?^```", "", PAGE, flags=re.DOTALL | re.MULTILINE))


def test_every_block_of_python_has_its_output():
    assert len(BLOCKS) == PAGE.count("```python") == PAGE.count("```text") > 10


@pytest.mark.parametrize(("code", "printed"), [block.groups() for block in BLOCKS], ids=HEADINGS)
def test_a_block_prints_what_stands_under_it(code, printed, capsys):
    exec(compile(code, "documents.md", "exec"), {})
    assert capsys.readouterr().out == printed


def test_every_link_goes_to_a_heading():
    headings = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors


def test_every_class_it_names_is_there():
    named = set(re.findall(r"`(\w+Loss)\b", PAGE))
    assert named <= set(losses.__all__)
    of_documents = {"KLListwiseLoss", "ListMLELoss", "ListNetLoss", "RankNetLoss", "InBatchSoftmaxLoss", "BPRLoss"}
    of_documents |= {"PairwiseHingeLoss", "SampledSoftmaxLoss", "TripletLoss", "NPairLoss"}
    assert of_documents <= named


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def kl_with_cut_off():
    """Labels (1, 0) and scores (-30, 0), the second probabilities cut off at 1e-8."""
    p = np.exp([1.0, 0.0]) / np.exp([1.0, 0.0]).sum()
    q = np.exp([-30.0, 0.0]) / np.exp([-30.0, 0.0]).sum()
    return (p * np.log(p / np.clip(q, 1e-8, 1))).sum()


def list_mle_of_a_cut_list():
    """Ratios of the example's first three items by label, without the fourth."""
    ordered = np.array([1.1, 2.1, 0.7])
    return -np.log(ordered / np.cumsum(ordered[::-1])[::-1]).sum()


def rank_net_over_the_whole_matrix():
    """The log likelihood over all ordered pairs and the diagonal, of labels (1, 0, 2) and scores (.6, .8, .1)."""
    labels, scores = np.array([1, 0, 2]), np.array([0.6, 0.8, 0.1])
    t = (1 + np.sign(labels[:, None] - labels)) / 2
    win = sigmoid(scores[:, None] - scores)
    return (t * np.log(win) + (1 - t) * np.log(1 - win)).sum()


WRONG = {
    "KL": (kl_with_cut_off, "12.8844"),
    "ListMLE": (list_mle_of_a_cut_list, "1.5533"),
    "RankNet": (rank_net_over_the_whole_matrix, "-7.8302"),
}


@pytest.mark.parametrize(("value", "figure"), WRONG.values(), ids=WRONG)
def test_figures_of_wrong_forms(value, figure):
    assert f"{value():.4f}" == figure
    assert figure in FIGURES


def test_rank_net_over_the_whole_matrix_counts_twice():
    labels, scores = np.array([1, 0, 2]), np.array([0.6, 0.8, 0.1])
    gaps = (scores[:, None] - scores)[labels[:, None] > labels]
    once = np.log1p(np.exp(-gaps)).sum()
    assert rank_net_over_the_whole_matrix() == pytest.approx(-(2 * once + 3 * math.log(2)))


@pytest.mark.parametrize(("shape", "factor"), [((1, 4), -2), ((4, 1), 2)])
def test_rows_less_columns_of_an_antisymmetric_matrix(shape, factor, random):
    """A (1, N) array less its transpose has s_j - s_i at (i, j): the sign of the lambdas turns."""
    labels, scores = random.permutation(4), random.normal(size=4)
    matrices = [values.reshape(shape) - values.reshape(shape).T for values in (labels, scores)]
    lambdas = sigmoid(matrices[1]) - (1 + np.sign(matrices[0])) / 2
    right = (sigmoid(scores[:, None] - scores) - (1 + np.sign(labels[:, None] - labels)) / 2).sum(axis=1)
    np.testing.assert_allclose(lambdas.sum(axis=1) - lambdas.T.sum(axis=1), factor * right)


def test_where_float32_gives_up():
    with np.errstate(all="ignore"):
        assert np.log(1 - sigmoid(np.float32(17))) == -math.inf
        assert np.isfinite(np.log(1 - sigmoid(np.float32(16))))
        assert np.exp(np.float32(89)) == math.inf
        assert np.isfinite(np.exp(np.float32(88)))
        assert np.prod(np.full(40, 1000, "float32")) == math.inf
    # A cosine as a logit: the probabilities that it can give.
    assert [round(float(sigmoid(x)), 2) for x in (-1.0, 1.0)] == [0.27, 0.73]
