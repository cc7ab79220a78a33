"""Nothing that a command reads is replaced, and no file that segjax did not write."""

import json
import os
import shutil

import hypothesis.strategies as st
import pytest
from hypothesis import given

from segjax.errors import UserError
from segjax.outputs import NOTE, check_local, check_outputs, is_own, writing_file, writing_outputs, written_below


def write(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_is_written_again_until_somebody_changes_it(tmp_path):
    path = tmp_path / "out" / "sheet.png"
    for text in ("first", "second"):
        with writing_file(path):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert is_own(path) and path.read_text() == text
    path.write_text("corrected by hand")
    with pytest.raises(UserError, match="sheet.png exists and was changed since segjax wrote it"), writing_file(path):
        raise AssertionError("not reached")
    assert path.read_text() == "corrected by hand" and not is_own(path)


def test_a_file_of_the_user_is_kept(tmp_path):
    path = write(tmp_path / "holiday.mp4")
    with pytest.raises(UserError, match="holiday.mp4 exists and was not written by segjax"):
        check_outputs(tmp_path, ["holiday.mp4"])
    for damaged in ("", "{", "[]", '{"files": 3}'):
        write(tmp_path / NOTE, damaged)
        with pytest.raises(UserError, match="not written by segjax"):
            check_outputs(tmp_path, ["holiday.mp4"])
    assert path.read_text() == "x"


@pytest.mark.parametrize("link", ["same", "symbolic", "hard", "folder"])
def test_what_is_read_is_not_replaced(tmp_path, link):
    video = write(tmp_path / "clips" / "drive.mp4")
    output = tmp_path / "clips"
    if link == "folder":
        output = tmp_path / "elsewhere"
        output.symlink_to(tmp_path / "clips")
    elif link != "same":
        output = tmp_path / "other"
        output.mkdir()
        {"symbolic": os.symlink, "hard": os.link}[link](video, output / "drive.mp4")
    with pytest.raises(UserError, match=r"drive.mp4 is read, and would be replaced; give another --output"):
        check_outputs(output, ["overlay/", "drive.mp4"], reads=[video])
    assert video.read_text() == "x" and not (tmp_path / "clips" / NOTE).exists()


def test_outputs_lie_outside_of_folders_that_are_read(tmp_path):
    images = write(tmp_path / "images" / "a.png").parent
    for output in (images, images / "check"):
        with pytest.raises(UserError, match="--output lies in .*images, which is read"):
            check_outputs(output, ["overlay.png"], reads=[images])
    check_outputs(images / "check", ["overlay.png"], reads=[images], apart=False)
    with pytest.raises(UserError, match="lies in"):
        check_outputs(images, ["overlay.png"], reads=[images], apart=False)
    check_outputs(tmp_path / "images2", ["overlay.png"], reads=[images])
    with pytest.raises(UserError, match="a.png is a file, not a folder"):
        check_outputs(images / "a.png", ["overlay.png"])
    with pytest.raises(UserError, match="images is a folder, and a file is to be written there"):
        check_outputs(tmp_path, ["images"])


def test_a_call_that_was_killed_can_be_repeated(tmp_path):
    names = ["ids/", "legend.png"]
    block = writing_outputs(tmp_path / "out", names)
    block.__enter__()
    write(tmp_path / "out" / "ids" / "a.png")  # and now the process is gone
    check_outputs(tmp_path / "out", names)
    with writing_outputs(tmp_path / "out", names):
        write(tmp_path / "out" / "ids" / "a.png", "again")
        write(tmp_path / "out" / "ids" / "more" / "b.png")
    assert set(json.loads((tmp_path / "out" / NOTE).read_text())["files"]) == {"ids/a.png", "ids/more/b.png"}
    write(tmp_path / "out" / "ids" / "c.png")
    with pytest.raises(UserError, match="c.png exists and was not written"):
        check_outputs(tmp_path / "out", names)


def test_files_of_a_failed_call_are_noted_and_an_empty_folder_goes(tmp_path):
    with pytest.raises(UserError, match="the network"), writing_outputs(tmp_path / "out", ["a.png"]):
        raise UserError("the network is missing")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="the disk"), writing_outputs(tmp_path / "out", ["a.png", "b.png"]):
        write(tmp_path / "out" / "a.png")
        raise UserError("the disk is full")
    assert written_below(tmp_path / "out") == {tmp_path / "out" / "a.png"}


def test_two_commands_share_a_folder(tmp_path):
    with writing_file(tmp_path / "a.mp4"), writing_file(tmp_path / "b.mp4"):
        write(tmp_path / "a.mp4")
        write(tmp_path / "b.mp4")
    assert is_own(tmp_path / "a.mp4") and is_own(tmp_path / "b.mp4")


def test_a_copied_folder_belongs_to_the_user(tmp_path):
    with writing_file(tmp_path / "one" / "a.png"):
        write(tmp_path / "one" / "a.png")
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copyfile)
    assert is_own(tmp_path / "one" / "a.png") and not is_own(tmp_path / "two" / "a.png")


@pytest.mark.parametrize("path", ["gs://bucket/run", "s3://b/c", "hdfs:///x", "file:///tmp/x", "https://a.b/c.pth"])
def test_remote_addresses_are_refused(path):
    with pytest.raises(UserError, match="--output=.* is a remote address"):
        check_outputs(path, [])
    with pytest.raises(UserError, match="--workdir=.* is a remote address"):
        check_local(path, "--workdir")


@pytest.mark.parametrize("path", ["runs/a", "/data/x", "~/x", "C:/runs", "C:\\runs", "a:b", "::", "", 3, None])
def test_local_paths_are_not(path):
    check_local(path, "--workdir")


NAMES = st.sampled_from(["a", "b", "a/b", "ids/a", "ids/b"])


SOME = st.sets(NAMES)


@given(before=SOME, written=SOME, changed=SOME, planned=st.lists(NAMES, min_size=1, max_size=3))
def test_only_own_unchanged_files_are_in_nobodys_way(tmp_path_factory, before, written, changed, planned):
    """Against the rule in words: a planned file that exists must have been written, and not changed since."""
    folder = tmp_path_factory.mktemp("out")
    names = [f"{name}.png" for name in sorted(written)]
    with writing_outputs(folder, names):
        for name in names:
            write(folder / name)
    for name in before - written:
        write(folder / f"{name}.png")
    for name in changed & written:
        write(folder / f"{name}.png", "changed, and longer")
    foreign = {f"{name}.png" for name in (before - written) | (changed & written)}
    wanted = [f"{name}.png" for name in planned]
    if foreign & set(wanted):
        with pytest.raises(UserError, match="exists and was"):
            check_outputs(folder, wanted)
    else:
        check_outputs(folder, wanted)
