"""What the name of an image says about its source, so that MIG-Bench's images are recognised in any folder.

The names of MIG-Bench give the source of most of its images:

    objects365_v2_00900613.jpg       that photo of Objects365, and every crop of it (..._00900613_2.jpg)
    sa_6136360.jpg                   that photo of SA-1B
    GOT-10k_Val_000001/00000001.jpg  that sequence: its other frames show the same
    static_diff/100081_1_source.png  that session of MagicBrush (MIG-Bench has exactly its dev split), which edits
                                     the COCO photo of that number
    common/bear/2318253.jpg, refer_grounding/case003_285864_raw.jpg   numbers of Visual Genome, by their ranges:
                                     its photos are known in a folder of its own or of GQA, which shares them
    reasoning/case001_2.png, common/Car/car_1.jpg                     any other, by its path below `images/`

Copies have other layouts: frames lie in one folder with the name of their sequence in theirs
(GOT-10k_Val_000001_00000001.jpg), numbers lose their zeros. An image is written as one key or a few, short texts; it
is the benchmark's where both have one in common.
"""

from __future__ import annotations

import functools
import hashlib
import re

# Names that say their source in any folder, on either side.
_ANYWHERE = re.compile(
    r"""
    obj(?:ects)?365_(?P<objects365>v[12]_[0-9]{8})(?![0-9])
    | obj365_(?:train|val|test)_0{4}(?P<first_objects365>[0-9]{8})(?![0-9])   # v1 as it was first released
    | (?<![a-z0-9])sa_(?P<sa1b>[0-9]+)(?![0-9])
    """,
    re.VERBOSE,
)
_SEQUENCE = re.compile(r"(?<![a-z0-9])got-?10k_((?:train|val|test)_[0-9]{6})(?![0-9])")
# From the beginning on. The edit of turn 2 starts from what turn 1 gave, so a session of MagicBrush is one picture.
# Numbers of COCO have six digits at most.
_NUMBERED = re.compile(
    r"""
    (?P<session>[0-9]+)-(?:input|output|mask)[0-9]*(?![a-z0-9])
    | (?P<turn>[0-9]+)_[0-9]_(?:source|target)\Z
    | (?:(?:coco_)?(?:train|val|test|unlabeled)20[0-9][0-9]_)?0{6}(?P<coco>[0-9]{6})(?![0-9])
    """,
    re.VERBOSE,
)
_OF_COCO = {"session", "turn", "coco"}
_VISUAL_GENOME = re.compile(r"(?:case[0-9]{3}_)?([0-9]{6,7})(?:_raw|_refer|_ref)?")
_GENOME_FOLDER = re.compile(r"(?:vg|gqa|visual[_ -]?genome)(?:[_ -].*|100k.*)?")
_GENOME_NUMBER = re.compile(r"((?:vg|gqa|visual_?genome)_(?:100k_(?:2_)?)?)?([0-9]{6,7})(?![0-9])")
_COCO_FOLDER = re.compile(r"(?:train|val|test|unlabeled)20[0-9][0-9]")
_LONG_NUMBER = re.compile(r"[0-9]{5}")
_LETTER = re.compile(r"[a-z]")


def benchmark_keys(name: str) -> list[str]:
    """What any image is recognised by that is the benchmark's image `name`, the most specific first."""
    folder, stem = _split(name)
    origin = _origin(folder, stem)
    if origin:
        return [origin]
    folders = _parts(folder)
    keys = []
    if {"common", "refer_grounding"} & set(folders) and (match := _VISUAL_GENOME.fullmatch(stem)):
        keys.append(f"visual-genome {match[1]}")
    if _is_telling(stem):
        keys.append(f"stem {stem}")
    below = folders[folders.index("images") + 1 :] if "images" in folders else folders
    return [*keys, "path " + "/".join([*below[-2:], stem])]


def keys_of(path: str) -> list[str]:
    """By what the image at `path` may be one of the benchmark's."""
    folder, stem = _split(path)
    origin = _origin(folder, stem)
    if origin:  # the benchmark's image of this name has it too, and no other key
        return [origin]
    near, far, owner = _ends(folder)
    keys = [f"stem {stem}", f"path {near}{stem}", f"path {far}{stem}"]
    if owner == "coco" and stem.isdecimal() and len(stem) <= 6:
        return [f"coco {stem.lstrip('0') or '0'}", *keys]
    genome = _GENOME_NUMBER.match(stem) if owner or stem[:1] in "vg" else None
    if genome and (owner == "visual-genome" or genome[1]):
        return [f"visual-genome {genome[2]}", *keys]
    return keys


def digest(key: str) -> bytes:
    """The eight bytes that stand for a key in the list that comes with this package.

    Among the list's 3,500 keys, one of a million other images is found with probability 1e-9.
    """
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _split(path: str) -> tuple[str, str]:
    """Folders and stem in lower case: copies change the kind of file and the case of names."""
    folder, _, name = path.replace("\\", "/").lower().rpartition("/")
    return folder, name.rpartition(".")[0] or name


def _origin(folder: str, stem: str) -> str:
    """The key of an image whose name, or a folder above it, says its source; empty for any other."""
    # Searching a name for nothing is most of the cost, so what must be in it is looked for first.
    if "10k_" in stem and (sequence := _sequence(stem)):
        return sequence
    match = _ANYWHERE.search(stem) if "365_" in stem or "sa_" in stem else _NUMBERED.match(stem)
    if match is None:
        return _sequence(folder)
    kind = str(match.lastgroup)
    if kind == "first_objects365":
        return f"objects365 v1_{match[kind]}"
    return f"{'coco' if kind in _OF_COCO else kind} {match[kind].lstrip('0') or '0'}"


@functools.lru_cache(maxsize=1 << 14)
def _sequence(text: str) -> str:
    """The key of a sequence of GOT-10k that a folder or the name of a frame names."""
    match = _SEQUENCE.search(text)
    return f"got-10k_{match[1]}" if match else ""


@functools.lru_cache(maxsize=1 << 14)
def _ends(folder: str) -> tuple[str, str, str]:
    """The last folder and the last two, each with its slash, and whose numbers may be below: COCO, Visual Genome."""
    folders = _parts(folder)
    near, far = ("".join(f"{part}/" for part in folders[-depth:]) for depth in (1, 2))
    if any(_GENOME_FOLDER.fullmatch(part) for part in folders[-3:]):
        return near, far, "visual-genome"
    return near, far, "coco" if folders and _COCO_FOLDER.fullmatch(folders[-1]) else ""


def _parts(folder: str) -> list[str]:
    return [part for part in folder.split("/") if part not in ("", ".")]


def _is_telling(stem: str) -> bool:
    """Whether a name says which image it is: letters and a long number, or a date with the time.

    "case008_498281_raw" does; "00000001", "130900" (a time), "images1" and "car_1" do not.
    """
    return bool(_LONG_NUMBER.search(stem)) and (bool(_LETTER.search(stem)) or len(stem) >= 12)
