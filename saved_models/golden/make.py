"""Writes the golden export beside this file. Run once: later versions must load what is here, not write it anew.

python saved_models/golden/make.py
"""

import json
from pathlib import Path

import keras
import numpy as np

from tfrankloss import serving
from tfrankloss.data import to_example
from tfrankloss.layers import SafeMeanPooling
from tfrankloss.models import two_tower

FOLDER = Path(__file__).resolve().parent
WORDS = ["action", "comedy", "drama", "horror", "romance"]


def model():
    """A user with a history of genres, and an item of a genre and a price; cosines."""
    user = keras.Input((), name="user", dtype="int32")
    history = keras.Input((3,), name="history", dtype="int32")
    pooled = SafeMeanPooling()(keras.layers.Embedding(7, 4, mask_zero=True)(history))
    users = keras.Model({"user": user, "history": history}, keras.layers.Embedding(11, 4)(user) + pooled, name="users")
    genre, price = keras.Input((), name="genre", dtype="int32"), keras.Input((1,), name="price")
    joined = keras.layers.concatenate([keras.layers.Embedding(6, 4)(genre), price])
    items = keras.Model({"genre": genre, "price": price}, keras.layers.Dense(4)(joined), name="items")
    made = two_tower(users, items, mode="listwise", similarity="cosine", temperature=0.5)
    random = np.random.default_rng(7)
    for weight in made.weights:
        weight.assign(random.normal(size=weight.shape))
    return made


def lookups():
    """From raw strings to the integers of the model."""
    user_id, genres = keras.Input((), name="user_id", dtype="string"), keras.Input((3,), name="genres", dtype="string")
    numbers = keras.layers.StringLookup(vocabulary=[f"user-{number}" for number in range(10)])
    words = keras.layers.StringLookup(vocabulary=WORDS, mask_token="")
    return {
        "query": keras.Model(
            {"user_id": user_id, "genres": genres}, {"user": numbers(user_id), "history": words(genres)}
        )
    }


def requests(ids):
    """Requests of every signature: known and unknown users, empty histories, everything that can be asked."""
    users = {
        "user_id": ["user-3", "nobody", "user-9"],
        "genres": [["drama", "comedy", ""], ["", "", ""], ["horror", "", ""]],
    }
    rows = [{name: users[name][row] for name in users} for row in range(3)]
    messages = [to_example({**row, "genres": [word for word in row["genres"] if word]}).hex() for row in rows]
    asked = {
        "k": [4, 1, 9],
        "exclude_ids": [[ids[0], ids[5]], ["unknown", ids[7]], ["", ""]],
        "genre_in": [[1, 2], [3, 3], [4, 4]],
    }
    lists = {"genre": [[1, 2], [3, 4], [5, 0]], "price": [[0.5, 1.5], [2.0, 0.0], [1.0, 3.0]]}
    return [
        ("serving_default", users),
        ("search", {**users, **asked}),
        ("query_embedding", users),
        ("candidate_embedding", {"genre": [1, 5], "price": [0.5, 2.0]}),
        ("score", {**users, **lists}),
        ("examples", {"examples": messages}),
        ("classify", {"inputs": messages}),
    ]


def main():
    """Export, ask and write the answers down."""
    random = np.random.default_rng(8)
    catalog = {
        "id": [f"item-{number}" for number in range(60)],
        "genre": random.integers(1, 6, 60),
        "price": random.random(60),
    }
    golden = model()
    index = serving.CandidateIndex.from_model(golden, catalog, attributes=["genre"], verbose=False)
    result = serving.export(golden, FOLDER, candidates=index, k=10, preprocessing=lookups())
    answers = []
    with serving.load(result.path) as servable:
        for name, inputs in requests(catalog["id"]):
            outputs = servable.predict(read(inputs), name)
            answers.append(
                {
                    "signature": name,
                    "inputs": inputs,
                    "outputs": {key: value.tolist() for key, value in outputs.items()},
                }
            )
    (FOLDER / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")
    print(f"{result.path}: {result.size_bytes / 1e3:.0f} kB")


def read(inputs):
    """The inputs as they are in the file, messages from their digits."""
    return {
        name: list(map(bytes.fromhex, value)) if name in ("examples", "inputs") else value
        for name, value in inputs.items()
    }


if __name__ == "__main__":
    main()
