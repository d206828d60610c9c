import numpy as np
import pytest

from tfrankloss.data import Interactions, load_movielens

RATINGS = "196\t242\t3\t881250949\n22\t1\t4.5\t878887116\n196\t1\t5\t881250950\n"
USERS = "22|24|F|writer|85711\n196|49|M|other|55105\n7|30|M|artist|T8H1N\n"


def item_line(item, title, date, *genres):
    flags = ["1" if place in genres else "0" for place in range(19)]
    return "|".join([item, title, date, "", "http://us.imdb.com", *flags]) + "\n"


ITEMS = (
    item_line("1", "Misérables, Les (1995)", "01-Jan-1996", 8, 12)
    + item_line("242", "Kolya", "24-Jan-1997", 5)
    + item_line("267", "unknown", "", 0)
)


def write(folder, ratings=RATINGS, users=USERS, items=ITEMS):
    for name, text in (("u.data", ratings), ("u.user", users), ("u.item", items)):
        (folder / name).write_text(text, encoding="latin-1")
    return folder


def grid(rows=100):
    ids = np.array([str(number) for number in range(20)])
    return Interactions(
        users=np.tile(ids, rows // 20),
        items=ids[np.arange(rows) % 7],
        labels=(np.arange(rows) % 5 + 1).astype(np.float32),
        timestamps=np.arange(rows),
        user_ids=ids,
        item_ids=ids[::-1],
        item_features={"year": np.arange(20)},
    )


def test_golden_folder(tmp_path):
    data = load_movielens(write(tmp_path))
    assert len(data) == 3
    assert data.users.tolist() == ["196", "22", "196"] and data.items.tolist() == ["242", "1", "1"]
    assert data.labels.tolist() == [3, 4.5, 5] and data.labels.dtype == np.float32
    assert data.timestamps.tolist() == [881250949, 878887116, 881250950]
    assert data.user_ids.tolist() == ["22", "196", "7"] and data.item_ids.tolist() == ["1", "242", "267"]
    assert data.user_index.tolist() == [1, 0, 1] and data.item_index.tolist() == [1, 0, 0]
    assert {name: column.tolist() for name, column in data.user_features.items()} == {
        "age": [24, 49, 30],
        "gender": ["F", "M", "M"],
        "occupation": ["writer", "other", "artist"],
    }
    assert data.item_features["title"].tolist() == ["Misérables, Les (1995)", "Kolya", "unknown"]
    assert data.item_features["year"].tolist() == [1995, 1997, 0]
    genres = data.item_features["genres"]
    assert genres.shape == (3, 19) and genres.dtype == np.float32
    named = [np.array(data.genre_names)[row > 0].tolist() for row in genres]
    assert named == [["Drama", "Musical"], ["Comedy"], ["unknown"]]
    assert data.popularity().tolist() == [2, 1, 0]


@pytest.mark.parametrize("name", ["u.data", "u.user", "u.item"])
def test_a_missing_file_is_named(tmp_path, name):
    (write(tmp_path) / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"`path` must be an existing file\. Received: path='.*{name}'"):
        load_movielens(tmp_path)


@pytest.mark.parametrize("name", ["ratings", "users", "items"])
def test_an_empty_file_is_an_error(tmp_path, name):
    with pytest.raises(ValueError, match=r"`path` must hold at least one line of data\. Received: path='.*u\."):
        load_movielens(write(tmp_path, **{name: "\n"}))


@pytest.mark.parametrize(
    ("name", "line", "fault"),
    [
        ("u.data", "196\t242\t3", r"a line must have 4 fields separated by '\t', not 3"),
        ("u.data", "196 242 3 881250949", r"a line must have 4 fields separated by '\t', not 1"),
        ("u.data", "196\t242\tgood\t881250949", "the rating must be a number"),
        ("u.data", "196\t242\tnan\t881250949", "the rating must be finite"),
        ("u.data", "196\t242\t3\tnoon", "the time must be an integer"),
        ("u.data", "197\t242\t3\t881250949", "the user must stand in u.user"),
        ("u.data", "196\t243\t3\t881250949", "the item must stand in u.item"),
        ("u.user", "8|x|M|artist|1", "the age must be an integer"),
        ("u.user", "8|3|M|artist", "a line must have 5 fields separated by '|', not 4"),
        ("u.item", "8|T|01-Jan-1995||" + "|0" * 18, "a line must have 24 fields separated by '|', not 23"),
        ("u.item", "8|T|01-Jan-1995||" + "|0" * 18 + "|2", "every genre flag must be 0 or 1"),
    ],
)
def test_a_malformed_line_is_named_with_its_fault(tmp_path, name, line, fault):
    write(tmp_path)
    file = tmp_path / name
    file.write_text(file.read_text(encoding="latin-1") + line + "\n", encoding="latin-1")
    with pytest.raises(ValueError) as caught:
        load_movielens(tmp_path)
    assert str(caught.value) == f"{file}, line 4: {fault}. Received: line={line!r}"


def test_an_id_twice_in_a_catalog_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"`path` must name every id once\. Received: 22 twice in .*u\.user"):
        load_movielens(write(tmp_path, users=USERS + "22|24|F|writer|85711\n"))


def test_split_is_a_seeded_partition_with_the_same_catalogs():
    data = grid()
    train, test = data.split(0.7, seed=1)
    assert (len(train), len(test)) == (70, 30)
    assert sorted([*train.timestamps, *test.timestamps]) == list(range(100))
    assert sorted(train.timestamps) == train.timestamps.tolist() != list(range(70))
    assert train.item_ids is data.item_ids and test.item_features is data.item_features
    assert (train.items == data.items[train.timestamps]).all() and (train.labels == data.labels[train.timestamps]).all()
    assert (test.user_index == data.user_index[test.timestamps]).all()
    assert data.split(0.7, seed=1)[0].timestamps.tolist() == train.timestamps.tolist()
    assert data.split(0.7, seed=2)[0].timestamps.tolist() != train.timestamps.tolist()
    assert len(data.split()[0]) == 80


def test_split_is_checked():
    with pytest.raises(ValueError, match=r"`train_fraction` must lie strictly between 0 and 1\. .*train_fraction=1"):
        grid().split(1.0)
    with pytest.raises(ValueError, match=r"`train_fraction` must leave rows in both parts\. .*=0.001 for 100 rows"):
        grid().split(0.001)


def test_positives_and_popularity_count_over_the_catalog():
    data = grid()
    loved = data.positives(4)
    assert set(loved.labels.tolist()) == {4, 5} and len(loved) == 40
    assert len(loved.popularity()) == 20 and loved.popularity().sum() == 40
    by_id = dict(zip(data.item_ids.tolist(), data.popularity().tolist(), strict=True))
    assert by_id["0"] == 15 and by_id["6"] == 14 and by_id["7"] == 0
    assert data.item_features["year"][data.item_index].tolist() == [19 - row % 7 for row in range(100)]


def test_rows_and_catalogs_must_fit():
    data = grid()
    with pytest.raises(ValueError, match=r"`users` and `labels` must have the same length.*=100.*=99"):
        Interactions(data.users, data.items, data.labels[1:], data.timestamps, data.user_ids, data.item_ids)
    with pytest.raises(ValueError, match=r"`year` and `item_ids` must have the same length.*=3.*=20"):
        Interactions(
            data.users, data.items, data.labels, data.timestamps, data.user_ids, data.item_ids, {}, {"year": np.ones(3)}
        )
    stray = Interactions(data.users, data.items, data.labels, data.timestamps, data.user_ids[1:], data.item_ids)
    with pytest.raises(ValueError, match=r"`users` must all stand in `user_ids`\. Received: users\[0\]=0"):
        stray.user_index  # noqa: B018
