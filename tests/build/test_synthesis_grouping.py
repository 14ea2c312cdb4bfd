"""Groups of images: every image at most once, the same by seed, and Algorithm 1 as published."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from migician.boxes import Box
from migician.build.synthesis.grouping import Group, clip_groups, common_groups, random_groups
from migician.errors import UserError
from migician.sources.scenes import Instance, Scene, Tally


def scenes(*labels: str) -> list[Scene]:
    """A scene for each string, with a thing for each letter."""
    whole = Box(0, 0, 1, 1)
    made = [tuple(Instance(whole, letter) for letter in letters) for letters in labels]
    return [Scene(str(place), Path(f"{place}.jpg"), (9, 9), instances) for place, instances in enumerate(made)]


def unit(count: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def whole(groups: list[Group], tally: Tally, count: int) -> None:
    """No image twice, and those without a group are counted."""
    members = [member for group in groups for member in group]
    assert len(members) == len(set(members))
    assert len(members) + sum(tally.counts.values()) == count
    assert set(members) <= set(range(count))


class TestRandomAndCommon:
    @given(st.integers(0, 60), st.integers(0, 5))
    def test_random(self, count: int, seed: int) -> None:
        tally = Tally()
        groups = list(random_groups(count, seed, tally))
        whole(groups, tally, count)
        assert all(3 <= len(group) <= 5 for group in groups)
        assert sum(tally.counts.values()) < 3
        assert groups == list(random_groups(count, seed, Tally()))

    @given(st.lists(st.text("abcdef", min_size=1, max_size=4), max_size=40), st.integers(0, 5))
    def test_common(self, labels: list[str], seed: int) -> None:
        made = scenes(*labels)
        tally = Tally()
        groups = list(common_groups(made, seed, tally))
        whole(groups, tally, len(labels))
        for group in groups:
            assert 3 <= len(group) <= 5
            assert set.intersection(*({instance.label for instance in made[member].instances} for member in group))
        left = set(range(len(labels))) - {member for group in groups for member in group}
        for letter in "abcdef":
            assert sum(letter in labels[place] for place in left) < 3
        assert groups == list(common_groups(made, seed, Tally()))

    def test_a_few_are_found_without_grouping_all(self) -> None:
        assert len(list(itertools.islice(random_groups(10**6, 1, Tally()), 3))) == 3


class TestClip:
    @settings(deadline=None)
    @given(st.integers(0, 50), st.integers(1, 20), st.integers(0, 5))
    def test_every_image_at_most_once(self, count: int, width: int, seed: int) -> None:
        vectors = unit(count, width, seed)
        vectors[::7] = np.nan
        tally = Tally()
        groups = list(clip_groups(vectors, seed, tally))
        whole(groups, tally, count)
        assert all(4 <= len(group) <= 6 for group in groups)
        assert tally.counts.get("image left without a group", 0) < 4
        assert groups == list(clip_groups(vectors, seed, Tally()))
        assert not {member for group in groups for member in group} & set(range(0, count, 7))

    def test_members_are_among_the_best_of_what_remained(self) -> None:
        """The whole matrix as an oracle, images leaving it group by group."""
        vectors = unit(400, 16)
        similar = vectors.astype(np.float64) @ vectors.T
        remaining = set(range(400))
        ranks = []
        for first, *others in clip_groups(vectors, 3, Tally()):
            order = sorted(remaining - {first}, key=lambda other: -similar[first, other])
            place = {other: rank for rank, other in enumerate(order)}
            ranks.append(max(place[other] for other in others) / len(order))
            remaining -= {first, *others}
        # The highest of r draws from the best t of all, t from U(0.1, 1), r from 3..5: on average
        # 0.55 * E[r / (r + 1)] = 0.55 * 0.794.
        assert np.mean(ranks) == pytest.approx(0.437, abs=0.06)
        assert min(ranks) < 0.15

    def test_like_goes_to_like(self) -> None:
        """Of images of two kinds, a group that takes few candidates has one kind only."""
        kinds = np.repeat(np.eye(2, 64, dtype=np.float32), 100, axis=0)
        noisy = kinds + 0.05 * unit(200, 64)
        vectors = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
        groups = list(itertools.islice(clip_groups(vectors.astype(np.float32), 0, Tally()), 10))
        pure = sum(len({member // 100 for member in group}) == 1 for group in groups)
        by_chance = [len({int(member) // 100 for member in group}) == 1 for group in random_groups(200, 0, Tally())]
        assert pure > 10 * np.mean(by_chance) + 1

    def test_noise_of_the_last_bits_does_not_matter(self) -> None:
        """Other machines sum in another order; the groups must not follow."""
        vectors = np.rint(unit(300, 64) * 2000).astype(np.float32) / 2000
        shaken = vectors * (1 + np.random.default_rng(0).uniform(-1e-6, 1e-6, vectors.shape)).astype(np.float32)
        assert list(clip_groups(vectors, 0, Tally())) == list(clip_groups(shaken, 0, Tally()))


class TestVectors:
    @pytest.fixture(scope="class")
    def model(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        torch = pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
        from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

        torch.manual_seed(0)
        small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = CLIPConfig(
            text_config={**small, "vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
            vision_config={**small, "image_size": 32, "patch_size": 8},
            projection_dim=12,
        )
        folder = tmp_path_factory.mktemp("clip")
        CLIPModel(config).save_pretrained(folder)
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
        return folder

    def images(self, folder: Path, count: int) -> list[Path]:
        rng = np.random.default_rng(0)
        files = [folder / f"{number}.png" for number in range(count)]
        for file in files:
            Image.fromarray(rng.integers(0, 255, (40, 50, 3)).astype(np.uint8)).save(file)
        return files

    def test_rows_are_unit_cached_and_nan_where_unreadable(
        self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from migician.build.synthesis import similarity

        monkeypatch.setattr(similarity, "_SHARD", 20)
        files = self.images(tmp_path, 45)
        files[3].write_bytes(b"cut")
        vectors = similarity.clip_vectors(files, str(model), tmp_path / "cache")
        assert (vectors.shape, vectors.dtype) == ((45, 12), np.float32)
        assert np.flatnonzero(np.isnan(vectors).any(axis=1)).tolist() == [3]
        assert np.nanmax(abs(np.linalg.norm(vectors, axis=1) - 1)) < 1e-5
        alone = similarity.clip_vectors(files[44:], str(model), tmp_path / "other")
        assert np.allclose(alone[0], vectors[44], atol=1e-5)

        loads = []
        monkeypatch.setattr(similarity._Encoder, "_load", lambda self: loads.append(1))
        again = similarity.clip_vectors(files, str(model), tmp_path / "cache")
        assert np.array_equal(vectors, again, equal_nan=True)
        assert not loads

    def test_a_damaged_or_stale_file_is_made_again(self, model: Path, tmp_path: Path) -> None:
        from migician.build.synthesis.similarity import clip_vectors

        files = self.images(tmp_path, 3)
        first = clip_vectors(files, str(model), tmp_path / "cache")
        (kept,) = (tmp_path / "cache").iterdir()
        kept.write_bytes(kept.read_bytes()[:-9])
        assert np.array_equal(first, clip_vectors(files, str(model), tmp_path / "cache"))
        Image.new("RGB", (8, 8)).save(files[0])
        assert not np.allclose(first[0], clip_vectors(files, str(model), tmp_path / "cache")[0])

    def test_a_folder_of_unreadable_images(self, model: Path, tmp_path: Path) -> None:
        from migician.build.synthesis.similarity import clip_vectors

        files = [tmp_path / "a.png", tmp_path / "b.png"]
        tally = Tally()
        vectors = clip_vectors(files, str(model), tmp_path / "cache")
        assert list(clip_groups(vectors, 0, tally)) == []
        assert tally.counts == {"image that cannot be read": 2}

    def test_no_such_model(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("transformers", reason="models extra not installed: bash scripts/setup.sh")
        from migician.build.synthesis.similarity import clip_vectors

        (tmp_path / "empty").mkdir()
        files = self.images(tmp_path, 1)
        with pytest.raises(UserError, match="--clip-model"):
            clip_vectors(files, str(tmp_path / "empty"), tmp_path / "cache")
