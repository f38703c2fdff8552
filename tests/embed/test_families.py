"""SigLIP 2, MetaCLIP 2 and AltCLIP give the vectors that transformers' own pipeline gives."""

import json
import shutil
import sys

import numpy as np
import pytest

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.embed import checkpoints, library  # noqa: E402
from tests.embed.library import TEXTS  # noqa: E402
from vecbridge.embed.architecture import Architecture  # noqa: E402
from vecbridge.embed.factory import embedder  # noqa: E402
from vecbridge.embed.values import Values  # noqa: E402
from vecbridge.errors import ConfigError  # noqa: E402


@pytest.fixture(scope="module", params=["siglip_2", "metaclip_2", "altclip"])
def checkpoint(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("families") / request.param
    directory.mkdir()
    return getattr(checkpoints, request.param)(directory)


def test_texts_and_pictures_have_the_vectors_of_the_librarys_own_pipeline(checkpoint):
    model, texts, images = library.vectors(checkpoint)
    given, _ = library.pictures()
    with embedder(checkpoint, device="cpu", dtype="float32", batch_size=2) as made:
        assert np.abs(made.embed_texts(TEXTS) - texts).max() <= 1e-5
        assert np.abs(made.embed_images(given) - images).max() <= 1e-5
        assert made.dim == texts.shape[1]
        assert made.logit_scale == pytest.approx(float(model.logit_scale.exp().detach()), rel=1e-6)
        assert (made.logit_bias is None) == (checkpoint.name != "siglip_2")


def test_its_own_type_is_part_of_the_identity(checkpoint, tmp_path):
    other = shutil.copytree(checkpoint, tmp_path / checkpoint.name)
    with embedder(checkpoint, dtype="float32") as one, embedder(other, dtype="float32") as two:
        assert one.identity == two.identity
    values = json.loads((other / "tokenizer_config.json").read_text())
    (other / "tokenizer_config.json").write_text(json.dumps(values | {"model_max_length": 9}))
    with embedder(other, dtype="float32") as two:
        assert one.identity.tokenizer != two.identity.tokenizer


def test_code_that_a_models_files_name_is_not_run(checkpoint, tmp_path):
    directory = shutil.copytree(checkpoint, tmp_path / "m")
    (directory / "custom.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    values = json.loads((directory / "config.json").read_text())
    values["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModel"), "custom.Model")
    values["architectures"] = ["os.system"]
    (directory / "config.json").write_text(json.dumps(values))
    with embedder(directory, dtype="float32") as made:
        assert type(made._model).__module__.startswith("transformers.models.")
    assert not (tmp_path / "ran").exists()
    assert "custom" not in sys.modules


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "SiglipTokenizer"}, "SentencePiece"),
        ("tokenizer_config.json", {"pad_token": None}, "pad_token is null"),
        ("tokenizer_config.json", {"pad_token": "<none>"}, "no token '<none>'"),
        ("tokenizer_config.json", {"padding_side": "top"}, "padding_side"),
        ("config.json", {"vision_config": {"hidden_size": 64}}, "projection_size"),
        ("config.json", {"model_type": "siglip2"}, "one of clip, metaclip_2, altclip, siglip: siglip2 .*"
                                                   "google/siglip2-base-patch16-224, is read instead"),
        ("config.json", {"model_type": ["siglip"]}, "one of clip"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_run_exactly_is_refused_by_its_key(tmp_path, name, change, words):
    directory = checkpoints.siglip_2(tmp_path)
    values = json.loads((directory / name).read_text())
    for key, value in change.items():
        values[key] = values.get(key, {}) | value if isinstance(value, dict) else value
    (directory / name).write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=words):
        embedder(directory, dtype="float32")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"bos_token_id": 3},
            r"texts with id 0, and the model is read at 3.*text_config\.bos_token_id",
        ),
        ({"max_position_embeddings": 2}, r"max_position_embeddings is 2: it must be above 2"),
        ({"pad_token_id": None}, "pad_token_id is null"),
        ({"num_hidden_layers": 1}, r"text_model.*layers?\.1.*num_hidden_layers"),
        ({"project_dim": 24}, "weights"),
    ],
    ids=str,
)
def test_an_altclip_whose_files_cannot_be_right_is_refused_by_its_key(tmp_path, change, words):
    directory = checkpoints.altclip(tmp_path)
    values = json.loads((directory / "config.json").read_text())
    values["text_config"] |= change
    (directory / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=words):
        embedder(directory, dtype="float32")


def test_a_missing_key_of_altclip_has_the_default_of_transformers():
    found, reference = (
        Architecture.read(Values("config.json", {"model_type": "altclip"})),
        transformers.AltCLIPConfig(),
    )
    assert found.dim == reference.projection_dim
    assert found.longest_text == 512
    for ours, theirs in ((found.text, reference.text_config), (found.vision, reference.vision_config)):
        assert ours == {key: getattr(theirs, key) for key in ours}


def test_places_of_altclip_counted_from_another_padding_are_another_model(tmp_path):
    """Its positions begin after the id of the padding token, so that this id changes every vector."""
    directory = checkpoints.altclip(tmp_path)
    values = json.loads((directory / "config.json").read_text())
    with embedder(directory, device="cpu", dtype="float32") as one:
        values["text_config"] |= {"pad_token_id": 0}
        (directory / "config.json").write_text(json.dumps(values))
        with embedder(directory, device="cpu", dtype="float32") as two:
            assert one.identity.config != two.identity.config
            assert np.abs(one.embed_texts(TEXTS) - two.embed_texts(TEXTS)).max() > 1e-3
