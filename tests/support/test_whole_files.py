"""Files and folders are written whole or not at all, and read without running what they hold."""

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from pyro_mgvi.support.files import whole_files
from pyro_mgvi.support.files.whole_files import read_tensors, written_whole


def write(path, text, folder):
    with written_whole(path) as part:
        if folder:
            part.mkdir()
            (part / "inner").write_text(text)
        else:
            part.write_text(text)


def text(path):
    return (path / "inner").read_text() if path.is_dir() else path.read_text()


@pytest.mark.parametrize("folder", [False, True])
def test_the_new_takes_the_place_of_the_old(tmp_path, folder):
    path = tmp_path / "it"
    for content in ("one", "two"):
        write(path, content, folder)
        assert text(path) == content and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_the_old_stays_if_the_new_cannot_take_its_place(tmp_path, folder, error, monkeypatch):
    path = tmp_path / "it"
    write(path, "one", folder)

    def refuse(*args):
        raise error

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(error):
        write(path, "two", folder)
    assert text(path) == "one" and list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    write(tmp_path / "link", "one", False)
    write(tmp_path / "link", "two", False)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "far" / "file").read_text() == "two"


@pytest.mark.slow
def test_a_killed_process_leaves_the_old(tmp_path):
    path = tmp_path / "it"
    path.write_text("one")
    code = (
        "import sys, time\n"
        "from pyro_mgvi.support.files.whole_files import written_whole\n"
        "with written_whole(sys.argv[1]) as part:\n"
        "    part.write_text('half')\n"
        "    print('now', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGKILL)
    assert path.read_text() == "one"


def test_tensors_come_back(tmp_path):
    torch.save({"a": torch.arange(3)}, tmp_path / "t.pt")
    assert read_tensors(tmp_path / "t.pt")["a"].tolist() == [0, 1, 2]


def test_files_of_other_kinds_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "t.pt"

    def never(*args, **kwargs):
        raise AssertionError("read")

    torch.save({"a": torch.arange(3)}, path, _use_new_zipfile_serialization=False)
    monkeypatch.setattr(torch, "load", never)
    with pytest.raises(ValueError, match="no zip"):
        read_tensors(path)
    with zipfile.ZipFile(path, "w") as archive:  # what torch.jit.save writes has such a part
        archive.writestr("archive/constants.pkl", b"")
    with pytest.raises(ValueError, match="holds a program"):
        read_tensors(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(10**6))
    assert path.stat().st_size < 10**5
    with pytest.raises(ValueError, match="claims to hold more than it does"):
        read_tensors(path)


def test_the_disk_is_waited_for(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(whole_files, "_to_disk", lambda *paths: seen.append(paths))
    write(tmp_path / "it", "one", True)
    assert [len(paths) for paths in seen] == [2, 1] and seen[1] == (Path(tmp_path),)
