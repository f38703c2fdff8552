"""Where models are found, and what identifies them."""

import json
import shutil

import pytest

from vecbridge.embed.files import locate
from vecbridge.errors import AuthError, ConfigError, UnavailableError

errors = pytest.importorskip("huggingface_hub.errors")


def copy(directory, target):
    return shutil.copytree(directory, target)


def test_a_directory_is_identified_by_its_weights_wherever_it_lies(tiny_clip, tmp_path):
    one, two = locate(str(tiny_clip)), locate(str(copy(tiny_clip, tmp_path / "tiny-clip")))
    assert (one.model, one.revision) == (two.model, two.revision)
    assert one.model == "tiny-clip"
    weights = tmp_path / "tiny-clip" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert locate(str(tmp_path / "tiny-clip")).revision != one.revision


def test_the_exported_graphs_do_not_change_the_identity_of_a_directory_with_weights(tiny_clip, tmp_path):
    directory = copy(tiny_clip, tmp_path / "tiny-clip")
    (directory / "onnx").mkdir()
    (directory / "onnx" / "vision_model.onnx").write_bytes(b"graph")
    assert locate(str(directory)).revision == locate(str(tiny_clip)).revision


@pytest.mark.parametrize("model", ["/no/such/place", "./nowhere", "~/nowhere", "a/b/c", " "])
def test_a_path_that_is_not_there_is_refused_without_asking_the_hub(model):
    with pytest.raises(ConfigError, match="no such directory"):
        locate(model)


def test_a_directory_without_weights_and_a_revision_for_one_are_refused(tmp_path, tiny_clip):
    with pytest.raises(ConfigError, match="no model weights"):
        locate(str(tmp_path))
    with pytest.raises(ConfigError, match="revision="):
        locate(str(tiny_clip), revision="main")


def test_an_unknown_kind_of_model_is_refused_with_the_known_ones(tiny_clip, tmp_path):
    directory = copy(tiny_clip, tmp_path / "m")
    (directory / "config.json").write_text(json.dumps({"model_type": "blip"}))
    with pytest.raises(ConfigError, match=r"'blip'.*one of clip, metaclip_2, altclip, siglip"):
        locate(str(directory)).config()


@pytest.mark.parametrize("content", ["", "[1]", "{broken", "\x00"])
def test_a_damaged_configuration_is_refused_with_its_path(tiny_clip, tmp_path, content):
    directory = copy(tiny_clip, tmp_path / "m")
    (directory / "preprocessor_config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"preprocessor_config\.json"):
        locate(str(directory)).preprocessing()


def test_the_preprocessing_is_found_where_transformers_5_saves_it(tiny_clip, tmp_path):
    directory = copy(tiny_clip, tmp_path / "m")
    path = directory / "preprocessor_config.json"
    (directory / "processor_config.json").write_text(
        json.dumps({"image_processor": json.loads(path.read_text())})
    )
    path.unlink()
    assert locate(str(directory)).preprocessing() == locate(str(tiny_clip)).preprocessing()
    (directory / "processor_config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"no preprocessor_config\.json"):
        locate(str(directory)).preprocessing()


def test_the_shorter_of_model_and_tokenizer_bounds_the_text(tiny_clip, tmp_path):
    assert locate(str(tiny_clip)).max_length() == 24
    directory = copy(tiny_clip, tmp_path / "m")
    for length, wanted in [(9, 9), (10**30, 24)]:
        (directory / "tokenizer_config.json").write_text(json.dumps({"model_max_length": length}))
        assert locate(str(directory)).max_length() == wanted


@pytest.fixture
def hub(monkeypatch):
    """Makes the hub fail, or answer, as told."""
    import huggingface_hub

    def answering(outcome):
        def download(repo_id, filename, **_):
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)

    return answering


def failed(kind):
    """The error without the response that it carries, whose class depends on the hub client's version."""
    error = kind.__new__(kind)
    error.args = ("no",)
    return error


@pytest.mark.parametrize(
    ("outcome", "wanted", "words"),
    [
        (lambda: failed(errors.RepositoryNotFoundError), ConfigError, "neither a directory nor on the hub"),
        (lambda: failed(errors.RevisionNotFoundError), ConfigError, "neither"),
        (lambda: failed(errors.GatedRepoError), AuthError, "HF_TOKEN"),
        (
            lambda: failed(getattr(errors, "RemoteEntryNotFoundError", errors.EntryNotFoundError)),
            ConfigError,
            r"no config\.json",
        ),
        (lambda: failed(errors.HfHubHTTPError), UnavailableError, "hf download owner/name"),
        (lambda: errors.LocalEntryNotFoundError("offline"), UnavailableError, "model='bundled'"),
        (lambda: ConnectionError("no route"), UnavailableError, "pass the directory"),
        (lambda: errors.HFValidationError("bad id"), ConfigError, "neither"),
    ],
)
def test_what_the_hub_answers_becomes_an_error_with_a_way_out(hub, outcome, wanted, words):
    hub(outcome())
    with pytest.raises(wanted, match=words):
        locate("owner/name")


def test_a_model_on_the_hub_is_identified_by_its_commit(hub, tmp_path):
    path = tmp_path / "snapshots" / "0123abcd" / "config.json"
    path.parent.mkdir(parents=True)
    path.touch()
    hub(str(path))
    files = locate("owner/name", revision="main")
    assert (files.model, files.revision, files.directory) == ("owner/name", "0123abcd", None)
