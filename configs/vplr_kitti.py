"""KITTI as in VPLR (Zhu et al., CVPR 2019, table 5): ten trainings on folds of its 200 images, of which one is chosen.

    python main.py --config=configs/vplr_kitti.py:data=DIR,start=RUN --workdir=runs/kitti
    segjax submit --checkpoint=runs/kitti --dataset=kitti --split=test --protocol=kitti_multi --output=kitti.zip

start: a run on Cityscapes, such as vplr.py:cityscapes,submission, or a file of weights with its tensors' names.
Stages: train_fold0, evaluate_fold0, ... train_fold9, evaluate_fold9, choose. Each network is scored on all 200 images,
also on those it was trained on: the best one "in terms of mIoU on the whole training set" is submitted. choose/ then
holds it, and commands that are given the run's folder take it. The report has the scores of all. folds=3: the first 3.

Guesses: the ten folds (image i validates in fold i mod 10; the release has three other splits); the views of the
choice, which are those of the submission. Settings of the training: vplr.py:kitti. Expected on the test server: 72.83.
"""

from ml_collections import ConfigDict

from configs import ablation, common, vplr

FOLDS = 10
SHIPPED = ("", "folds=2")
SLOW = SHIPPED[:1]  # ten debug runs

OPTIONS = dict(data="", start="", net="wrn38", folds=FOLDS, batch=0, debug=False)


def get_config(arg=None):
    arg = common.parse_arg(arg, **OPTIONS)
    if not 1 <= arg.folds <= FOLDS:
        raise ValueError(f"recipe option folds={arg.folds} must be from 1 to {FOLDS}.")
    base = vplr.get_config(ablation.arguments(preset="kitti", net=arg.net, data=arg.data, batch=arg.batch))
    file = arg.start.endswith((".pth", ".pt", ".tar", ".npz", ".safetensors"))
    base.train.init.update({"weights" if file else "checkpoint": arg.start})
    base.train.remat = arg.net == "wrn38"

    config = ConfigDict(dict(seed=base.seed, stages=(), dataset=base.dataset))
    config.dataset.update(train="train", validation="train", test="train")  # scores are those of all 200 images
    for fold in range(arg.folds):
        train = base.train.copy_and_resolve_references()
        train.dataset = dict(base.dataset.to_dict(), train=f"fold{fold}_train", validation=f"fold{fold}_validation")
        evaluate = ConfigDict(dict(base.evaluate.to_dict(), checkpoint=f"train_fold{fold}", split="train"))
        ablation.add(config, f"train_fold{fold}", train)
        ablation.add(config, f"evaluate_fold{fold}", evaluate)
    choose = dict(kind="choose", stages=tuple(f"evaluate_fold{fold}" for fold in range(arg.folds)), number="miou")
    ablation.add(config, "choose", ConfigDict(choose))
    return common.shrink(config, keep_data=bool(arg.data)) if arg.debug else config


def sweep(add):
    """Adds the submission, and the same with the network of the paper's ablations."""
    for net in ("wrn38", "rnx50"):
        add(f"net={net}")
