"""Slow float64 NumPy formulas of every loss and metric: the oracle of the laws.

Nothing here comes from the package, and no constant is shared with it. A reference sees one list without padding.
"""

import inspect
import itertools
import math

import numpy as np


def logsumexp(values):
    """log(sum(exp(values))) of a sequence; minus infinity if it is empty."""
    values = np.asarray(values, "float64")
    if not values.size:
        return -math.inf
    highest = values.max()
    return highest + math.log(np.exp(values - highest).sum())


def log_softmax(values):
    values = np.asarray(values, "float64")
    return values - logsumexp(values)


def softplus(x):
    """log(1 + exp(x)) without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


# Losses: labels and scores of one list, to the losses of its items.


def softmax_loss(labels, scores, lambda_weight=None, held_at=None):
    return -targets_of(labels, scores, lambda_weight, held_at) * log_softmax(scores)


def poly_one_softmax_loss(labels, scores, epsilon=1.0, lambda_weight=None, held_at=None):
    targets, log_p = targets_of(labels, scores, lambda_weight, held_at), log_softmax(scores)
    return np.array([y * (-q + epsilon * (1 - math.exp(q))) for y, q in zip(targets, log_p, strict=True)])


def calibrated_softmax_loss(labels, scores, virtual_label=0.0, lambda_weight=None, held_at=None):
    held_at = None if held_at is None else [*held_at, 0.0]
    losses = softmax_loss(np.array([*labels, virtual_label]), np.array([*scores, 0.0]), lambda_weight, held_at)
    return losses[:-1] + losses[-1] / len(labels)


def targets_of(labels, scores, lambda_weight, held_at):
    """The labels, or the gains that a lambda weight counts at the ranks of ``held_at``."""
    if lambda_weight is None:
        return labels
    gains, discount, _ = metric_of(lambda_weight, labels)
    ranks = ranks_of(labels, scores if held_at is None else held_at)
    return np.array([gain * discount_of(rank, discount) for gain, rank in zip(gains, ranks, strict=True)])


def share_by_label(loss, labels):
    """The loss of a list as losses of its items; 0 where all labels are 0."""
    return loss * labels / labels.sum() if labels.sum() else np.zeros(len(labels))


def unique_softmax_loss(labels, scores):
    loss = 0.0
    for label, score in zip(labels, scores, strict=True):
        loss += gain_of(label) * (logsumexp([score, *scores[labels < label]]) - score)
    return share_by_label(loss, labels)


def circle_loss(labels, scores, gamma=64.0, margin=0.25, held_at=None):
    """The factors alpha follow ``held_at``, and stay when the scores are moved to find a slope."""
    s, fixed = np.clip(scores, 0, 1), np.clip(scores if held_at is None else held_at, 0, 1)
    exponents = [0.0]
    for i, j in itertools.permutations(range(len(labels)), 2):
        if labels[i] > labels[j]:
            alpha_i, alpha_j = max(0.0, 1 + margin - fixed[i]), max(0.0, fixed[j] + margin)
            exponents.append(gamma * (alpha_j * (s[j] - margin) - alpha_i * (s[i] - (1 - margin))))
    return share_by_label(logsumexp(exponents), labels)


def coupled_rank_distil_loss(labels, scores, sample_size=8, top_k=None):
    """The mean over all orders, each as likely as the teacher makes it: what draws give on average."""
    orders = np.array(list(itertools.permutations(range(len(labels)))))

    def log_factors(values):
        ordered = np.asarray(values, "float64")[orders]
        return ordered - np.logaddexp.accumulate(ordered[:, ::-1], axis=1)[:, ::-1]

    likelihood = np.exp(log_factors(labels).sum(axis=1))
    return share_by_label(-(likelihood * log_factors(scores)[:, :top_k].sum(axis=1)).sum(), labels)


def label_distribution(labels, label_temperature):
    if not np.any(labels > 0):
        return np.zeros_like(labels)
    return np.exp(log_softmax(labels / label_temperature))


def list_net_loss(labels, scores, label_temperature=1.0):
    return -label_distribution(labels, label_temperature) * log_softmax(scores)


def xe_ndcg_loss(labels, scores, gamma=0.5):
    if not np.any(labels > 0):
        return np.zeros_like(labels)
    gains = np.array([2.0**label - gamma for label in labels])
    return -gains / gains.sum() * log_softmax(scores)


def kl_listwise_loss(labels, scores, label_temperature=1.0, labels_are_probabilities=False):
    p = labels if labels_are_probabilities else label_distribution(labels, label_temperature)
    log_q = log_softmax(scores)
    return np.array([p_i * (math.log(p_i) - q_i) if p_i > 0 else 0.0 for p_i, q_i in zip(p, log_q, strict=True)])


def pairwise(gap_loss, tied=0.0):
    """A pairwise loss: ``gap_loss`` of the gaps of scores and of labels, and the weight of a pair of equal labels.

    Lambda weights follow the ranks of ``held_at``, and stay when the scores are moved to find a slope.
    """

    def loss(labels, scores, pairs="graded", pair_reduction="sum", lambda_weight=None, held_at=None, **settings):
        classes = (labels > 0).astype("float64") if pairs == "binary" else labels
        weight_of = pair_weight_of(lambda_weight, labels, scores if held_at is None else held_at)
        of_ties = {"half": 0.5, "skip": 0.0, None: tied}[settings.pop("ties", None)]
        losses, count = np.zeros(len(labels)), 0.0
        for i, j in itertools.permutations(range(len(labels)), 2):
            weight = 1.0 if classes[i] > classes[j] else of_ties if classes[i] == classes[j] else 0.0
            if gap_loss is squared_gap:
                weight = float(pairs == "graded" or classes[i] != classes[j])
            count += weight
            if weight:
                gap = gap_loss(scores[i] - scores[j], labels[i] - labels[j], **settings)
                losses[i] += weight * weight_of(i, j) * gap
        return losses / count if pair_reduction == "mean" and count else losses

    return loss


def squared_gap(gap, label_gap):
    return (gap - label_gap) ** 2


rank_net_loss = pairwise(lambda gap, _: softplus(-gap))
pairwise_hinge_loss = pairwise(lambda gap, _, margin=1.0: max(0.0, margin - gap))
pairwise_soft_zero_one_loss = pairwise(lambda gap, _: math.exp(-softplus(gap)))
pairwise_mse_loss = pairwise(squared_gap)


def ranks_of(labels, scores):
    """Places by descending score; of equal scores the smaller label first, and the mean place of equal items."""
    keys = [(-score, label) for score, label in zip(scores, labels, strict=True)]
    return [np.mean([place for place, key in enumerate(sorted(keys), 1) if key == own]) for own in keys]


def metric_of(weight, labels):
    """The gains and the discount of a lambda weight, and whether it multiplies gains of pairs by the list size."""
    kind, settings = type(weight).__name__, dict(weight.settings)
    gain, discount, normalized, times_size = {
        "LabelDiffLambdaWeight": ("linear", None, False, False),
        "PrecisionLambdaWeight": ("binary", None, False, False),
        "MRRLambdaWeight": ("binary", "reciprocal", False, True),
        "DCGLambdaWeight": ("linear", "reciprocal", False, True),
        "NDCGLambdaWeight": ("exponential", "log2", True, True),
        "NDCGLambdaWeightV2": ("exponential", "log2", True, True),
        "YetiDCGLambdaWeight": ("exponential", "log2", False, True),
    }.get(kind, ("exponential", "log2", True, False))
    gain, discount = settings.get("gain", gain), settings.get("discount", discount)
    threshold = settings.get("threshold", 1.0)
    gains = [float(y >= threshold) if gain == "binary" else gain_of(y, gain) for y in labels]
    if settings.get("normalized", normalized):
        best = sorted(gains, reverse=True)[: settings.get("k")]
        ideal = sum(g * discount_of(r, discount) for r, g in enumerate(best, 1))
        gains = [g / ideal if ideal else 0.0 for g in gains]
    return gains, discount, times_size


def pair_weight_of(weight, labels, scores):
    """The lambda weight of pair (i, j), where i is the better item."""
    if weight is None:
        return lambda i, j: 1.0
    ranks = ranks_of(labels, scores)
    kind, settings = type(weight).__name__, dict(weight.settings)
    k = settings.get("k") or len(labels)
    gains, discount, times_size = metric_of(weight, labels)
    if times_size:
        gains = [g * len(labels) for g in gains]

    def by_distance(i, j):
        n = abs(ranks[i] - ranks[j])
        return abs(discount_of(n, discount) - discount_of(n + 1, discount)) if n else 0.0

    def by_swapping(i, j):
        return abs(sum(sign * discount_of(ranks[x], discount) for x, sign in ((i, 1), (j, -1)) if ranks[x] <= k))

    def factor(i, j):
        low, high = sorted((ranks[i], ranks[j]))
        if kind == "LabelDiffLambdaWeight":
            return 1.0
        if kind == "PrecisionLambdaWeight":
            return float(low <= k < high)
        if kind in ("NDCGLambdaWeightV2", "YetiDCGLambdaWeight"):
            beyond = 1 / (1 - discount_of(high, discount)) if high > k else 1.0
            return by_distance(i, j) * beyond * (kind == "NDCGLambdaWeightV2" or high - low == 1)
        if low > k:
            return 0.0
        if kind == "NDCGLoss2LambdaWeight":
            return by_distance(i, j)
        if kind == "NDCGLoss2PlusPlusLambdaWeight":
            return settings["mu"] * by_distance(i, j) + by_swapping(i, j)
        part = settings["smooth_fraction"]
        return (1 - part) * by_distance(i, j) + part * by_swapping(i, j)

    if kind == "NDCGLoss1LambdaWeight":
        return lambda i, j: gains[i] * discount_of(ranks[i], discount) * (min(ranks[i], ranks[j]) <= k)
    return lambda i, j: abs(gains[i] - gains[j]) * factor(i, j)


def place_weights(length, top_k=None, discount=None):
    """The weight of the places 1, 2, ... in ListMLE."""
    forms = {None: lambda rank: 1.0, "log2": lambda rank: 1 / math.log2(1 + rank), "reciprocal": lambda rank: 1 / rank}
    form = discount if callable(discount) else forms[discount]
    return [form(rank) if top_k is None or rank <= top_k else 0.0 for rank in range(1, length + 1)]


def log_first_places(group, rest, drawn):
    """log probability that the first ``drawn`` draws all come from ``group``: every order of every choice, summed.

    ``group`` and ``rest`` hold logarithms of Plackett-Luce weights.
    """
    group = np.asarray(group, "float64")
    orders = np.array(list(itertools.permutations(range(len(group)), drawn)))
    below = logsumexp(rest)
    left = np.ones((len(orders), len(group)), bool)
    total = np.zeros(len(orders))
    for place in range(drawn):
        highest = max(group.max(), below)
        weights = np.where(left, np.exp(group - highest), 0.0).sum(axis=1) + math.exp(below - highest)
        # Far below the highest, exp() underflows; only then are the sums taken in logarithms, row by row.
        tiny = weights < 1e-250
        log_weights = np.log(np.where(tiny, 1.0, weights)) + highest
        for row in np.flatnonzero(tiny):
            log_weights[row] = logsumexp([*group[left[row]], below])
        chosen = orders[:, place]
        total += group[chosen] - log_weights
        left[np.arange(len(orders)), chosen] = False
    return logsumexp(total)


def list_mle_loss(labels, scores, ties="exact", top_k=None, discount=None, score_transform="exp", lambda_weight=None):
    log_weights = np.log(scores) if score_transform == "identity" else np.asarray(scores, "float64")
    order = np.argsort(-labels, kind="stable")
    places = place_weights(len(labels), top_k, discount)
    if lambda_weight is not None:
        places = np.multiply(places, place_weights(len(labels), None, lambda_weight.discount))
    losses = np.zeros(len(labels))
    if ties in ("position", "random"):
        for place, item in enumerate(order):
            losses[item] = places[place] * (logsumexp(log_weights[order[place:]]) - log_weights[item])
        return losses
    for label in sorted(set(labels), reverse=True)[:-1]:
        losses += _group_losses(labels, log_weights, label, places, ties, top_k)
    return losses


def _group_losses(labels, log_weights, label, places, ties, top_k):
    """The losses of the items of one label, under a rule that takes them together."""
    group, rest = labels == label, labels < label
    size, first = int(group.sum()), int((labels > label).sum())
    weights = np.array(places[first : first + size])
    if ties == "exact":
        drawn = size if top_k is None else min(size, max(top_k - first, 0))
        if drawn == 0:
            return np.zeros(len(labels))
        log_probability = log_first_places(log_weights[group], log_weights[rest], drawn)
        return np.where(group, -weights.sum() / drawn * log_probability / size, 0.0)
    of_group, of_all = logsumexp(log_weights[group]), logsumexp(log_weights[group | rest])
    if ties == "breslow":
        return np.where(group, weights.mean() * (of_all - log_weights), 0.0)
    drawn_before = np.arange(size) / size
    denominators = of_all + np.log1p(-drawn_before * math.exp(of_group - of_all))
    return np.where(group, (weights * denominators).mean() - weights.mean() * log_weights, 0.0)


def sampled_softmax(labels, scores):
    losses = np.zeros(len(labels))
    if labels[0] > 0:
        losses[0] = logsumexp(scores) - scores[0]
    return losses


def against_negatives(gap_loss):
    """The loss of the gaps between the first item and each other one, all of it with the first."""

    def loss(labels, scores, pair_reduction="sum", **settings):
        losses = np.zeros(len(labels))
        gaps = [scores[0] - other for other in scores[1:]]
        if labels[0] > 0 and gaps:
            total = sum(gap_loss(gap, **settings) for gap in gaps)
            losses[0] = total / len(gaps) if pair_reduction == "mean" else total
        return losses

    return loss


def cross_entropy(target, score):
    """-log of the probability of what is True with probability ``target``, under log-odds ``score``."""
    return target * softplus(-score) + (1 - target) * softplus(score)


def pointwise(item_loss):
    """A pointwise loss: ``item_loss`` of a label and its score."""

    def loss(labels, scores, item_reduction="sum"):
        losses = np.array([item_loss(y, s) for y, s in zip(labels, scores, strict=True)])
        return losses / len(losses) if item_reduction == "mean" else losses

    return loss


sigmoid_cross_entropy_loss = pointwise(cross_entropy)
mean_squared_loss = pointwise(lambda label, score: (score - label) ** 2)


def ordinal_loss(labels, scores, ordinal_size=1, use_fraction_label=False):
    losses = np.zeros(len(labels))
    for item, grade in itertools.product(range(len(labels)), range(1, ordinal_size + 1)):
        target = float(labels[item] >= grade)
        if use_fraction_label and grade - 1 < labels[item] < grade:
            target = labels[item] - (grade - 1)
        losses[item] += cross_entropy(target, scores[item, grade - 1])
    return losses


def click_em_loss(labels, scores, exam_loss_weight=1.0, rel_loss_weight=1.0, held_at=None):
    losses = np.zeros(len(labels))
    for item, (label, pair) in enumerate(zip(labels, scores if held_at is None else held_at, strict=True)):
        for side, weight in enumerate((exam_loss_weight, rel_loss_weight)):
            # P(side | no click) = P(side) P(not other) / (P(side) P(not other) + P(not side)).
            both = -softplus(-pair[side]) - softplus(pair[1 - side])
            no_click = logsumexp([both, -softplus(pair[side])])
            happened, did_not = math.exp(both - no_click), math.exp(-softplus(pair[side]) - no_click)
            if label >= 1:
                happened, did_not = 1.0, 0.0
            score = scores[item, side]
            losses[item] += weight * (happened * softplus(-score) + did_not * softplus(score))
    return losses


def mixture_em_loss(labels, scores, alpha=1.0, held_at=None):
    if not labels.any():
        return np.zeros(len(labels))

    def of_models(scores):
        return np.array([sum(map(cross_entropy, labels, column)) for column in scores.T])

    posterior = np.exp(log_softmax(-alpha * of_models(scores if held_at is None else held_at)))
    return (posterior * of_models(scores)).sum() * labels / labels.sum()


def shared_by_label(value, labels):
    """The loss of a list as losses of its items, in proportion to their labels."""
    return value * labels / labels.sum() if labels.sum() > 0 else np.zeros(len(labels))


def smooth_ranks(scores):
    """1 + the number of other items above, counted by a sigmoid."""
    others = [[a for j, a in enumerate(scores) if j != i] for i in range(len(scores))]
    return [
        1 + sum(math.exp(-softplus(own - other)) for other in rest) for own, rest in zip(scores, others, strict=True)
    ]


def approx_ndcg_loss(labels, scores, gain="exponential", discount="log2"):
    gains = scaled_gains(labels, gain)
    dcg = sum(g * discount_of(r, discount) for g, r in zip(gains, smooth_ranks(scores), strict=True))
    return shared_by_label(-dcg / (ideal_dcg(gains, discount) or 1.0), labels)


def approx_mrr_loss(labels, scores):
    found = sum(y / r for y, r in zip(labels, smooth_ranks(scores), strict=True))
    return shared_by_label(-found / (labels.sum() or 1.0), labels)


def log_neural_sort(scores):
    """The logarithm of the relaxed permutation matrix, places by items, from the formula of the paper."""
    n = len(scores)
    spread = np.abs(scores[:, None] - scores[None, :]).sum(axis=1)
    return np.array([log_softmax((n + 1 - 2 * place) * scores - spread) for place in range(1, n + 1)])


def neural_sort_ndcg_loss(labels, scores, gain="exponential", discount="log2"):
    gains = scaled_gains(labels, gain)
    expected = np.exp(log_neural_sort(scores)) @ gains
    dcg = sum(g * discount_of(place, discount) for place, g in enumerate(expected, 1))
    return shared_by_label(-dcg / (ideal_dcg(gains, discount) or 1.0), labels)


def neural_sort_cross_entropy_loss(labels, scores):
    targets = np.exp(log_neural_sort(labels))
    return shared_by_label(-(targets * log_neural_sort(scores)).sum() / len(labels), labels)


def scaled_gains(labels, gain):
    """Gains up to a factor: exponential ones divided by 2 to the largest label, so that they are finite."""
    return [2.0 ** (y - max(labels)) - 2.0 ** -max(labels) if gain == "exponential" else y for y in labels]


def ideal_dcg(gains, discount):
    return sum(g * discount_of(place, discount) for place, g in enumerate(sorted(gains, reverse=True), 1))


LOSSES = {
    "ApproxMRRLoss": approx_mrr_loss,
    "ApproxNDCGLoss": approx_ndcg_loss,
    "BPRLoss": against_negatives(lambda gap: softplus(-gap)),
    "CalibratedSoftmaxLoss": calibrated_softmax_loss,
    "CircleLoss": circle_loss,
    "ClickEMLoss": click_em_loss,
    "CoupledRankDistilLoss": coupled_rank_distil_loss,
    "KLListwiseLoss": kl_listwise_loss,
    "ListMLELoss": list_mle_loss,
    "ListNetLoss": list_net_loss,
    "MeanSquaredLoss": mean_squared_loss,
    "MixtureEMLoss": mixture_em_loss,
    "NeuralSortCrossEntropyLoss": neural_sort_cross_entropy_loss,
    "NeuralSortNDCGLoss": neural_sort_ndcg_loss,
    "OrdinalLoss": ordinal_loss,
    "PairwiseHingeLoss": pairwise_hinge_loss,
    "PairwiseMSELoss": pairwise_mse_loss,
    "PairwiseSoftZeroOneLoss": pairwise_soft_zero_one_loss,
    "PolyOneSoftmaxLoss": poly_one_softmax_loss,
    "RankNetLoss": rank_net_loss,
    "SampledSoftmaxLoss": sampled_softmax,
    "SigmoidCrossEntropyLoss": sigmoid_cross_entropy_loss,
    "SoftmaxLoss": softmax_loss,
    "TripletLoss": against_negatives(lambda gap, margin=1.0: max(0.0, margin - gap)),
    "UniqueSoftmaxLoss": unique_softmax_loss,
    "XENDCGLoss": xe_ndcg_loss,
}
# Losses of lists that are nothing without their first item.
POSITIVE_FIRST = ("BPRLoss", "SampledSoftmaxLoss", "TripletLoss")


# The temperature of a loss that is not 1 unless told.
TEMPERATURES = {"ApproxMRRLoss": 0.1, "ApproxNDCGLoss": 0.1}


def list_value(name, labels, scores, weights=None, temperature=None, held_at=None, **settings):
    """The loss of one list: padding and items of weight 0 dropped, items weighed and summed.

    What gets no gradient, such as lambda weights or the posterior of a click model, is computed from the scores
    ``held_at``, so that moving ``scores`` alone finds the slope.
    """
    labels, scores = np.asarray(labels, "float64"), np.asarray(scores, "float64")
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, "float64")
    temperature = TEMPERATURES.get(name, 1.0) if temperature is None else temperature
    kept = (labels >= 0) & (weights != 0)
    if not kept.any() or (name in POSITIVE_FIRST and not kept[0]):
        return 0.0
    loss = LOSSES[name]
    if held_at is not None and "held_at" in inspect.signature(loss).parameters:
        settings["held_at"] = np.asarray(held_at, "float64")[kept] / temperature
    return float((weights[kept] * loss(labels[kept], scores[kept] / temperature, **settings)).sum())


def noisy_value(name, labels, scores, noise, gumbel_temperature=1.0, held_at=None, **settings):
    """The mean of the loss ``name`` of one list over draws (S, L) of noise on its scores, and on ``held_at``."""
    values = []
    for draw in noise:
        noisy, fixed = (
            None if given is None else log_softmax((np.asarray(given, "float64") + draw) / gumbel_temperature)
            for given in (scores, held_at)
        )
        values.append(list_value(name, labels, noisy, held_at=fixed, **settings))
    return float(np.mean(values))


# Losses that are another one, of noisy scores.
NOISY_LOSSES = {"GumbelApproxNDCGLoss": "ApproxNDCGLoss", "GumbelLoss": None, "YetiLogisticLoss": "RankNetLoss"}


def similarity_of(query, candidate, similarity):
    if similarity == "euclidean":
        return -((query - candidate) ** 2).sum()
    if similarity == "cosine":
        lengths = math.sqrt((query**2).sum()) * math.sqrt((candidate**2).sum())
        return (query @ candidate) / lengths if lengths else 0.0
    return query @ candidate


def in_batch_softmax(
    y_true,
    y_pred,
    targets="relevance",
    similarity="dot",
    duplicates="mask",
    temperature=1.0,
    candidate_probability=None,
    known_positives=None,
    shared_negatives=False,
    hardest_negatives=None,
    label_smoothing=0.0,
    margin=0.0,
    symmetric=False,
    relevance="mask",
):
    """The losses of the rows of a batch of (B, 2 + K, D) embeddings; rows with a negative target are padding."""
    y_pred = np.asarray(y_pred, "float64")
    y_true = np.asarray(y_true).reshape(len(y_pred), -1)
    by_id = targets == "candidate_ids"
    explicit = y_pred.shape[1] - 2
    known = [set() for _ in y_true]
    if known_positives is not None:
        width = known_positives if isinstance(known_positives, int) else 1
        last = y_true[:, -width:]
        known = [set(ids if isinstance(known_positives, int) else known_positives[max(ids[0], 0)]) for ids in last]
        y_true = y_true[:, :-width]
    if candidate_probability == "embeddings":
        log_q = y_pred[:, 1:, -1]
        y_pred = y_pred[:, :, :-1]
    elif candidate_probability == "targets":
        log_q = np.log(y_true[:, 1:].astype("float64"))
        y_true = y_true[:, :1]
    elif candidate_probability is not None:
        log_q = np.log(np.asarray(candidate_probability, "float64"))[np.maximum(y_true, 0)]
    else:
        log_q = np.zeros((len(y_pred), 1 + explicit))
    rows = [row for row in range(len(y_pred)) if y_true[row, 0] >= 0]

    def loss_of(row, columns):
        """The loss of a row whose columns are (whether own, embeddings, log Q, id, whether a known positive)."""
        negatives, positives = [], []
        for own, first, second, log_probability, identity, is_known in columns:
            score = (similarity_of(first, second, similarity)) / temperature - log_probability
            same = by_id and not own and identity == y_true[row, 0]
            if own or (same and duplicates == "positive"):
                positives.append(score - margin / temperature)
            elif (same and duplicates == "mask") or (is_known and not same):
                continue
            else:
                negatives.append(score)
        if hardest_negatives is not None and len(negatives) > hardest_negatives:
            least = sorted(negatives)[-hardest_negatives]
            negatives = [score for score in negatives if score >= least]
        total = logsumexp(positives + negatives)
        smooth = total - np.mean(positives + negatives)
        return (1 - label_smoothing) * (total - logsumexp(positives)) + label_smoothing * smooth

    losses = np.zeros(len(y_pred))
    for row in rows:
        if not by_id and y_true[row, 0] == 0:
            continue
        query = y_pred[row, 0]
        columns = []
        for other in rows:
            identity = y_true[other, 0]
            is_known = by_id and other != row and identity in known[row]
            columns.append((other == row, query, y_pred[other, 1], log_q[other, 0], identity, is_known))
        for other in rows if shared_negatives else [row]:
            for place in range(explicit):
                identity = y_true[other, 1 + place] if y_true.shape[1] > 1 else None
                is_known = by_id and identity in known[row]
                columns.append((False, query, y_pred[other, 2 + place], log_q[other, 1 + place], identity, is_known))
        losses[row] = loss_of(row, columns)
        if symmetric:
            columns = []
            for other in rows:
                is_known = by_id and other != row and y_true[row, 0] in known[other]
                columns.append((other == row, y_pred[row, 1], y_pred[other, 0], 0.0, y_true[other, 0], is_known))
            losses[row] = (losses[row] + loss_of(row, columns)) / 2
        if relevance == "weight" and not by_id:
            losses[row] *= y_true[row, 0]
    return losses


def n_pair(y_true, y_pred, similarity="dot", temperature=1.0, embedding_penalty=0.0):
    """The losses of the rows of a batch of (B, 2, D) embeddings with classes."""
    y_pred = np.asarray(y_pred, "float64")
    classes = np.asarray(y_true).reshape(-1)
    losses = np.zeros(len(y_pred))
    for row, (anchor, positive) in enumerate(y_pred):
        others = [other for other in range(len(y_pred)) if classes[other] >= 0 and classes[other] != classes[row]]
        if classes[row] < 0 or not others:
            continue
        own = similarity_of(anchor, positive, similarity) / temperature
        gaps = [similarity_of(anchor, y_pred[other, 1], similarity) / temperature - own for other in others]
        penalty = embedding_penalty * np.mean([anchor @ anchor, positive @ positive])
        losses[row] = logsumexp([0.0, *gaps]) + penalty
    return losses


ROW_LOSSES = {"InBatchSoftmaxLoss": in_batch_softmax, "NPairLoss": n_pair}


# Metrics: labels in ranked order, to the value of the list. Ties are averaged over all their orders.


def gain_of(label, gain="exponential"):
    return 2.0**label - 1 if gain == "exponential" else float(label)


def discount_of(rank, discount="log2"):
    return 1 / math.log2(1 + rank) if discount == "log2" else 1 / rank


def ndcg(labels, weights, k=None, gain="exponential", discount="log2"):
    gains = [gain_of(label, gain) * weight for label, weight in zip(labels, weights, strict=True)]

    def dcg(values):
        return sum(value * discount_of(rank, discount) for rank, value in enumerate(values[:k], 1))

    ideal = dcg(sorted(gains, reverse=True))
    return dcg(gains) / ideal if ideal else 0.0


def mrr(labels, weights, k=None, threshold=1.0):
    return next((1 / rank for rank, label in enumerate(labels[:k], 1) if label >= threshold), 0.0)


def precision(labels, weights, k=None, threshold=1.0):
    first = labels[:k]
    return sum(label >= threshold for label in first) / len(first)


def recall(labels, weights, k=None, threshold=1.0):
    relevant = sum(label >= threshold for label in labels)
    return sum(label >= threshold for label in labels[:k]) / relevant if relevant else 0.0


def average_precision(labels, weights, k=None, threshold=1.0):
    relevant = [label >= threshold for label in labels]
    total = sum(weight for weight, good in zip(weights, relevant, strict=True) if good)
    places = [place for place, good in enumerate(relevant[:k]) if good]
    found = sum(weights[place] * sum(relevant[: place + 1]) / (place + 1) for place in places)
    return found / total if total else 0.0


def dcg(labels, weights, k=None, gain="exponential", discount="log2"):
    gains = [gain_of(label, gain) for label in labels]
    total = sum(gain * weight for gain, weight in zip(gains, weights, strict=True))
    found = sum(gains[i] * weights[i] * discount_of(i + 1, discount) for i in range(len(gains[:k])))
    return found * sum(gains) / total if total else 0.0


def hits(labels, weights, k=None, threshold=1.0):
    return float(any(label >= threshold for label in labels[:k]))


def average_relevance_position(labels, weights):
    masses = [label * weight for label, weight in zip(labels, weights, strict=True)]
    return sum(rank * mass for rank, mass in enumerate(masses, 1)) / sum(masses) if sum(masses) else 0.0


def ordered_pair_accuracy(labels, weights):
    right = sum(weights[i] for i, j in itertools.combinations(range(len(labels)), 2) if labels[i] > labels[j])
    wrong = sum(weights[j] for i, j in itertools.combinations(range(len(labels)), 2) if labels[i] < labels[j])
    return right / (right + wrong) if right + wrong else 0.0


def auc(labels, weights, threshold=1.0):
    relevant = [label >= threshold for label in labels]
    pairs = [(i, j) for i, j in itertools.permutations(range(len(labels)), 2) if relevant[i] and not relevant[j]]
    total = sum(weights[i] * weights[j] for i, j in pairs)
    return sum(weights[i] * weights[j] for i, j in pairs if i < j) / total if pairs else 0.0


def bpref(labels, weights, k=None, threshold=1.0, use_trec_version=True):
    relevant = [label >= threshold for label in labels]
    count, others = sum(relevant), len(labels) - sum(relevant)
    divisor = min(count, others) if use_trec_version else count
    total = 0.0
    for place in range(len(labels[:k])):
        if relevant[place]:
            above = min(place - sum(relevant[:place]), count)
            total += 1 - above / divisor if divisor else 1.0
    return total / count if count else 0.0


def precision_ia(labels, weights, k=None, threshold=1.0):
    subtopics = [t for t in range(len(labels[0])) if any(item[t] >= threshold for item in labels)]
    of_subtopics = [precision([item[t] for item in labels], weights, k, threshold) for t in subtopics]
    return sum(of_subtopics) / len(subtopics) if subtopics else 0.0


def alpha_dcg(labels, weights, k=None, alpha=0.5, discount="log2"):
    total = 0.0
    for place, item in enumerate(labels[:k]):
        for subtopic, label in enumerate(item):
            above = sum(max(other[subtopic], 0) for other in labels[:place])
            total += weights[place] * max(label, 0) * (1 - alpha) ** above * discount_of(place + 1, discount)
    covering = [weight for item, weight in zip(labels, weights, strict=True) if max(item) > 0]
    return total * len(covering) / sum(covering) if covering else 0.0


METRICS = {
    "ARP": average_relevance_position,
    "AlphaDCG": alpha_dcg,
    "BPref": bpref,
    "DCG": dcg,
    "GAUC": auc,
    "Hits": hits,
    "MRR": mrr,
    "NDCG": ndcg,
    "MeanAveragePrecision": average_precision,
    "OPA": ordered_pair_accuracy,
    "PrecisionAtK": precision,
    "PrecisionIA": precision_ia,
    "RecallAtK": recall,
}
# Metrics whose lists weigh the sum, not the mean, of their items' weights by relevance.
SUMMED = ("ARP", "OPA")
# Metrics that leave out lists without a relevant item.
WITHOUT_EMPTY = ("ARP", "GAUC", "OPA")


def tie_orders(scores):
    """All orders of descending score."""
    groups = [[i for i, s in enumerate(scores) if s == score] for score in sorted(set(scores), reverse=True)]
    for orders in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield [item for order in orders for item in order]


def kept_items(labels, scores, weights):
    """Labels, scores and weights of a list without padding and items of weight 0."""
    weights = [1.0] * len(labels) if weights is None else weights
    kept = [i for i in range(len(labels)) if np.max(labels[i]) >= 0 and weights[i] != 0]
    return [[values[i] for i in kept] for values in (labels, scores, weights)]


def metric_value(name, labels, scores, weights=None, **settings):
    """A metric of one list, averaged over all orders of its ties; an empty list is worth 0."""
    labels, scores, weights = kept_items(labels, scores, weights)
    if not labels:
        return 0.0
    values = []
    for order in tie_orders(scores):
        values.append(METRICS[name]([labels[i] for i in order], [weights[i] for i in order], **settings))
    return sum(values) / len(values)


def relevances(name, labels, gain="exponential", threshold=1.0):
    """How much each item says about its list."""
    if name in ("NDCG", "DCG"):
        return [gain_of(label, gain) for label in labels]
    if name == "ARP":
        return labels
    if name == "OPA":
        return [sum(other < label for other in labels) for label in labels]
    if name == "AlphaDCG":
        return [float(max(item) > 0) for item in labels]
    relevant = [float(np.max(label) >= threshold) for label in labels]
    return [0.0] * len(labels) if name == "GAUC" and all(relevant) else relevant


def metric_result(name, lists, empty="zero", **settings):
    """A metric over lists ``(labels, scores, item weights or None, list weight)``: the weighted mean over lists."""
    empty = "skip" if name in WITHOUT_EMPTY else empty
    chosen = {key: settings[key] for key in ("gain", "threshold") if key in settings}
    total, weight_total = 0.0, 0.0
    for labels, scores, weights, list_weight in lists:
        value = metric_value(name, labels, scores, weights, **settings)
        kept, _, kept_weights = kept_items(labels, scores, weights)
        relevance = relevances(name, kept, **chosen)
        filled = sum(relevance)
        weight = list_weight
        if weights is not None and filled:
            weight = sum(r * w for r, w in zip(relevance, kept_weights, strict=True)) / filled
        elif weights is not None:
            weight = sum(kept_weights) / max(len(kept), 1)
        if not filled:
            value = {"zero": value, "one": 1.0, "skip": 0.0}[empty]
            weight = 0.0 if empty == "skip" else weight
        weight *= filled if name in SUMMED else 1.0
        total, weight_total = total + weight * value, weight_total + weight
    return total / weight_total if weight_total else 0.0
