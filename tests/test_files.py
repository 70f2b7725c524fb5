"""Atomic writes, locks of folders, leftovers of killed processes, and errors that name the file."""

import contextlib
import os
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from zoo import files

# Loads the module without the package, and thus without TensorFlow.
LOAD = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("files", {files.__file__!r})
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
"""


@contextlib.contextmanager
def running(code, *arguments):
    """Another process, which has printed a line; it is killed at the end."""
    command = [sys.executable, "-c", LOAD + code, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as process:
        try:
            assert process.stdout.readline()
            yield
        finally:
            process.kill()


def test_a_second_lock_of_a_folder_is_refused_and_writes_nothing(tmp_path):
    folder = tmp_path / "run"
    with files.lock(folder):
        (folder / "a.txt").write_text("a")
        before = sorted(folder.iterdir())
        with (
            pytest.raises(
                BlockingIOError, match=r"Another process is working on the table in '.*run'"
            ),
            files.lock(folder, "table"),
        ):
            pass
        assert sorted(folder.iterdir()) == before
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
    with files.lock(folder):
        pass


def test_a_new_folder_that_stays_empty_is_removed_with_its_lock(tmp_path):
    with pytest.raises(KeyError), files.lock(tmp_path / "deep" / "run"):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_ends_with_it(tmp_path):
    code = "with files.lock(sys.argv[1]):\n  print('locked', flush=True)\n  sys.stdin.read()"
    with running(code, tmp_path), pytest.raises(BlockingIOError), files.lock(tmp_path):
        pass
    assert (tmp_path / files.LOCK).exists()
    with files.lock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_gives_a_warning(tmp_path, monkeypatch):
    def unsupported(*args):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(files.fcntl, "flock", unsupported)
    with pytest.warns(UserWarning, match="has no locks"), files.lock(tmp_path):
        pass


def test_a_temporary_file_has_the_suffix_and_the_folder_of_its_file(tmp_path):
    with files.replacing(tmp_path / "model.keras") as partial:
        assert partial.suffix == ".keras" and partial.parent == tmp_path
        assert partial.name != "model.keras"
        partial.touch()


def test_only_the_temporary_files_of_ended_processes_are_removed(tmp_path):
    code = (
        "manager = files.replacing(sys.argv[1])\n"
        "manager.__enter__().write_text('a')\nprint('written', flush=True)\nsys.stdin.read()"
    )
    for name in ("mine.partial.txt", ".mine.partial"):
        (tmp_path / name).write_text("mine")
        os.utime(tmp_path / name, (0, 0))
    old = tmp_path / ".x.elsewhere.1.0123abcd.partial.png"
    new = tmp_path / ".y.elsewhere.1.0123abcd.partial.png"
    for path in (old, new):
        path.write_text("")
    os.utime(old, (0, 0))
    with running(code, tmp_path / "model.keras"):
        files.remove_leftovers(tmp_path, tmp_path / "none")
        assert len(list(tmp_path.glob(".model.*.partial.keras"))) == 1
    with files.replacing(tmp_path / "model.keras") as own:
        own.write_text("b")
        files.remove_leftovers(tmp_path)
        assert own.exists()
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.keras",
        "mine.partial.txt",
        ".mine.partial",
        new.name,
    }


def test_a_temporary_file_of_another_machine_stays_for_a_day(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = tmp_path / f".x.elsewhere.{ended.pid}.0123abcd.partial.png"
    left.touch()
    files.remove_leftovers(tmp_path)
    assert left.exists()
    os.utime(left, (0, 0))
    files.remove_leftovers(tmp_path)
    assert not left.exists()


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "served"
    for text in ("a", "b"):
        with files.replacing_folder(path) as partial:
            partial.mkdir()
            (partial / "a.txt").write_text(text)
        assert (path / "a.txt").read_text() == text
    with pytest.raises(KeyError), files.replacing_folder(path) as partial:
        partial.mkdir()
        raise KeyError
    assert [p.name for p in path.iterdir()] == ["a.txt"]
    assert [p.name for p in path.parent.iterdir()] == ["served"]
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]


def test_only_own_folders_of_killed_processes_are_removed(tmp_path):
    code = (
        "manager = files.replacing_folder(sys.argv[1])\n"
        "partial = manager.__enter__()\npartial.mkdir()\n(partial / 'a').touch()\n"
        "print('written', flush=True)\nsys.stdin.read()"
    )
    names = (
        ".served",
        ".served.partial",
        ".served.abc.partial",
        ".served.elsewhere.1.0123abcd.partial",
    )
    for name in names:
        (tmp_path / name).mkdir()
    with running(code, tmp_path / "served"), files.replacing_folder(tmp_path / "served") as partial:
        partial.mkdir()
        assert len(list(tmp_path.glob(".served.*.partial/new/a"))) == 1
    with running(code, tmp_path / "other"):
        pass
    for name in ("served", "other"):
        left = len(list(tmp_path.glob(f".{name}.*.partial/new/a")))
        assert left == 1
        with files.replacing_folder(tmp_path / name) as partial:
            partial.mkdir()
    assert {path.name for path in tmp_path.iterdir()} == {"served", "other", *names}


def test_a_folder_that_a_killed_process_moved_away_is_put_back(tmp_path):
    code = (
        "with files.replacing_folder(sys.argv[1]) as partial:\n"
        "  partial.mkdir()\n"
        "  files.os.rename = lambda a, b, move=files.os.rename: (\n"
        "    move(a, b), print('moved', flush=True), sys.stdin.read())"
    )
    path = tmp_path / "served"
    path.mkdir()
    (path / "a.txt").write_text("old")
    with running(code, path):
        assert not path.exists()
    with pytest.raises(KeyError), files.replacing_folder(path):
        raise KeyError
    assert (path / "a.txt").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_to_a_full_disk_names_the_file_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*/a.txt'"),
        files.replacing(path) as partial,
    ):
        os.symlink("/dev/full", partial)
        partial.write_text("new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@contextlib.contextmanager
def largest_file(size):
    """A context in which a write beyond `size` bytes of a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_error_of_tensorflow_about_a_temporary_file_names_the_file(tmp_path):
    path = tmp_path / "served"
    with (
        largest_file(1000),
        pytest.raises(OSError, match=r"File too large: '.*/served'"),
        files.replacing_folder(path) as partial,
    ):
        tf.io.write_file(str(partial / "a.txt"), "a" * 2000)
    assert list(tmp_path.iterdir()) == []


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as error, files.replacing(tmp_path / "a.txt"):
        (tmp_path / "other").read_text()
    assert error.value.filename == str(tmp_path / "other")
    with pytest.raises(FileExistsError, match="a sentence"), files.naming("a"):
        raise FileExistsError("a sentence")


def test_a_lost_folder_names_the_file(tmp_path):
    path = tmp_path / "lost" / "a.txt"
    with pytest.raises(FileNotFoundError) as error, files.replacing(path):
        path.parent.rmdir()
    assert error.value.filename == str(path) and error.value.filename2 is None


def test_errors_of_tensorflow_about_files_are_recognised():
    full = tf.errors.ResourceExhaustedError(None, None, "/runs/a/ckpt-1; No space left on device")
    assert files.os_error(full).filename == "/runs/a/ckpt-1"
    with pytest.raises(tf.errors.OpError) as lost:
        tf.io.read_file("/none/a.txt")
    assert files.os_error(lost.value).filename == "/none/a.txt"
    assert (
        files.os_error(tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")) is None
    )
    assert files.os_error(tf.errors.InvalidArgumentError(None, None, "Incompatible shapes")) is None


@pytest.mark.parametrize("path", ["/proc/none/a.txt", "/dev/null/a.txt"])
def test_a_place_without_write_access_is_refused(path):
    with pytest.raises(OSError, match=path):
        files.check_writable(path)


def test_a_full_disk_is_no_writable_place(tmp_path):
    with largest_file(0), pytest.raises(OSError, match=f"File too large: '{tmp_path}/a.txt'"):
        files.check_writable(tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


def test_the_check_of_a_place_leaves_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    for path in (tmp_path, tmp_path / "a.txt", tmp_path / "new" / "b.txt"):
        files.check_writable(path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "a"


@pytest.mark.parametrize("content", ["", "{", "\xff", "[" * 100_000])
def test_the_error_of_a_file_that_is_not_json_names_it(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"results.json' is not a file in JSON"):
        files.read_json(path)


@pytest.mark.parametrize(
    ("content", "received"),
    [("[1]", r"\[1\]"), ("{}", "none"), ('{"epochs": "2"}', "'2'"), ('{"epochs": true}', "True")],
)
def test_the_error_of_json_of_another_shape_names_the_file_and_the_field(
    tmp_path, content, received
):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"'epochs'.* in '.*results.json'. Received: {received}"):
        files.read_json(path, {"epochs": int})


def test_an_archive_that_is_far_larger_than_its_file_is_refused(tmp_path):
    path = tmp_path / "large.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arr_0.npy", bytes(20_000_000))
    with pytest.raises(ValueError, match=r"at most 100 times.*with 20,000,000 bytes"):
        files.check_archive(path)
    np.savez(path, np.zeros(3_000_000))  # Not compressed.
    files.check_archive(path)
