"""Slow float64 NumPy formulas of every loss and metric: the oracle of the laws.

Nothing here comes from the package, and no constant is shared with it. A reference sees one list without padding.
"""

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


def softmax_loss(labels, scores):
    return -labels * log_softmax(scores)


def label_distribution(labels, label_temperature):
    if not np.any(labels > 0):
        return np.zeros_like(labels)
    return np.exp(log_softmax(labels / label_temperature))


def list_net_loss(labels, scores, label_temperature=1.0):
    return -label_distribution(labels, label_temperature) * log_softmax(scores)


def kl_listwise_loss(labels, scores, label_temperature=1.0, labels_are_probabilities=False):
    p = labels if labels_are_probabilities else label_distribution(labels, label_temperature)
    log_q = log_softmax(scores)
    return np.array([p_i * (math.log(p_i) - q_i) if p_i > 0 else 0.0 for p_i, q_i in zip(p, log_q, strict=True)])


def pairwise(gap_loss, tied=0.0):
    """A pairwise loss: ``gap_loss`` of the gaps of scores and of labels, and the weight of a pair of equal labels.

    Lambda weights follow the ranks of ``ranked_by``, and stay when the scores are moved to find a slope.
    """

    def loss(labels, scores, pairs="graded", pair_reduction="sum", lambda_weight=None, ranked_by=None, **settings):
        classes = (labels > 0).astype("float64") if pairs == "binary" else labels
        weight_of = pair_weight_of(lambda_weight, labels, scores if ranked_by is None else ranked_by)
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


def pair_weight_of(weight, labels, scores):
    """The lambda weight of pair (i, j), where i is the better item."""
    if weight is None:
        return lambda i, j: 1.0
    ranks = ranks_of(labels, scores)
    kind, settings = type(weight).__name__, dict(weight.settings)
    k = settings.get("k") or len(labels)
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
        ideal = sum(g * discount_of(r, discount) for r, g in enumerate(sorted(gains, reverse=True)[:k], 1))
        gains = [g / ideal if ideal else 0.0 for g in gains]
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


LOSSES = {
    "KLListwiseLoss": kl_listwise_loss,
    "ListMLELoss": list_mle_loss,
    "ListNetLoss": list_net_loss,
    "PairwiseHingeLoss": pairwise_hinge_loss,
    "PairwiseMSELoss": pairwise_mse_loss,
    "PairwiseSoftZeroOneLoss": pairwise_soft_zero_one_loss,
    "RankNetLoss": rank_net_loss,
    "SoftmaxLoss": softmax_loss,
}


def list_value(name, labels, scores, weights=None, temperature=1.0, ranked_by=None, **settings):
    """The loss of one list: padding and items of weight 0 dropped, items weighed and summed.

    Weights that follow the order of the scores, and have no gradient, follow that of ``ranked_by``.
    """
    labels, scores = np.asarray(labels, "float64"), np.asarray(scores, "float64")
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, "float64")
    kept = (labels >= 0) & (weights != 0)
    if not kept.any():
        return 0.0
    if ranked_by is not None:
        settings["ranked_by"] = np.asarray(ranked_by, "float64")[kept]
    return float((weights[kept] * LOSSES[name](labels[kept], scores[kept] / temperature, **settings)).sum())


def similarity_of(query, candidate, similarity):
    if similarity == "euclidean":
        return -((query - candidate) ** 2).sum()
    if similarity == "cosine":
        lengths = math.sqrt((query**2).sum()) * math.sqrt((candidate**2).sum())
        return (query @ candidate) / lengths if lengths else 0.0
    return query @ candidate


def in_batch_softmax(y_true, y_pred, targets="relevance", similarity="dot", duplicates="mask", temperature=1.0):
    """The losses of the rows of a batch of (B, 2 + K, D) embeddings; rows with a negative target are padding."""
    y_pred = np.asarray(y_pred, "float64")
    y_true = np.asarray(y_true).reshape(len(y_pred), -1)
    rows = [row for row in range(len(y_pred)) if y_true[row, 0] >= 0]
    losses = np.zeros(len(y_pred))
    for row in rows:
        if targets == "relevance" and y_true[row, 0] == 0:
            continue
        columns = [(other, y_pred[other, 1], y_true[other, 0]) for other in rows]
        for place in range(2, y_pred.shape[1]):
            known = y_true.shape[1] > 1
            columns.append((None, y_pred[row, place], y_true[row, place - 1] if known else None))
        positive, denominator = [], []
        for other, candidate, identity in columns:
            score = similarity_of(y_pred[row, 0], candidate, similarity) / temperature
            own = other == row
            hit = targets == "candidate_ids" and not own and identity == y_true[row, 0]
            if own or (hit and duplicates == "positive"):
                positive.append(score)
            if not (hit and duplicates == "mask"):
                denominator.append(score)
        losses[row] = logsumexp(denominator) - logsumexp(positive)
    return losses


ROW_LOSSES = {"InBatchSoftmaxLoss": in_batch_softmax}


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
