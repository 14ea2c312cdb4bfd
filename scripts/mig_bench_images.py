"""Write migician/benchmarks/contamination/mig_bench_images.json: by what the builders know the images of MIG-Bench.

python scripts/mig_bench_images.py MIG_data.json revised_MIG_bench.json

The list holds eight bytes for what the name of an image comes to (see contamination/image_keys.py), and the sha256 of
the files it was made from. It is 37 KB where the files are 5.4 MB, has none of their text, and asking it costs
the same however many files went in.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import msgspec

from migician.benchmarks.contamination.image_keys import benchmark_keys, digest
from migician.benchmarks.contamination.leakage import Listed, NameList, names_in
from migician.errors import writing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="MIG-Bench's JSON files, original and revised")
    parser.add_argument("--out", type=Path, default=Path("migician/benchmarks/contamination/mig_bench_images.json"))
    options = parser.parse_args()
    files, digests = {}, set()
    for file in options.files:
        content, names = names_in(file)
        files[file.name] = Listed(hashlib.sha256(content).hexdigest(), len(set(names)))
        digests.update(digest(key) for name in names for key in benchmark_keys(name))
    made = NameList(files, b"".join(sorted(digests)))
    with writing(options.out) as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
    print(f"{options.out}: {len(digests):,} keys")


if __name__ == "__main__":
    main()
