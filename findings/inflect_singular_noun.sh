#!/usr/bin/env bash
# inflect 7.6.0: `singular_noun(word)` is documented to give False where the word is a singular already, so it looks like
# the way to ask whether a label is a plural. It is not: common singulars in -s are "plurals" with impossible singulars
# ("bus" -> "bu", "canvas" -> "canva", "platypus" -> "platypu"), and every noun that has one form for both ("sheep") counts
# as a plural. `a("SUV")` gives "a SUV", though "an FBI agent" is right. For labels of detection datasets, an article
# chosen by it is wrong for "bus" (80 classes of COCO) and "SUV" (Objects365). Matters to whoever words questions about labels.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet inflect==7.6.0
"$folder/venv/bin/python" - <<'PY'
import inflect

engine = inflect.engine()
seen = {word: engine.singular_noun(word) for word in ("bus", "lens", "canvas", "platypus", "sheep", "glass", "dog")}
articles = {word: engine.a(word) for word in ("SUV", "FBI agent", "X-ray", "unicorn")}
print("singular_noun:", seen)
print("a:", articles)
expected = {"bus": "bu", "lens": "len", "canvas": "canva", "platypus": "platypu", "sheep": "sheep", "glass": False, "dog": False}
assert seen == expected, "singular_noun has changed"
assert articles == {
    "SUV": "a SUV", "FBI agent": "an FBI agent", "X-ray": "an X-ray", "unicorn": "a unicorn"
}, "a() has changed"
PY
echo "inflect 7.6.0 takes 'bus' for a plural and writes 'a SUV'"
