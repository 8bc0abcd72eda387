"""Files that one launch at a time writes: a second one is refused, a dead one hinders none."""

import errno
import subprocess
import sys
from contextlib import contextmanager

import pytest

import guidance_core as gc
from guidance_core import locked
from guidance_core.distributed import Process
from guidance_core.locked import held

HOLD = """
import sys
stream = open(sys.argv[1], "ab")
if sys.platform == "win32":
    import msvcrt
    msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl
    fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def another(lock):
    """A process that holds a lock until it is killed."""
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield
        process.kill()


def test_who_comes_second_is_refused_until_the_first_has_died(tmp_path):
    file, other = tmp_path / "a.safetensors", tmp_path / "a.csv"
    with another(tmp_path / ".a.csv.lock"):
        with pytest.raises(gc.GuidanceError, match=r"Another launch is at work on '.*a.csv': wait until it ends"):
            held([file, other], Process()).__enter__()
        assert not (tmp_path / ".a.safetensors.lock").exists()
    with held([file, other], Process()) as note:
        assert note == ""
        assert sorted(each.name for each in tmp_path.iterdir()) == [".a.csv.lock", ".a.safetensors.lock"]
    assert not list(tmp_path.iterdir())


def test_a_lock_that_its_owner_deletes_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    take, times = locked._take, []

    def delete_then_take(stream):
        if not times:
            (tmp_path / ".a.lock").unlink()
        times.append(stream)
        take(stream)

    monkeypatch.setattr(locked, "_take", delete_then_take)
    if sys.platform == "win32":
        pytest.skip("nobody deletes an open file there")
    with held([tmp_path / "a"], Process()):
        assert len(times) == 2 and (tmp_path / ".a.lock").exists()


def test_a_disk_without_locks_is_told_and_one_that_cannot_be_written_refused(tmp_path, monkeypatch):
    with pytest.raises(gc.GuidanceError, match="could not be written: No such file or directory"):
        held([tmp_path / "none" / "a"], Process()).__enter__()

    def no_locks(stream):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locked, "_take", no_locks)
    with held([tmp_path / "a"], Process()) as note:
        assert "knows no locks (No locks available): see to it that no two launches share it" in note
