"""Rows of the ablations: what they share, and what they refuse."""

import pytest

from tests.recipe_runs import load


def test_rows_of_the_study_share_labels_and_steps():
    config = load("csst_ablation", "camvid,rows=teacher*2+student7_soft+bound+teacher_x2,seeds=1,steps=100")
    of = {name: config[name] for name in config.stages}
    assert of["teacher_seed1"].dataset.train == "train::16,first=1" and of["teacher_seed1"].seed == 1
    assert of["student7_soft_seed0"].dataset.train == of["labels_soft_seed0"].dataset.train == "train::16,first=0"
    assert of["labels_soft_seed0"].checkpoint == "teacher_seed0" and "dataset" not in of["bound_seed0"]
    steps = {name: stage.total_steps for name, stage in of.items() if stage.kind == "train"}
    assert steps.pop("teacher_x2_seed0") == 200 and set(steps.values()) == {100}
    assert [len(cell["stages"]) for cell in config.compare.cells] == [2, 1, 1, 1]
    pool = load("csst_ablation", "camvid,rows=pool7,pool=drive.mp4+photos,seeds=1").pool_seed0
    assert pool.size == 360 and {name: one.every for name, one in pool.unlabelled.items()} == {"pool1": 5, "pool2": 1}


def test_rows_of_the_ladder_study_share_trainings():
    config = load("ldn_ablation", "camvid_half,rows=running*1+no_aux*2+augment_flip,seeds=1")
    train = {name: config[name] for name in config.stages if config[name].kind == "train"}
    assert list(train) == ["train_base_seed0", "train_no_aux_seed0", "train_augment_flip_seed0", "train_base_seed1",
                           "train_no_aux_seed1"]  # fmt: skip
    assert config.evaluate_running_seed0.checkpoint == "train_base_seed0"
    assert config.evaluate_base_seed1.checkpoint == "recalibrate_base_seed1"
    assert config.recalibrate_base_seed1.checkpoint == "train_base_seed1"
    assert train["train_no_aux_seed1"].model.options.aux is False and train["train_no_aux_seed1"].seed == 1
    assert train["train_base_seed0"].crop.size == (264, 320)
    assert train["train_augment_flip_seed0"].crop.size == (360, 480), "the whole image"
    assert len({stage.total_epochs for stage in train.values()}) == 1
    assert [(cell["series"], len(cell["stages"])) for cell in config.compare.cells] == [
        ("base", 2), ("running", 1), ("no_aux", 2), ("augment_flip", 1)]  # fmt: skip


def test_a_ladder_is_trained_on_two_datasets_and_scored_on_both():
    config = load("ldn_ablation", "camvid_half,rows=both,seeds=1")
    both = config.train_both_seed0
    assert both.extra.street.dataset.label_map == config.evaluate_both_on_street_seed0.dataset.label_map
    assert config.recalibrate_both_seed0.extra == both.extra and "dataset" not in both
    seen = {config[f"train_{row}_seed0"].total_examples for row in ("camvid", "both")}
    assert seen == {6 * 468} and "total_epochs" not in both, "as many images"
    assert config.compare.baseline == "camvid" and "differs from camvid" in config.compare.rule
    assert [(cell["series"], cell["at"]) for cell in config.compare.cells] == [
        ("camvid", "CamVid"), ("camvid", "street"), ("both", "CamVid"), ("both", "street")]  # fmt: skip


@pytest.mark.parametrize(
    "arg, message",
    [
        ("rows=no_axu", "did you mean 'no_aux'"),
        ("rows=base*0", "number of seeds"),
        ("rows=+", "names no row"),
        ("camvid_half,rows=base+both", "study"),
    ],
)
def test_rows_of_the_ladder_study_that_do_not_fit(arg, message):
    with pytest.raises(ValueError, match=message):
        load("ldn_ablation", arg)


@pytest.mark.parametrize(
    "arg, message",
    [
        ("rows=pupil", "names 'pupil'"),
        ("rows=student", "names 'student'"),
        ("rows=student3_hard", "unknown variant"),
        ("rows=teacher*x", "number of seeds"),
        ("rows=pool7", "needs pool="),
        ("cityscapes,rows=bound", "needs every=N"),
        ("camvid,every=1,rows=student7", "needs every=N"),
        ("seeds=0", "must be 1 or more"),
    ],
)
def test_rows_of_the_study_that_do_not_exist(arg, message):
    with pytest.raises(ValueError, match=message):
        load("csst_ablation", arg)


def test_rows_of_the_video_study_share_keyframe_networks():
    config = load("gsvnet_ablation", "rows=no_intra*2+a_lite+no_teacher+all_frames,seeds=1")
    kinds = [config[name].kind for name in config.stages]
    assert kinds.count("train") == 2 and kinds.count("train_gsvnet") == kinds.count("evaluate_video") == 7
    for name in config.stages:
        if config[name].kind == "train_gsvnet":
            assert config[name].keyframe.checkpoint == f"keyframe_seed{config[name].seed}"
    options = {name: config[f"train_{name}_seed0"].model.options for name in ("base", "no_intra", "a_lite")}
    assert options["no_intra"].intra is False and "intra" not in options["base"]
    assert options["a_lite"].feature == "ffm" and config.train_a_lite_seed0.model.name == "a_lite"
    assert set(config.train_no_teacher_seed0.loss) == {"main"} and config.train_all_frames_seed0.gradient_steps == 0
    assert [(cell["series"], len(cell["stages"])) for cell in config.compare.cells] == [
        ("base", 2), ("no_intra", 2), ("a_lite", 1), ("no_teacher", 1), ("all_frames", 1)]  # fmt: skip


@pytest.mark.parametrize(
    "recipe, arg, message",
    [
        ("gsvnet", "own", "needs frames=VIDEO OR FOLDER and checkpoint=RUN"),
        ("gsvnet", "camvid,frames=a.mp4", "add labels=teacher"),
        ("gsvnet", "model=warps", "did you mean 'warp'"),
        ("gsvnet_ablation", "rows=no_inter", "did you mean 'no_intra'"),
        ("gsvnet_ablation", "rows=street", "unknown row"),
        ("gsvnet_ablation", "camvid,rows=base+videos", "belong together"),
        ("gsvnet_ablation", "camvid,rows=base,frames=drive.mp4", "belong together"),
    ],
)
def test_options_of_the_video_recipes_that_do_not_fit(recipe, arg, message):
    with pytest.raises(ValueError, match=message):
        load(recipe, arg)


def test_a_video_of_ones_own_needs_no_labels():
    config = load("gsvnet", "own,frames=drive.mp4,checkpoint=runs/mine")
    assert config.stages == ("train_gsvnet",) and config.train_gsvnet.labels == "teacher"
    assert config.train_gsvnet.keyframe.checkpoint == "runs/mine" and config.train_gsvnet.frames == "drive.mp4"


def test_rows_of_the_video_study_differ_in_what_they_are_trained_on():
    config = load("gsvnet_ablation", "camvid,rows=street+teacher+videos,seeds=2,frames=videos")
    assert [name for name in config.stages if name.startswith("keyframe")] == [
        "keyframe_seed0",
        "keyframe_street_seed0",
    ]
    base, street, teacher, videos = (config[f"train_{row}_seed1"] for row in ("base", "street", "teacher", "videos"))
    assert [one.labels for one in (base, street, teacher, videos)] == ["truth", "truth", "teacher", "teacher"]
    assert [one.frames for one in (base, street, teacher, videos)] == ["", "", "", "videos"]
    assert base.split == teacher.split == videos.split == "validation[:60]" and street.split == "train"
    assert street.keyframe.checkpoint == "keyframe_street_seed0" and base.keyframe.checkpoint == "keyframe_seed0"
    assert street.dataset == config.keyframe_street_seed0.dataset and "dataset" not in base
    measured = config.evaluate_street_seed1
    assert measured.keyframe == "keyframe_seed0" and measured.split == "validation[60:]" and "dataset" not in measured


def test_headroom_of_propagation_comes_first():
    config = load("vplr_ablation", "camvid,rows=truth+reconstruction_jp,k=1+4,seeds=2")
    order = list(config.stages)
    early, late = order[: order.index("headroom")], order[order.index("headroom") + 1 :]
    assert {name.split("_")[1] for name in early} == {"truth", "baseline"} and late[-1] == "compare"
    assert all("reconstruction" in name for name in late[:-1])
    cells = [(cell["series"], cell["at"], cell["baseline"]) for cell in config.headroom.cells]
    assert cells == [("baseline", 0, "baseline"), ("truth", 0, "baseline"), ("truth", 1, "baseline"),
                     ("truth", 4, "baseline"), ("baseline, relaxed", 0, "baseline")]  # fmt: skip
    assert config.propagate_truth.method == "truth" and config.propagate_truth.modes == ("lp",)
    assert config.train_baseline_x3_plain_seed1.total_steps == 3 * config.train_truth_lp_k4_plain_seed1.total_steps
    assert config.train_baseline_relaxed_seed0.loss.main.options.strict_classes == (2, 6, 9, 10)
    assert "relaxed but for pole, sign, pedestrian, bicyclist" in config.compare.title
    free = load("vplr_ablation", "camvid,rows=truth,k=1,seeds=1,strict=False,boundary")
    assert "strict_classes" not in free.train_baseline_relaxed_seed0.loss.main.options
    assert "relaxed in all classes" in free.compare.title and free.compare.columns == (
        "miou",
        "trimap_miou.5",
        "inside_miou.5",
    )


def test_neighbouring_frames_and_one_distance_of_the_presets():
    street = load("vplr_ablation", "cityscapes,data=x,seeds=1,k=3")
    assert "sequence" in street.dataset.options.parts and street.dataset.options.neighbours == 3
    camvid = load("vplr_ablation", "camvid,frames=x,seeds=1")
    assert camvid.dataset.options.frames_dir == "x" and camvid.train_baseline_plain_seed0.crop.size == (656, 896)
    one = load("vplr_ablation", "video,sets=each,rows=truth,seeds=1")
    assert one.train_truth_lp_k10_plain_seed0.extra.steps == (10,)


def test_accumulated_and_other_sets_are_in_one_table():
    config = load("vplr_ablation", "rows=truth+reconstruction_jp,k=1+3,sets=each+all,seeds=1,longer=0")  # table 6
    assert config.train_reconstruction_jp_k3_relaxed_seed0.extra.steps == (3,)
    assert config.train_reconstruction_jp_all3_relaxed_seed0.extra.steps == (1, 2, 3)
    assert "train_reconstruction_jp_all1_relaxed_seed0" not in config  # the same as k1
    at = {cell["series"]: [] for cell in config.compare.cells}
    for cell in config.compare.cells:
        at[cell["series"]].append(cell["at"])
    assert at["reconstruction + JP, relaxed"] == [0, 1, 3] and at["reconstruction + JP, accumulated, relaxed"] == [0, 3]
    assert at["truth"] == [0, 1, 3] and at["truth, accumulated"] == [0, 3]
    assert len(config.headroom.cells) == 7  # the relaxed baseline too
    with pytest.raises(ValueError, match="unknown sets 'al'"):
        load("vplr_ablation", "sets=al")


def test_shifted_labels_are_a_control_with_both_losses():
    config = load("vplr_ablation", "rows=truth+shift2+flow_lp,relaxed=truth+shift2,k=1,seeds=1,longer=0")
    assert config.propagate_shift2.method == "truth" and config.propagate_shift2.label_shift == 2
    assert config.train_shift2_lp_k1_relaxed_seed0.extra.stage == "propagate_shift2"
    assert config.propagate_flow.score and "score" not in config.propagate_truth
    assert [cell["series"] for cell in config.headroom.cells if cell["at"]] == ["truth", "truth, relaxed"]


def test_a_label_curve_has_a_training_set_for_each_number():
    config = load("vplr_ablation", "labels=16+64,rows=truth+prediction_lp,relaxed=,seeds=1,k=1+3")
    assert config.train_baseline_n16_plain_seed0.dataset.train == "train::4"
    assert config.train_baseline_n64_plain_seed0.dataset.train == "train"
    assert config.propagate_prediction_n16.split == "train::4" and config.train_video_prediction.split == "train"
    assert config.train_prediction_lp_k3_n16_plain_seed0.extra.stage == "propagate_prediction_n16"
    assert {cell["at"] for cell in config.compare.cells} == {16, 64} and config.compare.axis == "labels"


def test_ones_own_video_is_scored_on_its_frames_without_label_too():
    config = load("vplr_ablation", "video,seeds=1")
    assert config.dataset.train == "validation::20" and not config.dataset.validation
    assert config.evaluate_baseline_plain_seed0.split == "test"
    other = config.other_baseline_plain_seed0.split.split("+")
    frames = [set(range(*map(int, piece[11:-1].split(":")))) for piece in other]
    assert set.union(*frames) == set(range(101)) - {10, 30, 50, 70, 90} and sum(map(len, frames)) == 96
    moved = {name: config[name].rgb_warp for name in config.stages if name.startswith("propagate_reconstruction_")}
    assert set(moved.values()) == {"bilinear", "composed", "composed_bicubic"} and len(moved) == 3
    assert config.train_reconstruction_jp_composed_all10_plain_seed0.extra.steps == tuple(range(1, 11))
    assert config.compare_video.cells[0]["stages"] == ("other_baseline_plain_seed0",)
    assert "transductive" in config.compare_video.title and "transductive" not in config.compare.title


@pytest.mark.parametrize(
    "arg, message",
    [
        ("rows=truht", "did you mean 'truth'"),
        ("rows=flow_jq", "choose one of jp, lp"),
        ("labels=8+65", "asks for more than the 64"),
        ("labels=8+x", "write numbers from 1"),
        ("rows=shift", "write numbers from 1"),
        ("labels=8,every=4", "give one of them"),
        ("work=epochs,steps=10", "leave it out"),
        ("video,frames=x", "camvid and kitti"),
        ("work=epoch", "did you mean 'epochs'"),
        ("seeds=0", "must be 1 or more"),
        ("warp=composed_lancos,rows=flow_jp", "did you mean 'composed_lanczos'"),
    ],
)
def test_rows_of_the_propagation_study_that_do_not_fit(arg, message):
    with pytest.raises(ValueError, match=message):
        load("vplr_ablation", arg)


def test_rows_of_table_1_differ_in_first_weights_and_sampling():
    config = load("vplr_table1", "data=D,seeds=2,rows=baseline*1+mapillary+fine+coarse")
    of = {row: config[f"train_{row}_seed0"] for row in ("baseline", "mapillary", "fine", "coarse")}
    assert {train.loss.main.name for train in of.values()} == {"cross_entropy"}, "no relaxation"
    assert {train.model.name for train in of.values()} == {"deeplabv3plus_rnx50"} == {config.mapillary.model.name}
    assert [train.sampler.kind for train in of.values()] == ["uniform", "uniform", "class_uniform", "class_uniform"]
    assert [train.init.checkpoint for train in of.values()] == ["", "mapillary", "mapillary", "mapillary"]
    assert [train.init.weights for train in of.values()] == ["imagenet", "", "", ""]
    assert ["extra" in train for train in of.values()] == [False, False, False, True]
    assert of["coarse"].sampler.cut_epoch == 150 and config.dataset.options.parts == ("fine", "coarse")
    assert config.mapillary.dataset.options.source_dir == "D/mapillary" and "dataset" not in of["coarse"]
    assert [len(cell["stages"]) for cell in config.compare.cells] == [1, 2, 2, 2]
    given = load("vplr_table1", "start=runs/mapillary,rows=fine")
    assert given.stages[0] == "train_baseline_seed0" and given.train_fine_seed0.init.checkpoint == "runs/mapillary"


def test_the_pre_training_on_mapillary_is_that_of_the_chain():
    single, chain = load("vplr", "mapillary").train.to_dict(), load("transfer", "net=rnx50").mapillary.to_dict()
    del chain["dataset"]
    assert single == chain


def test_the_chain_of_camvid_propagates_with_the_video_network_of_cityscapes():
    config = load("vplr_camvid", "data=D,frames=V")
    assert config.train_video.dataset.name == "cityscapes" and config.propagate.checkpoint == "train_video"
    assert "dataset" not in config.propagate and config.dataset == config.train.dataset
    assert config.dataset.options.to_dict() == dict(source_dir="D/camvid", config="full", frames_dir="V", neighbours=3)
    assert config.train.extra.to_dict() == dict(stage="propagate", mode="jp", steps=(3,), in_epoch=False)
    assert [config[name].init.checkpoint for name in ("cityscapes", "train")] == ["mapillary", "cityscapes"]
    assert config.train.loss.main.name == "relaxed_cross_entropy" and config.evaluate_multi.protocol == "camvid_multi"
    assert {config[name].model.name for name in ("mapillary", "cityscapes", "train")} == {"deeplabv3plus_wrn38"}
    baseline = load("vplr_camvid", "baseline,start=runs/city")
    assert baseline.stages == ("train", "evaluate", "evaluate_multi") and "extra" not in baseline.train
    assert baseline.train.loss.main.name == "cross_entropy" and baseline.train.init.checkpoint == "runs/city"
    both = load("vplr_camvid", "trainval,video=runs/video")
    assert both.propagate.split == both.dataset.train == "train+validation" and not both.dataset.validation
    assert both.stages[0] == "propagate" and both.propagate.checkpoint == "runs/video"


def test_the_folds_of_kitti_are_scored_on_all_images():
    config = load("vplr_kitti", "start=runs/city,folds=3")
    assert config.choose.stages == tuple(f"evaluate_fold{fold}" for fold in range(3))
    for fold in range(3):
        train, evaluate = config[f"train_fold{fold}"], config[f"evaluate_fold{fold}"]
        assert (train.dataset.train, train.dataset.validation) == (f"fold{fold}_train", f"fold{fold}_validation")
        assert train.init.checkpoint == "runs/city" and evaluate.checkpoint == f"train_fold{fold}"
        assert config.dataset[evaluate.split] == "train" and evaluate.protocol == "kitti_multi"
    assert len([name for name in load("vplr_kitti", "").stages if name.startswith("train_")]) == 10
    assert load("vplr_kitti", "start=city.pth").train_fold0.init.weights == "city.pth"


@pytest.mark.parametrize(
    "recipe, arg, message",
    [
        ("vplr_table1", "rows=course", "did you mean 'coarse'"),
        ("vplr_camvid", "baseline,frames=V", "the baseline does without"),
        ("vplr_kitti", "folds=11", "must be from 1 to 10"),
        ("vplr", "cityscapes,propagate=flow,k=11", "k=11 must be a number of frames from 1 to 10"),
        ("vplr", "k=8", "from 1 to 7, as far as the frames around a label reach"),
        ("vplr", "camvid,propagate=flow,k=-1", "from 1.$"),
        ("vplr_ablation", "cityscapes,k=1+12", "k=12 must be"),
    ],
)
def test_options_of_the_chains_that_do_not_fit(recipe, arg, message):
    with pytest.raises(ValueError, match=message):
        load(recipe, arg)
