"""`segjax datasets` and the catalogue behind it."""

import json

from segjax import cli
from segjax.data.catalogue import catalogue
from tests.data_builders.mini_trees import opened


def test_every_data_set_is_documented(root):
    for entry in catalogue("/nowhere"):
        text = (root / entry.about.readme).read_text()
        assert all(archive in text for archive in entry.about.archives), entry.name
        assert entry.about.licence.split(" ")[0] in text and entry.about.homepage in text
        assert bool(entry.about.citation) == bool(entry.about.homepage)
        assert json.dumps(dict(entry.about.divisions))


def test_catalogue_lists_what_is_built(published, data_dir, capsys):
    opened("kitti", "train", published["kitti"][0], data_dir)
    assert cli.main(["datasets", "kitti", "voc2012", f"--data-dir={data_dir}"]) == 0
    text = capsys.readouterr().out
    kitti, voc = text.split("\nvoc2012: ")
    assert "train 4, test 4" in kitti and "cv2_validation" in kitti
    assert "classes   21: background" in voc and "train_aug" in voc
    assert cli.main(["datasets", "kiti"]) == 2
    assert "Did you mean 'kitti'" in capsys.readouterr().err
    assert cli.main(["datasets", f"--data-dir={data_dir}/no"]) == 0
    assert capsys.readouterr().out.count("built     no") >= 10
    (data_dir / "file").touch()
    assert cli.main(["datasets", f"--data-dir={data_dir}/file"]) == 2
    assert "is a file, not a folder" in capsys.readouterr().err
