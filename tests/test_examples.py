"""Each example, small: it beats its baselines, exports a model that answers, draws a picture and refuses bad data."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from tfrankloss import serving

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NAMES = ("letor_listwise", "movielens_full_softmax", "movielens_two_tower")


@pytest.fixture
def example(monkeypatch):
    """Import an example as a script finds its helpers: from its own folder."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


@pytest.fixture
def outputs(tmp_path):
    return ["--quick", "--output", str(tmp_path / "runs" / "picture.png"), "--export", str(tmp_path / "model")]


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


def test_letor_beats_the_best_single_feature_with_every_loss(example, outputs, tmp_path, capsys):
    arguments = ["--loss", "all", "--model", "linear", "--seeds", "1", "--epochs", "12", *outputs]
    results = example("letor_listwise").main(arguments)
    baselines = [results[name] for name in ("random", "best single feature", "hindsight")]
    losses = {name.removesuffix(", linear"): value for name, value in results.items() if name.endswith(", linear")}
    assert {"list_mle", "softmax", "rank_net", "list_net", "kl"} < set(losses)
    assert min(losses.values()) > max(baselines)
    assert is_picture(tmp_path / "runs" / "picture.png")
    with serving.load(tmp_path / "model") as servable:
        assert servable.query(features=np.eye(10)[None])["scores"].shape == (1, 10)
    printed = capsys.readouterr().out
    assert "NDCG@10 on validation lists by epoch" in printed
    assert "asked of the reloaded export" in printed


def test_letor_misses_the_baselines_with_a_loss_of_the_wrong_sign(example, outputs, monkeypatch):
    module = example("letor_listwise")

    class Wrong(module.SoftmaxLoss):
        def item_losses(self, labels, scores, mask):
            return -super().item_losses(labels, scores, mask)

    monkeypatch.setitem(module.LOSSES, "softmax", lambda ties: Wrong())
    arguments = ["--loss", "softmax", "--model", "linear", "--seeds", "1", "--epochs", "12", *outputs]
    results = module.main(arguments)
    assert results["softmax, linear"] < results["best single feature"]


def test_letor_reads_files_and_tests_on_the_last(example, outputs, tmp_path):
    folder = tmp_path / "letor"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part in ("S1", "S2", "S3"):
        lines = [
            f"{label} qid:{part[1]}{query:02} 1:{label / 2 + rng.normal() / 5:.4f} 2:{rng.normal():.4f} #doc"
            for query in range(30)
            for label in rng.integers(3, size=8)
        ]
        (folder / f"{part}.txt").write_text("\n".join(lines))
    settings = ["--loss", "softmax", "--model", "linear", "--seeds", "1", "--epochs", "60"]
    results = example("letor_listwise").main(["--data", str(folder), *settings, *outputs])
    assert results["softmax, linear"] > 0.9 > results["random"]


def test_movielens_beats_popularity_and_answers_by_raw_id(example, outputs, tmp_path, capsys):
    results = example("movielens_two_tower").main(["--epochs", "15", "--batch-size", "256", *outputs])
    assert results["two towers"]["recall@10"] > 1.2 * results["popularity"]["recall@10"]
    assert results["two towers"]["ndcg@10"] > 1.2 * results["popularity"]["ndcg@10"]
    assert is_picture(tmp_path / "runs" / "picture.png")
    with serving.load(tmp_path / "model") as servable:
        answer = servable.query(user_id=["7", "never seen"])
    assert answer["ids"].shape == (2, 100)
    assert set(answer["ids"][0]) <= {str(number) for number in range(1, 301)}
    assert not np.array_equal(answer["ids"][0], answer["ids"][1])
    assert "What the reloaded export answers" in capsys.readouterr().out


def test_movielens_loses_its_lead_with_a_loss_of_the_wrong_sign(example, outputs, monkeypatch):
    module = example("movielens_two_tower")

    class Wrong(module.InBatchSoftmaxLoss):
        def list_losses(self, y_true, y_pred, sample_weight):
            values, weights = super().list_losses(y_true, y_pred, sample_weight)
            return -values, weights

    monkeypatch.setattr(module, "InBatchSoftmaxLoss", Wrong)
    results = module.main(["--epochs", "3", "--batch-size", "256", *outputs])
    assert results["two towers"]["recall@10"] < 1.1 * results["popularity"]["recall@10"]


def test_full_softmax_beats_popularity_and_answers_to_a_history(example, outputs, tmp_path, monkeypatch, capsys):
    module = example("movielens_full_softmax")
    monkeypatch.setattr(module, "MEMBERS", (("dot", 1.0), ("cosine", 0.2)))
    results = module.main(["--epochs", "20", "--batch-size", "32", "--dimension", "32", *outputs])
    for name in ("one model", "ensemble"):
        assert results[name]["ndcg@10"] > 1.2 * results["popularity"]["ndcg@10"]
        assert results[name]["coverage@10"] > 1.5 * results["popularity"]["coverage@10"]
    assert is_picture(tmp_path / "runs" / "picture.png")
    with serving.load(tmp_path / "model") as servable:
        asked = [module.padded(ids) for ids in (["7", "12"], ["12", "unknown", "7"], [])]
        one, same, none = servable.query("scores", watched=asked)["scores"]
        answers = servable.query(watched=asked, exclude_ids=asked)
    assert one.shape == (300,)
    np.testing.assert_allclose(one, same, atol=1e-5)
    assert np.abs(one - none).max() > 0.1
    assert answers["ids"].shape == (3, 100) and not {"7", "12"} & set(answers["ids"][0])
    np.testing.assert_allclose(answers["scores"][2], np.sort(none)[:-101:-1], atol=1e-5)
    assert "What the reloaded export answers" in capsys.readouterr().out


def test_two_workers_beat_popularity(example, tmp_path, capfd):
    paths = ["--backup", str(tmp_path / "backup"), "--export", str(tmp_path / "model.keras")]
    results = example("two_workers").main(["--quick", *paths])
    assert results["two workers"]["recall@10"] > 1.2 * results["popularity"]["recall@10"]
    assert results["two workers"]["ndcg@10"] > 1.2 * results["popularity"]["ndcg@10"]
    assert "Epoch 15/15" in capfd.readouterr().out
    assert not (tmp_path / "backup").exists()


def test_every_training_mode_beats_popularity(example, capsys):
    results = example("training_modes").main(["--quick"])
    assert set(results) == {"popularity", "pointwise", "pairwise", "listwise", "in_batch"}
    for mode in set(results) - {"popularity"}:
        assert results[mode]["ndcg@10"] > 1.1 * results["popularity"]["ndcg@10"], mode
        assert results[mode]["coverage@10"] > 2 * results["popularity"]["coverage@10"], mode
    assert "Test set" in capsys.readouterr().out


def test_a_joint_model_ranks_better_than_grades_alone(example, capsys):
    results = example("joint_ctr_ranking").main(["--quick"])
    joint, alone = results["joint, uncertainty"], results["ranking alone"]
    assert joint["ndcg@10"] > max(alone["ndcg@10"], results["best single feature"]["ndcg@10"])
    assert joint["auc"] > 0.65 and "auc" not in alone
    assert "AUC" in capsys.readouterr().out


def test_pretraining_and_fine_tuning_both_gain(example, capsys):
    results = example("pretrain_finetune").main(["--quick", "--seeds", "1", "--epochs", "12"])
    both = results["pretrained, fine-tuned"][0]
    assert both > 0.005 + max(results["fine-tuned alone"][0], results["pretrained"][0])
    assert min(results["fine-tuned alone"][0], results["pretrained"][0]) > 0.05 + results["untrained"][0]
    assert "gain" in capsys.readouterr().out


@pytest.mark.parametrize("name", [*NAMES, "training_modes", "pretrain_finetune"])
@pytest.mark.parametrize("bad", ["missing", "empty", "malformed"])
def test_bad_data_is_one_line_and_exit_code_2(example, name, bad, tmp_path, capsys):
    folder = tmp_path / "data"
    if bad != "missing":
        folder.mkdir()
    if bad == "malformed":
        for file in ("u.data", "u.item", "u.user", "a.txt", "b.txt"):
            (folder / file).write_text("not a line of data\n")
    with pytest.raises(SystemExit) as exit_:
        example(name).main(["--data", str(folder)])
    assert exit_.value.code == 2
    printed = capsys.readouterr().err.strip()
    assert "error: cannot use --data" in printed and str(folder) in printed
    assert "\n" not in printed


@pytest.mark.parametrize("name", NAMES)
def test_help_names_every_option(example, name, capsys):
    with pytest.raises(SystemExit) as exit_:
        example(name).main(["--help"])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    for option in ("--data", "--epochs", "--output", "--export", "--quick"):
        assert option in printed


def test_the_table_aligns_its_columns(example, capsys):
    example("_shared").print_table("Title", ["", "score"], [["a", "0.5"], ["longer", "10.25"]])
    assert capsys.readouterr().out.splitlines()[3:7] == [
        "        score",
        "-" * 13,
        "a         0.5",
        "longer  10.25",
    ]
