"""Time of value and gradient on JAX and PyTorch, on a GPU where there is one: ours beside rax and allRank, in turn.

JAX runs compiled, PyTorch as written, as users of either do.
"""

import argparse
import functools
import os
import sys
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def rax_losses():
    """rax's losses by the names of ours, as functions of labels and scores; none where it is not installed."""
    try:
        import rax
    except ImportError:
        return {}

    def of(loss, **settings):
        return lambda labels, scores: loss(scores, labels, where=labels >= 0, **settings)

    return {
        "RankNet": of(rax.pairwise_logistic_loss),
        "RankNet + NDCG": of(rax.pairwise_logistic_loss, lambdaweight_fn=rax.dcg2_lambdaweight),
        **dict.fromkeys(("ListMLE", "ListMLE, ties by position"), of(rax.listmle_loss)),
        "softmax": of(rax.softmax_loss),
    }


def allrank_losses():
    """allRank's losses by the names of ours, as functions of labels and scores; none where it is not installed."""
    import torch

    # What its losses take from these is a number and a device; the modules themselves want much that is not needed.
    data, utils = (types.ModuleType(f"allrank.{name}") for name in ("data.dataset_loading", "models.model_utils"))
    data.PADDED_Y_VALUE = -1
    utils.get_torch_device = lambda: torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sys.modules.update({module.__name__: module for module in (data, utils)})
    try:
        from allrank.models import losses
    except ImportError:
        return {}

    def of(loss, **settings):
        return lambda labels, scores: loss(scores, labels, **settings)

    return {
        "RankNet": of(losses.rankNet),
        "RankNet + NDCG": of(losses.lambdaLoss, weighing_scheme="ndcgLoss2_scheme"),
        "ApproxNDCG": of(losses.approxNDCGLoss),
        **dict.fromkeys(("ListMLE", "ListMLE, random ties"), of(losses.listMLE)),
        "softmax": of(losses.listNet),
    }


def jax_step(loss, labels, scores):
    """A function that computes value and gradient and waits for them, compiled."""
    import jax

    value_and_gradient = jax.jit(jax.value_and_grad(lambda scores, labels: loss(labels, scores)))
    labels, scores = jax.numpy.asarray(labels), jax.numpy.asarray(scores)
    return lambda: jax.block_until_ready(value_and_gradient(scores, labels))


def torch_step(loss, labels, scores):
    """A function that computes value and gradient and waits for them."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    labels, scores = torch.tensor(labels, device=device), torch.tensor(scores, device=device)

    def step():
        own = scores.clone().requires_grad_(True)
        loss(labels, own).backward()
        return own.grad.cpu()

    return step


def device(backend):
    """The name of the device that losses run on."""
    if backend == "jax":
        import jax

        return jax.devices()[0].device_kind
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backend", choices=["jax", "torch"])
    parser.add_argument("--losses", nargs="*", help="names, as in the table; all that the peer has by default")
    parser.add_argument("--seconds", type=float, default=4.0, help="to measure for each row")
    parser.add_argument("--longest", type=int, default=4000, help="longest lists")
    arguments = parser.parse_args()
    os.environ["KERAS_BACKEND"] = arguments.backend
    import peers
    import timing

    peer, step, theirs = {
        "jax": ("rax", jax_step, rax_losses),
        "torch": ("allRank", torch_step, allrank_losses),
    }[arguments.backend]
    ours, theirs = peers.ours(), theirs()
    if not theirs:
        print(f"{peer} is not installed: left out")
    rows = []
    for name in arguments.losses or [name for name in ours if name in theirs or not theirs]:
        for shape in peers.SHAPES:
            if shape[1] > arguments.longest:
                continue
            labels, scores = peers.lists(*shape, distinct="distinct" in name)
            of = functools.partial(step, labels=labels, scores=scores)
            steps = {"ours": of(ours[name])} | ({peer: of(theirs[name])} if name in theirs else {})
            times = timing.interleaved(steps, arguments.seconds, least=3)
            ratio = timing.ratio(times[peer], times["ours"]) if peer in times else "-"
            cells = [f"{1e3 * times[library][0]:.2f}" if library in times else "-" for library in ("ours", peer)]
            rows.append([name, f"{shape[0]}x{shape[1]}", *cells, ratio])
            print(*rows[-1], sep="  ", flush=True)
    print(f"\n{arguments.backend} on {device(arguments.backend)}\n")
    print(timing.table(rows, ["loss", "lists", "ours, ms", f"{peer}, ms", f"{peer} / ours"]))


if __name__ == "__main__":
    main()
