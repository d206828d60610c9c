import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrankloss.data import RankingLists, to_lists, to_rows


def small_lists():
    return to_lists(["b", "a", "b", "b"], [0, 1, 2, 3], np.arange(8.0).reshape(4, 2))


def test_rows_of_a_query_are_gathered_in_order_of_first_appearance():
    lists = small_lists()
    assert lists.query_ids.tolist() == ["b", "a"]
    assert lists.labels.dtype == np.float32
    assert lists.labels.tolist() == [[0, 2, 3], [1, -1, -1]]
    assert lists.mask.tolist() == [[True, True, True], [True, False, False]]
    assert lists.features.tolist() == [[[0, 1], [4, 5], [6, 7]], [[2, 3], [0, 0], [0, 0]]]


def test_columns_keep_their_dtype_and_padding_follows_it():
    columns = {
        "id": np.array([2**60, 1, 2]),
        "name": np.array(["x", "yy", "z"]),
        "raw": np.array([b"x", b"y", b"z"]),
        "objects": np.array(["p", "q", "r"], object),
        "flag": np.array([True, True, True]),
        "pair": np.ones((3, 2), np.float16),
    }
    features = to_lists([1, 2, 1], [0, 1, 2], columns).features
    assert features["id"].tolist() == [[2**60, 2], [1, 0]]
    assert features["name"].tolist() == [["x", "z"], ["yy", ""]]
    assert features["raw"].tolist() == [[b"x", b"z"], [b"y", b""]]
    assert features["objects"].tolist() == [["p", "r"], ["q", ""]]
    assert features["flag"].tolist() == [[True, True], [True, False]]
    assert features["pair"].shape == (2, 2, 2) and features["pair"].dtype == np.float16


def test_list_size_cuts_the_last_rows_and_pads():
    rows = (["b", "a", "b", "b"], [0, 1, 2, 3], np.arange(4))
    cut = to_lists(*rows, list_size=2)
    assert cut.labels.tolist() == [[0, 2], [1, -1]] and cut.features.tolist() == [[0, 2], [1, 0]]
    assert to_lists(*rows, list_size=5).labels.tolist() == [[0, 2, 3, -1, -1], [1, -1, -1, -1, -1]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 4), st.text("ab\x01é", max_size=3)), min_size=1, max_size=40),
    st.booleans(),
)
def test_round_trip_is_a_stable_sort_by_first_appearance(rows, text_ids):
    ids = [str(row[0]) if text_ids else row[0] for row in rows]
    columns = {"name": np.array([row[2] for row in rows]), "place": np.arange(len(rows))}
    lists = to_lists(ids, [row[1] for row in rows], columns)
    expected = sorted(range(len(rows)), key=lambda row: (ids.index(ids[row]), row))
    assert to_rows(lists.features, lists.mask)["place"].tolist() == expected
    assert to_rows(lists.features["name"], lists.mask).tolist() == [rows[row][2] for row in expected]
    assert to_rows(lists.labels, lists.mask).tolist() == [rows[row][1] for row in expected]
    assert lists.query_ids[np.nonzero(lists.mask)[0]].tolist() == [ids[row] for row in expected]
    assert (lists.labels[~lists.mask] == -1).all()


def test_a_million_rows_are_no_matter():
    ids = np.arange(1_000_000) % 50_000  # no query's rows stand together
    lists = to_lists(ids, np.zeros(len(ids)), np.arange(len(ids)))
    assert lists.labels.shape == (50_000, 20)
    assert lists.features[7].tolist() == list(range(7, 1_000_000, 50_000))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1], [1, 2], [1, 2]), ValueError, r"`query_ids` and `labels` .* len\(query_ids\)=1, len\(labels\)=2"),
        (([1, 1], [1, 2], {"price": [1]}), ValueError, r"`price` and `labels` .* len\(price\)=1, len\(labels\)=2"),
        (([], [], []), ValueError, r"`labels` must hold at least one row\. Received: len\(labels\)=0"),
        (([1, 1], [1, -1], [1, 2]), ValueError, r"`labels` must be finite and at least 0\. .*labels\[1\]=-1"),
        (([1, 1], [np.nan, 1], [1, 2]), ValueError, r"`labels` must be finite .*labels\[0\]=nan"),
        (([1, 1], [np.inf, 1], [1, 2]), ValueError, r"`labels` must be finite .*labels\[0\]=inf"),
        (([1], [[1]], [1]), ValueError, r"`labels` must have shape \(rows,\)\. .*\(1, 1\)"),
        (([1], ["1"], [1]), TypeError, r"`labels` must be an array of numbers"),
        (([1], [1e39], [1]), ValueError, r"`labels` must be finite and at least 0\. Received: labels\[0\]=1e\+39"),
        (([[1, 2]], [1], [1]), ValueError, r"`query_ids` must have shape \(rows,\)\. .*\(1, 2\)"),
        (([1, np.nan], [1, 1], [1, 1]), ValueError, r"`query_ids` must not be NaN.*query_ids\[1\]"),
        (([1], [1], 3), ValueError, r"`features` must have one entry per row\. Received: features=3"),
        (([1], [1], np.array([None])), TypeError, r"`features` must be a column of .*features=None"),
        (([1], [1], np.array(["2020-01-01"], "datetime64[D]")), TypeError, r"`features` .*dtype=datetime64"),
    ],
)
def test_errors_name_the_argument_and_what_came(arguments, error, message):
    with pytest.raises(error, match=message):
        to_lists(*arguments)


def test_list_size_is_checked():
    with pytest.raises(ValueError, match=r"`list_size` must be at least 1\. Received: list_size=0"):
        to_lists([1], [1], [1], list_size=0)


def test_to_rows_checks_the_mask():
    with pytest.raises(ValueError, match=r"`price` and `mask` must have the same shape.*\(1, 3\).*\(1, 2\)"):
        to_rows({"price": np.zeros((1, 3))}, np.ones((1, 2), bool))
    with pytest.raises(TypeError, match=r"`mask` must be an array of bools\. Received: mask\.dtype=int64"):
        to_rows(np.zeros((1, 2)), np.ones((1, 2), np.int64))


def test_select_takes_whole_queries():
    lists = small_lists()
    assert lists.select([1, 0]).query_ids.tolist() == ["a", "b"]
    assert lists.select([1, 0]).features[1].tolist() == lists.features[0].tolist()
    assert lists.select(lists.labels.max(axis=1) > 1).query_ids.tolist() == ["b"]
    assert len(lists.select(slice(1))) == 1


def test_split_is_a_seeded_partition():
    lists = to_lists(np.repeat(np.arange(100), 2), np.tile([0, 1], 100), {"x": np.arange(200)})
    train, valid, test = lists.split(0.7, 10, seed=3)
    assert (len(train), len(valid), len(test)) == (70, 10, 20)
    together = np.concatenate([part.query_ids for part in (train, valid, test)])
    assert sorted(together) == list(range(100)) and together.tolist() != list(range(100))
    assert (train.features["x"][:, 0] == 2 * train.query_ids).all()
    assert lists.split(0.7, seed=3)[0].query_ids.tolist() == train.query_ids.tolist()
    assert lists.split(0.7, seed=4)[0].query_ids.tolist() != train.query_ids.tolist()


@pytest.mark.parametrize("sizes", [(), (2,), (1, 1), (0.1,), (3,)])
def test_split_leaves_no_part_empty(sizes):
    with pytest.raises(ValueError, match=r"`sizes` must be given and leave no part.*for 2 lists"):
        small_lists().split(*sizes)


@pytest.mark.parametrize("size", [1.0, 1.5, -0.2, 0])
def test_split_sizes_are_checked(size):
    with pytest.raises(ValueError, match=r"`sizes` must .*Received: sizes="):
        small_lists().split(size)
    with pytest.raises(TypeError, match=r"`sizes` must be a number\. Received: sizes='a'"):
        small_lists().split("a")


def test_concatenate_pads_to_the_longest():
    lists = small_lists()
    joined = RankingLists.concatenate([to_lists(["z"], [4], [[9.0, 9.0]]), lists])
    assert joined.query_ids.tolist() == ["z", "b", "a"]
    assert joined.labels.tolist() == [[4, -1, -1], *lists.labels.tolist()]
    assert joined.features[0].tolist() == [[9, 9], [0, 0], [0, 0]]
    named = [to_lists([1], [1], {"n": ["long"]}), to_lists([2, 2], [1, 0], {"n": ["a", "b"]})]
    assert RankingLists.concatenate(named).features["n"].tolist() == [["long", ""], ["a", "b"]]


def test_concatenate_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"`parts` must hold at least one RankingLists"):
        RankingLists.concatenate([])
    with pytest.raises(ValueError, match=r"features \(lists, items, 2\) and features \(lists, items, 3\)"):
        RankingLists.concatenate([small_lists(), to_lists([1], [1], np.zeros((1, 3)))])


def test_parts_that_disagree_make_no_lists():
    lists = small_lists()
    with pytest.raises(ValueError, match="`query_ids` and `labels` must have the same length"):
        RankingLists(lists.features, lists.labels, lists.query_ids[:1])
    with pytest.raises(ValueError, match="`features` and `labels` must have the same shape"):
        RankingLists(lists.features[:, :2], lists.labels, lists.query_ids)
