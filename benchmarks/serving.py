"""Time of exact search in a catalogue, beside what else is done; and what an export of a long catalogue takes.

One thread for all of them. faiss is tried where it is installed (pip install faiss-cpu).
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import functools
import tempfile
import time
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf
import timing

from tfrankloss import serving
from tfrankloss.serving.index import STORAGES, Measure
from tfrankloss.serving.search import ExactSearch

try:
    import faiss
except ImportError:
    faiss = None

DIMENSION = 64


def ours(ids, embeddings, k, storage="float32"):
    """The search of an export, string ids included."""
    exact = ExactSearch(serving.CandidateIndex(ids, embeddings, storage=storage), Measure("dot"), k)
    search = tf.function(lambda queries: exact(queries, {})["ids"], autograph=False)
    return lambda queries: search(queries).numpy()


def plain(embeddings, k):
    """A product of matrices and `tf.math.top_k`, in the graph; rows, not ids."""
    table = tf.Variable(embeddings)
    search = tf.function(lambda queries: tf.math.top_k(tf.linalg.matmul(queries, table, transpose_b=True), k))
    return lambda queries: search(queries)[1].numpy()


def numpys(embeddings, k):
    """A product of matrices, a partition and a sort of the k."""
    table = np.ascontiguousarray(embeddings.T)

    def search(queries):
        scores = queries.numpy() @ table
        best = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
        return np.take_along_axis(best, order, 1)

    return search


def faiss_flat(embeddings, k):
    """faiss.IndexFlatIP, exact."""
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(embeddings.shape[1])
    index.add(embeddings)
    return lambda queries: index.search(queries.numpy(), k)[1]


def searches(args):
    """Rows of the table of searches."""
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(args.rows, DIMENSION)).astype("float32")
    ids = np.arange(args.rows).astype(str).astype(object)
    functions = {"ours": ours(ids, embeddings, args.k), "matmul + top_k": plain(embeddings, args.k)}
    functions["numpy"] = numpys(embeddings, args.k)
    if faiss is not None:
        functions["faiss flat"] = faiss_flat(embeddings, args.k)
    for storage in STORAGES[1:]:
        functions[f"ours, {storage}"] = ours(ids, embeddings, args.k, storage)
    for batch in (1, 32):
        queries = tf.constant(random.normal(size=(batch, DIMENSION)).astype("float32"))
        assert (functions["ours"](queries).astype(int) == functions["matmul + top_k"](queries)).all()
        tried = {name: functools.partial(function, queries) for name, function in functions.items()}
        times = timing.interleaved(tried, args.seconds, most=2000)
        for name, values in times.items():
            ratio = "" if name == "ours" else timing.ratio(values, times["ours"])
            least, median = (f"{1e3 * value:.2f}" for value in (values[0], values[len(values) // 2]))
            yield [f"{args.rows}x{DIMENSION}", str(batch), name, least, median, ratio]


def exports(args):
    """Rows of the table of exports: seconds to export and to load, and sizes."""
    embeddings = np.random.default_rng(0).normal(size=(args.catalog, DIMENSION)).astype("float32")
    ids = [f"item-{number}" for number in range(args.catalog)]
    query, item = keras.Input((DIMENSION,), name="query"), keras.Input((DIMENSION,), name="item")
    model = SimpleNamespace(query_tower=keras.Model(query, query * 1.0), candidate_tower=keras.Model(item, item * 1.0))
    model.similarity = "dot"
    for storage in STORAGES:
        index = serving.CandidateIndex(ids, embeddings, storage=storage)
        with tempfile.TemporaryDirectory() as base:
            start = time.perf_counter()
            result = serving.export(model, base, candidates=index, k=10)
            exported = time.perf_counter()
            with serving.load(base) as servable:
                loaded = time.perf_counter()
                servable.query(query=embeddings[:1])
                first = time.perf_counter()
        recall = index.recall(k=10)
        yield [
            f"{args.catalog}x{DIMENSION}",
            storage,
            f"{exported - start:.1f}",
            f"{loaded - exported:.2f}",
            f"{1e3 * (first - loaded):.0f}",
            f"{result.size_bytes / 1e6:.0f}",
            f"{recall:.3f}",
        ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000, help="candidates to search")
    parser.add_argument("--catalog", type=int, default=1_000_000, help="candidates to export")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20.0, help="to measure for each batch size")
    args = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    print(
        timing.table(
            list(searches(args)), ["candidates", "batch", "search", "ms, least", "ms, median", "theirs / ours"]
        )
    )
    header = ["catalogue", "storage", "export, s", "load, s", "first answer, ms", "MB on disk", "recall@10"]
    print(timing.table(list(exports(args)), header))


if __name__ == "__main__":
    main()
