"""Unpacking archives made to do harm, and unpacking that was stopped."""

import os
import shutil
import stat
import struct
import zipfile
from collections import namedtuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migician.errors import UserError
from migician.hub import archives
from migician.hub.archives import check_name, missing_bytes, unpack


def archive(file, members, modes=None):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members if isinstance(members, list) else members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(info, content)
    return file


def tree(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/etc/a.jpg", "is absolute"),
        ("../a.jpg", "leads out"),
        ("d/../../a.jpg", "leads out"),
        ("d/..", "leads out"),
        ("C:/a.jpg", "drive letter"),
        ("c:a.jpg", "drive letter"),
        ("..\\a.jpg", "backslash"),
        ("d\\a.jpg", "backslash"),
        ("d//a.jpg", "empty part"),
        ("./a.jpg", "empty part"),
        ("d/a\x1b[2J.jpg", "control character"),
    ],
)
def test_a_member_that_would_leave_the_target_is_refused(tmp_path, name, says):
    file = archive(tmp_path / "a.zip", {"good.jpg": b"good", name: b"bad"})
    with pytest.raises(UserError, match=rf"a\.zip: member .*{says}"):
        unpack(file, tmp_path / "deep" / "out")
    assert tree(tmp_path) == {"a.zip"}


def test_the_name_after_a_zero_byte_counts_too(tmp_path):
    # zipfile itself shows only what stands before the zero byte.
    file = archive(tmp_path / "a.zip", {"good.jpgX..": b"bad"})
    file.write_bytes(file.read_bytes().replace(b"good.jpgX..", b"good.jpg\0.."))
    with pytest.raises(UserError, match="control character"):
        unpack(file, tmp_path / "out")


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (stat.S_IFLNK | 0o777, "is a link"),
        (stat.S_IFIFO | 0o644, "is neither a file nor a folder"),
        (stat.S_IFCHR | 0o644, "is neither a file nor a folder"),
        (stat.S_IFBLK | 0o644, "is neither a file nor a folder"),
        (stat.S_IFSOCK | 0o644, "is neither a file nor a folder"),
    ],
)
def test_links_and_devices_are_refused(tmp_path, mode, says):
    file = archive(tmp_path / "a.zip", {"good.jpg": b"good", "d": b"/etc"}, {"d": mode})
    with pytest.raises(UserError, match=f"member 'd' {says}"):
        unpack(file, tmp_path / "out")
    assert tree(tmp_path) == {"a.zip"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([("d/A.jpg", b"1"), ("d/a.jpg", b"2")], "'d/A.jpg' and 'd/a.jpg' would be one file"),
        ([("a.jpg", b"1"), ("a.jpg", b"1")], "would be one file"),
        ([("caf\u00e9.jpg", b"1"), ("cafe\u0301.jpg", b"2")], "would be one file"),
        ([("home/x/a.jpg", b"1"), ("a.jpg", b"2")], "'home/x/a.jpg' and 'a.jpg' would be one file"),
        ([("d", b"1"), ("d/a.jpg", b"2")], "'d' is also the folder of another"),
        ([("D/x/a.jpg", b"1"), ("d/X", b"2")], "'d/X' is also the folder of another"),
    ],
)
def test_two_members_at_one_place_are_refused(tmp_path, members, says):
    file = archive(tmp_path / "a.zip", members)
    with pytest.raises(UserError, match=says):
        unpack(file, tmp_path / "out", strip=["home/x/"])
    assert tree(tmp_path) == {"a.zip"}


def test_members_that_share_bytes_are_refused(tmp_path):
    # The directory is given a second entry for the same data: how a small file becomes a large one.
    file = archive(tmp_path / "a.zip", {"a.jpg": bytes(10_000)})
    content = file.read_bytes()
    begin, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    entry = content[begin:end]
    twice = entry + entry.replace(b"a.jpg", b"b.jpg")
    file.write_bytes(content[:begin] + twice + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(twice), begin, 0))
    with pytest.raises(UserError, match="overlaps"):
        unpack(file, tmp_path / "out")


@pytest.mark.parametrize("said", [10, 100_000])
def test_a_member_that_lies_about_its_size_is_refused(tmp_path, said):
    file = archive(tmp_path / "a.zip", {"a.jpg": bytes(50_000)})
    content = bytearray(file.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\1\2") + 24, said)
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.zip: member 'a\.jpg'"):
        unpack(file, tmp_path / "out")
    assert tree(tmp_path / "out") == set()


def test_an_encrypted_member_is_refused(tmp_path):
    file = archive(tmp_path / "a.zip", {"a.jpg": b"secret"})
    content = bytearray(file.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="is encrypted"):
        unpack(file, tmp_path / "out")


@given(st.text(alphabet="ab./\\:\0\n", max_size=12))
def test_a_name_that_passes_stays_below_its_folder(name):
    if check_name(name) is None:
        assert os.path.normpath(f"/t/{name}").startswith("/t/")
        assert not set(name) & set("\\\0\n")


NAMES = {
    "P/root/F/a.jpg": b"a" * 10,
    "P/root/F/s/b.jpg": b"b" * 5000,
    "__MACOSX/P/._a": b"x",
    "P/root/F/.DS_Store": b"x",
}


def test_the_stray_prefix_goes_and_leftovers_stay_out(tmp_path):
    file = archive(tmp_path / "F.zip", NAMES)
    assert unpack(file, tmp_path / "out", strip=["P/root/"], below="F").written == 2
    assert tree(tmp_path / "out") == {"F/a.jpg", "F/s/b.jpg"}


def test_members_without_a_folder_of_their_own_get_one(tmp_path):
    file = archive(tmp_path / "2D-spatial.zip", {"x/a.jpg": b"a"})
    unpack(file, tmp_path / "out", below="2D-spatial")
    assert tree(tmp_path / "out") == {"2D-spatial/x/a.jpg"}


def test_a_second_run_writes_only_what_is_missing(tmp_path):
    file = archive(tmp_path / "F.zip", NAMES)
    assert missing_bytes(file, tmp_path / "out", strip=["P/root/"], below="F") == 4096 + 8192
    unpack(file, tmp_path / "out", strip=["P/root/"])
    kept = tmp_path / "out/F/a.jpg"
    before = kept.stat()
    (tmp_path / "out/F/s/b.jpg").unlink()
    assert missing_bytes(file, tmp_path / "out", strip=["P/root/"]) == 8192
    done = []
    unpacked = unpack(file, tmp_path / "out", strip=["P/root/"], report=lambda *told: done.append(told))
    assert (unpacked.written, unpacked.there, done) == (1, 1, [(5000, 5000)])
    assert kept.stat().st_mtime_ns == before.st_mtime_ns and kept.stat().st_ino == before.st_ino
    assert (tmp_path / "out/F/s/b.jpg").read_bytes() == b"b" * 5000


@pytest.mark.parametrize("content", [b"", b"c" * 10, b"a" * 11])
def test_a_file_of_someone_else_is_left_alone(tmp_path, content):
    file = archive(tmp_path / "F.zip", NAMES)
    mine = tmp_path / "out/F/a.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.jpg: is there, and is not member"):
        unpack(file, tmp_path / "out", strip=["P/root/"])
    assert mine.read_bytes() == content and tree(tmp_path / "out") == {"F/a.jpg"}


@pytest.mark.parametrize("dangling", [True, False])
def test_nothing_is_written_through_a_link(tmp_path, dangling):
    file = archive(tmp_path / "F.zip", NAMES)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/F").mkdir(parents=True)
    if dangling:
        (tmp_path / "out/F/a.jpg").symlink_to(tmp_path / "elsewhere/a.jpg")
    else:
        (tmp_path / "out/F/s").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"is there, and is not|is a link"):
        unpack(file, tmp_path / "out", strip=["P/root/"])
    assert not list((tmp_path / "elsewhere").iterdir())


def test_room_is_checked_before_the_first_byte(tmp_path, monkeypatch):
    file = archive(tmp_path / "bomb.zip", {f"{i}.bin": bytes(1_000_000) for i in range(40)})
    assert file.stat().st_size < 100_000
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 30_000_000))
    with pytest.raises(
        UserError, match=r"unpacking bomb\.zip needs 40\.1 MB and 30\.0 MB are free: 10\.1 MB are missing"
    ):
        unpack(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_leaves_no_half_file(tmp_path, monkeypatch):
    file = archive(tmp_path / "F.zip", NAMES)
    chunks = archives._content

    def full(*args):
        yield from chunks(*args)
        if args[1].filename.endswith("b.jpg"):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "_content", full)
    with pytest.raises(UserError, match=r"b\.jpg: cannot be written: No space left"):
        unpack(file, tmp_path / "out", strip=["P/root/"])
    assert tree(tmp_path / "out") == {"F/a.jpg"}
