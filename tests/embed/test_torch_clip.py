"""CLIP in PyTorch: vectors, devices, numbers."""

import logging
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from vecbridge.embed import hardware, torch_clip  # noqa: E402
from vecbridge.embed.files import locate  # noqa: E402
from vecbridge.embed.torch_clip import ClipEmbedder  # noqa: E402
from vecbridge.embed.torch_device import choose_device, choose_dtype  # noqa: E402
from vecbridge.errors import BackendError, ConfigError, InvalidRecordError  # noqa: E402
from vecbridge.records import batch  # noqa: E402
from vecbridge.schema import CollectionSpec  # noqa: E402

TEXTS = ["a dog", "", "Un atardecer sobre montañas", "x" * 300]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def embedder(tiny_clip):
    with ClipEmbedder(locate(str(tiny_clip)), dtype="float32") as made:
        yield made


def pictures(count=5):
    random = np.random.default_rng(3)
    return [Image.fromarray(random.integers(0, 256, (40 + i, 50, 3), np.uint8)) for i in range(count)]


def test_vectors_are_those_of_transformers_normalised(tiny_clip, embedder):
    model = transformers.CLIPModel.from_pretrained(tiny_clip).eval()
    processor = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    pixels = processor.from_pretrained(tiny_clip)(pictures(), return_tensors="pt")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tiny_clip / "tokenizer.json"))
    tokenizer.pad_token = "<|endoftext|>"
    ids = tokenizer(TEXTS, padding=True, truncation=True, max_length=24, return_tensors="pt")
    with torch.no_grad():
        found = model(
            pixel_values=pixels["pixel_values"],
            input_ids=ids["input_ids"],
            attention_mask=ids["attention_mask"],
        )
    np.testing.assert_allclose(embedder.embed_images(pictures()), found.image_embeds.numpy(), atol=1e-6)
    np.testing.assert_allclose(embedder.embed_texts(TEXTS), found.text_embeds.numpy(), atol=1e-6)


def test_vectors_are_float32_unit_length_and_do_not_depend_on_the_batch(embedder):
    whole = embedder.embed_texts(TEXTS)
    assert whole.dtype == np.float32
    assert whole.shape == (4, embedder.dim) == (4, 16)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(
        np.concatenate([embedder.embed_texts([each]) for each in TEXTS]), whole, atol=1e-6
    )


def test_nothing_in_gives_no_vectors_of_the_right_width(embedder):
    for found in (embedder.embed_texts([]), embedder.embed_images([])):
        assert (found.shape, found.dtype) == ((0, 16), np.float32)


def test_a_model_that_returns_tensors_as_transformers_4_did_gives_the_same(embedder, monkeypatch):
    wanted = embedder.embed_images(pictures()), embedder.embed_texts(TEXTS)
    for name in ("get_image_features", "get_text_features"):
        method = getattr(embedder._model, name)

        def plain(method=method, **inputs):
            found = method(**inputs)
            return getattr(found, "pooler_output", found)

        monkeypatch.setattr(embedder._model, name, plain)
    np.testing.assert_array_equal(embedder.embed_images(pictures()), wanted[0])
    np.testing.assert_array_equal(embedder.embed_texts(TEXTS), wanted[1])


def test_bfloat16_points_where_float32_does_under_the_same_identity(tiny_clip, embedder):
    rough = ClipEmbedder(locate(str(tiny_clip)), device="cpu", dtype="bfloat16")
    assert rough.dtype == torch.bfloat16
    cosines = (rough.embed_images(pictures()) * embedder.embed_images(pictures())).sum(axis=1)
    assert cosines.min() > 0.999
    assert cosines.min() < 1 - 1e-9, "computed in another precision"
    assert rough.identity == embedder.identity


def large(tiny_clip, directory, factor):
    """A copy whose vectors are those of the original and longer by a factor, before they are normalised."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_clip, directory)
    weights = load_file(directory / "model.safetensors")
    for name in ("text_projection.weight", "visual_projection.weight"):
        weights[name] *= factor
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return locate(str(directory))


@pytest.mark.parametrize("factor", [1e5, 1e8])
def test_a_model_that_overflows_in_float16_says_so_and_runs_in_the_others(
    tiny_clip, embedder, tmp_path, monkeypatch, factor
):
    """At 1e5 the sums overflow or the weights do, at 1e8 the weights; float16 ends at 65,504."""
    files = large(tiny_clip, tmp_path / "m", factor)
    for dtype in ("float32", "bfloat16"):
        with ClipEmbedder(files, device="cpu", dtype=dtype) as made:
            assert (made.embed_texts(TEXTS) * embedder.embed_texts(TEXTS)).sum(axis=1).min() > 0.999
    monkeypatch.setattr(torch_clip, "choose_dtype", lambda *_: torch.float16)  # as on a GPU
    with ClipEmbedder(files, device="cpu", dtype="float16") as made:
        for embed, items in ((made.embed_texts, TEXTS), (made.embed_images, pictures())):
            with pytest.raises(BackendError, match=r"overflows in float16.*dtype='float32'"):
                embed(items)


def test_in_bfloat16_it_is_as_loud_and_in_float32_every_batch_refuses_such_vectors(tiny_clip, tmp_path):
    files = large(tiny_clip, tmp_path / "m", np.inf)
    with (
        ClipEmbedder(files, device="cpu", dtype="bfloat16") as made,
        pytest.raises(BackendError, match=r"overflows in bfloat16.*dtype='float32'"),
    ):
        made.embed_images(pictures())
    with ClipEmbedder(files, device="cpu", dtype="float32") as made:
        found = made.embed_images(pictures())
    assert np.isnan(found).any()
    spec = CollectionSpec.single("c", dim=16)
    with pytest.raises(InvalidRecordError):
        batch(spec, id=list("abcde"), vector=found)


def test_weights_saved_as_float16_are_not_run_as_float16(tiny_clip, tmp_path):
    directory = shutil.copytree(tiny_clip, tmp_path / "m")
    transformers.CLIPModel.from_pretrained(tiny_clip).half().save_pretrained(directory)
    made = ClipEmbedder(locate(str(directory)), dtype="float32")
    assert next(made._model.parameters()).dtype == torch.float32


def test_a_full_device_halves_the_batch_for_good_and_loses_nothing(tiny_clip, embedder, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    small = ClipEmbedder(locate(str(tiny_clip)), dtype="float32", batch_size=8)
    real = small._model.get_image_features
    sizes = []

    def crowded(pixel_values):
        sizes.append(len(pixel_values))
        if len(pixel_values) > 3:
            raise torch.OutOfMemoryError("full")
        return real(pixel_values=pixel_values)

    monkeypatch.setattr(small._model, "get_image_features", crowded)
    found = small.embed_images(pictures(9))
    assert sizes == [8, 4, 2, 2, 2, 2, 1]
    np.testing.assert_allclose(found, embedder.embed_images(pictures(9)), atol=1e-6)
    assert "batches of 2" in caplog.text


def test_one_item_that_does_not_fit_is_an_error_and_no_endless_loop(tiny_clip, monkeypatch):
    made = ClipEmbedder(locate(str(tiny_clip)), batch_size=4)

    def full(**_):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(made._model, "get_text_features", full)
    with pytest.raises(BackendError, match="device='cpu'"):
        made.embed_texts(TEXTS)


def test_a_closed_embedder_says_so(tiny_clip):
    with ClipEmbedder(locate(str(tiny_clip))) as made:
        pass
    with pytest.raises(ConfigError, match="closed"):
        made.embed_texts(["a"])


def test_weights_that_are_missing_are_never_made_up(tiny_clip, tmp_path):
    from safetensors.torch import load_file, save_file

    directory = shutil.copytree(tiny_clip, tmp_path / "m")
    weights = load_file(directory / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack text_projection\.weight"):
        ClipEmbedder(locate(str(directory)))


def test_damaged_weights_are_refused(tiny_clip, tmp_path):
    directory = shutil.copytree(tiny_clip, tmp_path / "m")
    (directory / "model.safetensors").write_bytes(b"\x10" + b"\x00" * 200)
    with pytest.raises(ConfigError, match="cannot be loaded"):
        ClipEmbedder(locate(str(directory)))


def test_a_checkpoint_with_a_vocabulary_and_merges_only_is_read(bundled, tmp_path):
    if not (bundled / "merges.txt").is_file():
        pytest.skip("the bundled model has no merges.txt")
    directory = shutil.copytree(
        bundled, tmp_path / "old", ignore=shutil.ignore_patterns("gallery", "tokenizer.json")
    )
    old, new = (ClipEmbedder(locate(str(each)), dtype="float32") for each in (directory, bundled))
    np.testing.assert_array_equal(old.embed_texts(TEXTS), new.embed_texts(TEXTS))


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_must_be_positive(tiny_clip, batch_size):
    with pytest.raises(ConfigError, match="batch_size"):
        ClipEmbedder(locate(str(tiny_clip)), batch_size=batch_size)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Pretends that devices and drivers are there, or not."""

    def having(*, cuda=False, mps=False, driver=False, build="13.0", flags="fpu", cuda_bf16=True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1 if cuda else 0)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: cuda_bf16)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.version, "cuda", build)
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n")
        monkeypatch.setattr(hardware, "_CPU_INFO", tmp_path / "cpuinfo")
        monkeypatch.setattr(hardware, "_NVIDIA_DRIVER", tmp_path if driver else tmp_path / "none")

    return having


@pytest.mark.parametrize(
    ("devices", "wanted"), [({"cuda": True, "mps": True}, "cuda"), ({"mps": True}, "mps"), ({}, "cpu")]
)
def test_auto_takes_cuda_then_mps_then_the_cpu(machine, devices, wanted):
    machine(**devices)
    assert choose_device("auto").type == wanted


@pytest.mark.parametrize(
    ("devices", "asked", "words"),
    [
        ({"build": None}, "cuda", "built without CUDA: install"),
        ({}, "cuda", "no NVIDIA driver"),
        ({"driver": True}, "cuda:0", "CUDA_VISIBLE_DEVICES"),
        ({"cuda": True}, "cuda:1", "1 CUDA devices"),
        ({}, "mps", "no MPS"),
        ({}, "gpu", "'auto', 'cpu'"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_what_to_do(machine, devices, asked, words):
    machine(**devices)
    with pytest.raises(ConfigError, match=words):
        choose_device(asked)


@pytest.mark.parametrize(
    ("devices", "asked"), [({"cuda": True}, "cpu"), ({"build": None, "driver": True}, "auto")]
)
def test_a_gpu_that_stays_unused_is_said_loudly(machine, devices, asked):
    machine(**devices)
    with pytest.warns(RuntimeWarning, match="a GPU is there, and the embedder runs on the CPU"):
        choose_device(asked)


def test_a_machine_without_a_gpu_is_not_warned(machine):
    machine(build=None)
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [("avx2 avx512f", torch.float32), ("avx2 avx512_bf16", torch.bfloat16), ("amx_bf16", torch.bfloat16)],
)
def test_a_cpu_computes_in_bfloat16_only_with_the_instructions_for_it(machine, flags, wanted):
    machine(flags=flags)
    assert choose_dtype("auto", CPU) == wanted


def test_gpus_compute_in_bfloat16_where_they_have_it_and_mps_in_float32(machine):
    machine(cuda=True)
    assert choose_dtype("auto", torch.device("cuda")) == torch.bfloat16
    machine(cuda=True, cuda_bf16=False)
    assert choose_dtype("auto", torch.device("cuda")) == torch.float32
    assert choose_dtype("auto", torch.device("mps")) == torch.float32


def test_a_dtype_can_be_asked_for_and_float16_on_a_cpu_is_refused(machine):
    machine(flags="avx512_bf16")
    assert choose_dtype("float32", CPU) == torch.float32
    assert choose_dtype("float16", torch.device("cuda")) == torch.float16
    with pytest.raises(ConfigError, match="slower"):
        choose_dtype("float16", CPU)
    with pytest.raises(ConfigError, match="one of auto"):
        choose_dtype("int4", CPU)


def test_a_cached_hub_model_loads_offline_under_its_commit(tiny_clip, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--owner--tiny"
    shutil.copytree(tiny_clip, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    script = """
import vecbridge.embed.factory as factory
from vecbridge.errors import UnavailableError
made = factory.embedder("owner/tiny", device="cpu", dtype="float32")
try:
    factory.embedder("owner/other")
except UnavailableError as exc:
    identity, shape = made.identity, made.embed_texts(["a"]).shape
    print(identity.model, identity.revision, shape, "hf download" in str(exc))
"""
    environment = {
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
        "PATH": "/usr/bin:/bin",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=150
    )
    assert done.stdout.split("\n")[0] == f"owner/tiny {commit} (1, 16) True", done.stderr
