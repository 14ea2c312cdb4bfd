"""Zips in several volumes: written by the format here, and by `zip -s` where it is installed."""

import random
import shutil
import subprocess
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_zip import write_split

from migician.errors import UserError
from migician.hub.archives import unpack
from migician.hub.volumes import open_zip


def noise(seed, size):
    return random.Random(seed).randbytes(size)


MEMBERS = {"d/small.jpg": noise(1, 300), "d/long.jpg": noise(2, 5000), "empty.txt": b"", "d/last.jpg": noise(3, 700)}


def contents(file):
    with open_zip(file) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


@pytest.mark.parametrize("zip64", [False, True])
def test_members_that_cross_volumes_come_out_whole(tmp_path, zip64):
    written = write_split(MEMBERS, 900, zip64)
    assert len(written.volumes) > 6  # "long" alone fills five
    file = written.save(tmp_path)
    with pytest.raises((zipfile.BadZipFile, KeyError)), zipfile.ZipFile(file) as alone:  # Python by itself
        alone.read("d/small.jpg")
    assert contents(file) == MEMBERS


def test_a_comment_and_a_directory_that_crosses_volumes(tmp_path):
    members = {f"m{i:03d}.jpg": noise(i, 20) for i in range(40)}
    written = write_split(members, 500, comment=b"made by PK\5\6 hand")
    assert b"PK\1\2" in written.volumes[-1] and b"PK\1\2" in written.volumes[-2]
    assert contents(written.save(tmp_path)) == members


def test_a_zip_in_one_volume_is_opened_as_ever(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    assert contents(tmp_path / "a.zip") == {"a.txt": b"hello"}


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=12),
    length=st.integers(200, 4000),
    zip64=st.booleans(),
)
def test_any_sizes_and_any_volume_length(tmp_path_factory, sizes, length, zip64):
    members = {f"f/{i}.bin": noise(i, size) for i, size in enumerate(sizes)}
    file = write_split(members, length, zip64).save(tmp_path_factory.mktemp("split"))
    assert contents(file) == members


def test_offsets_beyond_four_gigabytes(tmp_path):
    # Each volume is small enough for 32 bits; together they are not. Holes cost no disk.
    written = write_split(MEMBERS, 900)
    file = written.save(tmp_path)
    first = tmp_path / "a.z01"
    with first.open("r+b") as stream:
        stream.truncate(5 << 30)  # the member that crosses from here is lost, those after it are not
    with pytest.raises(UserError, match=r"d/long.jpg"):
        unpack(file, tmp_path / "out")
    assert (tmp_path / "out/d/small.jpg").read_bytes() == MEMBERS["d/small.jpg"]
    with open_zip(file) as archive:
        assert archive.getinfo("d/last.jpg").header_offset > 5 << 30
        assert archive.read("d/last.jpg") == MEMBERS["d/last.jpg"]


def zip_s(folder, *options):
    if not shutil.which("zip"):
        pytest.skip("Info-ZIP's zip is not installed")
    (folder / "src").mkdir()
    made = {f"src/{i:02d}.jpg": noise(i, 9000 + 700 * i) for i in range(20)}
    for name, content in made.items():
        (folder / name).write_bytes(content)
    subprocess.run(["zip", "-q", "-D", "-r", "-s", "64k", *options, "a.zip", "src"], cwd=folder, check=True)
    return folder / "a.zip", made


@pytest.mark.parametrize("options", [(), ("-fz",)], ids=["plain", "zip64"])
def test_what_info_zip_writes(tmp_path, options):
    file, made = zip_s(tmp_path, *options)
    assert len(list(tmp_path.glob("a.z*"))) > 4
    assert contents(file) == made


def damage(written, fault):
    if fault == "cut":
        written.volumes[2] = written.volumes[2][:-100]
    elif fault == "swapped":
        written.volumes[0], written.volumes[2] = written.volumes[2], written.volumes[0]
    elif fault == "another's":
        written.volumes[0] = noise(9, len(written.volumes[0]))
    elif fault == "no end":
        written.volumes[-1] = written.volumes[-1][:-5]
    elif fault == "no directory":
        written.volumes[-1] = written.volumes[-1].replace(b"PK\1\2", b"PK\1\3")


@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("cut", r"is cut"),
        ("swapped", r"z0\d is cut, in another's place"),
        ("another's", r"a\.z01 is cut, in another's place, or of another"),
        ("no end", "no zip, or cut short"),
        ("no directory", "Bad magic number for central directory"),
    ],
)
def test_a_wrong_volume_is_named_before_anything_is_unpacked(tmp_path, fault, says, zip64):
    written = write_split(MEMBERS, 900, zip64)
    damage(written, fault)
    with pytest.raises(UserError, match=says) as caught:
        unpack(written.save(tmp_path), tmp_path / "out")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_a_volume_cut_before_a_member_begins(tmp_path):
    written = write_split({f"{i}.jpg": noise(i, 50) for i in range(40)}, 900)
    written.volumes[1] = written.volumes[1][:400]
    with pytest.raises(UserError, match=r"a\.z02 is cut: member '\d+\.jpg' begins after its end"):
        unpack(written.save(tmp_path), tmp_path / "out")


@pytest.mark.parametrize("zip64", [False, True])
def test_a_missing_volume_is_named(tmp_path, zip64):
    file = write_split(MEMBERS, 900, zip64).save(tmp_path)
    (tmp_path / "a.z03").unlink()
    with pytest.raises(UserError, match=r"a\.zip: it is the last of \d volumes, and a\.z03 is not beside it"):
        unpack(file, tmp_path / "out")


def test_damaged_data_is_found_and_leaves_no_file(tmp_path):
    written = write_split(MEMBERS, 900)
    volume = bytearray(written.volumes[3])
    volume[450] ^= 1  # within "long", far from any header
    written.volumes[3] = bytes(volume)
    with pytest.raises(UserError, match=r"a\.zip: member 'd/long\.jpg' is damaged"):
        unpack(written.save(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out/d/long.jpg").exists()
    assert not list((tmp_path / "out").glob("**/*.part"))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_damage_is_a_clear_error_or_harmless(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    written = write_split(MEMBERS, 900, data.draw(st.booleans()))
    number = data.draw(st.integers(0, len(written.volumes) - 1))
    volume = bytearray(written.volumes[number])
    place = data.draw(st.integers(0, len(volume) - 1))
    volume[place] ^= data.draw(st.integers(1, 255))
    written.volumes[number] = bytes(volume)
    try:
        unpack(written.save(folder), folder / "out")
    except UserError:
        return
    # A name or a date may have changed; what was unpacked is some member's true content.
    for file in (folder / "out").glob("**/*"):
        assert file.is_dir() or file.read_bytes() in MEMBERS.values()
