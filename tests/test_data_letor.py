import numpy as np
import pytest

from tfrankloss.data import load_letor

GOLDEN = """\
# a comment on its own
2 qid:10032 1:0.5 2:-1.25 4:1e2 #docid = GX029-35-5894638 inc = 0.02 prob = 0.1
0 qid:10002 2:3 #qid:9 1:x

0 qid:10032 4:0.25 1:7
1.5\tqid:10002  3:+.5
0 qid:10032
"""


def write(folder, text, name="train.txt"):
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_golden_file(tmp_path):
    lists = load_letor(write(tmp_path, GOLDEN))
    assert lists.query_ids.tolist() == [10032, 10002]
    assert lists.labels.tolist() == [[2, 0, 0], [0, 1.5, -1]]
    assert lists.labels.dtype == lists.features.dtype == np.float32
    assert lists.mask.tolist() == [[True, True, True], [True, True, False]]
    assert lists.features.tolist() == [
        [[0.5, -1.25, 0, 100], [7, 0, 0, 0.25], [0, 0, 0, 0]],
        [[0, 3, 0, 0], [0, 0, 0.5, 0], [0, 0, 0, 0]],
    ]


def test_sizes_are_what_was_asked_for(tmp_path):
    lists = load_letor(str(write(tmp_path, GOLDEN)), num_features=6, list_size=2)
    assert lists.features.shape == (2, 2, 6)
    assert lists.labels.tolist() == [[2, 0], [0, 1.5]]
    assert load_letor(tmp_path, list_size=5).labels.shape == (2, 5)


def test_a_folder_or_several_files_are_one_set(tmp_path):
    second = write(tmp_path, "1 qid:8 2:1\n1 qid:7 2:2\n", "b.txt")
    first = write(tmp_path, "0 qid:7 1:3\n", "a.txt")
    write(tmp_path, "no data", "README.md")
    for path in (tmp_path, [first, second]):
        lists = load_letor(path)
        assert lists.query_ids.tolist() == [7, 8]
        assert lists.features.tolist() == [[[3, 0], [0, 2]], [[0, 1], [0, 0]]]
    assert load_letor((second, first)).query_ids.tolist() == [8, 7]


@pytest.mark.parametrize(
    ("ids", "read"),
    [(("10", "9"), [10, 9]), (("7", "007"), ["7", "007"]), (("7", "q_1"), ["7", "q_1"]), (("7", "9" * 30), None)],
)
def test_ids_become_integers_only_without_loss(tmp_path, ids, read):
    lists = load_letor(write(tmp_path, "".join(f"1 qid:{one} 1:1\n" for one in ids)))
    assert lists.query_ids.tolist() == (list(ids) if read is None else read)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("1 1:0.5", "the second field must be `qid:ID`"),
        ("1", "the second field must be `qid:ID`"),
        ("1 qid: 1:0.5", "the second field must be `qid:ID`"),
        ("x qid:1 1:0.5", "the label must be a number"),
        ("1_0 qid:1 1:0.5", "the label must be a number"),
        ("-1 qid:1 1:0.5", "the label must be finite and at least 0"),
        ("nan qid:1 1:0.5", "the label must be finite and at least 0"),
        ("inf qid:1 1:0.5", "the label must be finite and at least 0"),
        ("1e39 qid:1 1:0.5", "the label must be finite and at least 0"),
        ("1 qid:1 1:0.5 2", "every feature must be `index:value` with a number for value, unlike '2'"),
        ("1 qid:1 1:0.5 2:", "every feature must be `index:value` with a number for value, unlike '2:'"),
        ("1 qid:1 1:0.5 :2", "every feature index must be an integer from 1 to 999999999, unlike ''"),
        ("1 qid:1 1:0.5 2:3:4", "every feature must be `index:value` with a number for value, unlike '2:3:4'"),
        ("1 qid:1 1 2:3:4", "every feature must be `index:value` with a number for value, unlike '1'"),
        ("1 qid:1 1:0.5 2:y", "every feature must be `index:value` with a number for value, unlike '2:y'"),
        ("1 qid:1 1:0.5 2:1_5", "every feature must be `index:value` with a number for value, unlike '2:1_5'"),
        ("1 qid:1 0:0.5", "every feature index must be an integer from 1 to 999999999, unlike '0'"),
        ("1 qid:1 -1:0.5", "every feature index must be an integer from 1 to 999999999, unlike '-1'"),
        ("1 qid:1 a:0.5", "every feature index must be an integer from 1 to 999999999, unlike 'a'"),
        ("1 qid:1 9999999999:1", "every feature index must be an integer from 1 to 999999999, unlike '9999999999'"),
        ("1 qid:1 2:0.5 2:0.5", "every feature index must stand once"),
        ("1 qid:1 2:0.5 02:0.5", "every feature index must stand once"),
        ("1 qid:1 1:1 4:0.5", "no feature index may exceed num_features=3, unlike 4"),
        ("1 qid:1 1:1 2:nan", "the value of feature 2 must be finite in float32"),
        ("1 qid:1 1:1 2:inf", "the value of feature 2 must be finite in float32"),
        ("1 qid:1 1:1 2:1e39", "the value of feature 2 must be finite in float32"),
    ],
)
def test_a_malformed_line_is_named_with_its_fault(tmp_path, line, fault):
    good = write(tmp_path, "1 qid:1 1:1 2:1\n", "good.txt")
    bad = write(tmp_path, f"# head\n\n1 qid:1 1:1 2:1\n{line}\n1 qid:1 1:1\n", "bad.txt")
    with pytest.raises(ValueError) as caught:
        load_letor([good, bad], num_features=3)
    assert str(caught.value) == f"{bad}, line 4: {fault}. Received: line={line!r}"


def test_a_long_line_is_shown_in_part(tmp_path):
    with pytest.raises(ValueError, match=r"line 1: the label must be a number\. Received: line='x qid:1 .{69}\.\.\.'$"):
        load_letor(write(tmp_path, "x qid:1 " + " ".join(f"{index}:0.5" for index in range(1, 99))))


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n"])
def test_an_empty_file_is_an_error(tmp_path, text):
    file = write(tmp_path, text)
    with pytest.raises(ValueError, match=r"`path` must hold at least one line of data\. Received: path='.*train.txt'"):
        load_letor([write(tmp_path, "1 qid:1 1:1", "good.txt"), file])


def test_lines_without_any_feature_need_num_features(tmp_path):
    file = write(tmp_path, "1 qid:1\n0 qid:1\n")
    assert load_letor(file, num_features=2).features.tolist() == [[[0, 0], [0, 0]]]
    with pytest.raises(ValueError, match="`path` must hold at least one feature unless num_features is given"):
        load_letor(file)


def test_missing_paths_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`path` must be an existing file.*nowhere"):
        load_letor(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"`path` must be a folder with \*\.txt files"):
        load_letor(tmp_path)
    with pytest.raises(ValueError, match=r"`path` must name at least one file\. Received: path=\[\]"):
        load_letor([])
    with pytest.raises(TypeError, match=r"`path` must be a path or a sequence of paths.*path=3"):
        load_letor(3)
    with pytest.raises(ValueError, match="`num_features` must be at least 1"):
        load_letor(tmp_path, num_features=0)


def test_foreign_bytes_in_a_comment_and_a_byte_order_mark_do_no_harm(tmp_path):
    file = tmp_path / "latin.txt"
    file.write_bytes(b"\xef\xbb\xbf1 qid:3 1:2 #caf\xe9\r\n")
    assert load_letor(file).features.tolist() == [[[2]]]
