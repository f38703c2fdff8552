"""The embedder on an NVIDIA GPU: vectors, memory, choices. What does not need one runs on the CPU, too."""

import gc
import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from vecbridge.embed.factory import embedder  # noqa: E402
from vecbridge.embed.torch_device import place  # noqa: E402
from vecbridge.errors import BackendError, ConfigError  # noqa: E402

ON_GPU = pytest.param("cuda", marks=pytest.mark.gpu)
TEXTS = ["a dog", "", "Un atardecer sobre montañas", "x" * 300, "two dogs, and a cat."] * 7
LEAST_COSINE = {"float32": 0.9999, "bfloat16": 0.99, "float16": 0.999}

# that a GPU stays unused is what these tests want of the CPU
pytestmark = pytest.mark.filterwarnings("ignore:a GPU is there, and the embedder runs on the CPU")


def pictures(count=40):
    random = np.random.default_rng(3)
    return [random.integers(0, 256, (40 + i, 50, 3), np.uint8) for i in range(count)]


@pytest.fixture(scope="module")
def right(tiny_clip):
    """The vectors of the CPU in float32."""
    with embedder(tiny_clip, device="cpu", dtype="float32") as made:
        return made.embed_texts(TEXTS), made.embed_images(pictures())


@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        ("cpu", "bfloat16"),
        *(pytest.param("cuda", dtype, marks=pytest.mark.gpu) for dtype in LEAST_COSINE),
    ],
)
def test_each_dtype_points_where_float32_on_the_cpu_does(tiny_clip, right, device, dtype):
    with embedder(tiny_clip, device=device, dtype=dtype) as made:
        assert (made.device.type, str(made.dtype)) == (device, f"torch.{dtype}")
        for found, wanted in zip(
            (made.embed_texts(TEXTS), made.embed_images(pictures())), right, strict=True
        ):
            assert found.dtype == np.float32
            assert (found * wanted).sum(axis=1).min() >= LEAST_COSINE[dtype]


@pytest.mark.parametrize("device", ["cpu", ON_GPU])
def test_batches_that_follow_each_other_change_no_vector(tiny_clip, device):
    """Their pixels lie in memory that is used again while the copies to the GPU are under way."""
    many = pictures(150 if device == "cuda" else 10)
    with embedder(tiny_clip, device=device, dtype="float32", batch_size=3) as made:
        together = made.embed_images(many)
        made.batch_size = 1
        alone = np.concatenate([made.embed_images([each]) for each in many])
    assert (together * alone).sum(axis=1).min() >= 0.9999


@pytest.mark.parametrize("device", ["cpu", ON_GPU])
def test_two_identical_runs_give_identical_bytes(tiny_clip, device):
    runs = []
    for _ in range(2):
        with embedder(tiny_clip, device=device, dtype="float32", batch_size=16) as made:
            runs.append((made.embed_texts(TEXTS).tobytes(), made.embed_images(pictures()).tobytes()))
    assert runs[0] == runs[1]


@pytest.mark.parametrize("device", ["cpu", ON_GPU])
def test_an_array_arrives_whole_and_in_the_dtype_that_was_asked_for(device):
    array = np.random.default_rng(0).standard_normal((7, 3, 11, 5)).astype(np.float32)
    there = place(array, torch.device(device), torch.bfloat16)
    assert (there.device.type, there.dtype) == (device, torch.bfloat16)
    np.testing.assert_allclose(there.float().cpu().numpy(), array, rtol=2**-8)
    np.testing.assert_array_equal(place(array, torch.device(device)).cpu().numpy(), array)


@pytest.mark.gpu
def test_auto_takes_the_gpu_and_bfloat16_where_it_has_that(tiny_clip):
    with embedder(tiny_clip) as made:
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        assert (made.device.type, made.batch_size) == ("cuda", 256)
        assert made.dtype == (torch.bfloat16 if has_bfloat16 else torch.float32)


@pytest.mark.gpu
def test_the_identity_is_that_of_the_cpu(tiny_clip):
    with embedder(tiny_clip, device="cpu") as one, embedder(tiny_clip, device="cuda:0") as two:
        assert one.identity == two.identity


@pytest.mark.gpu
def test_a_closed_embedder_gives_the_memory_back(tiny_clip):
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    with embedder(tiny_clip, device="cuda") as made:
        made.embed_images(pictures())
        assert torch.cuda.memory_allocated() > before
    gc.collect()
    assert torch.cuda.memory_allocated() == before


@pytest.mark.gpu
def test_a_full_memory_halves_the_batch_and_every_vector_is_right(wide_clip):
    """Genuinely full: this process may take a little more than the model and a small batch need."""
    pixels = [np.full((3, 224, 224), value % 256, np.uint8) for value in range(2048)]
    with embedder(wide_clip, device="cuda", dtype="float32", batch_size=64) as made:
        wanted = made.embed_prepared(pixels)
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**30) / total)
        try:
            made.batch_size = 2048  # whose pixels alone are 1.2 GB
            found = made.embed_prepared(pixels)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 <= made.batch_size < 2048
    assert (found * wanted).sum(axis=1).min() >= 0.9999


@pytest.mark.gpu
def test_a_model_that_overflows_in_float16_says_so(tiny_clip, tmp_path):
    from safetensors.torch import load_file, save_file

    directory = shutil.copytree(tiny_clip, tmp_path / "m")
    weights = load_file(directory / "model.safetensors")
    weights["visual_projection.weight"] *= 1e6
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with (
        embedder(directory, device="cuda", dtype="float16") as made,
        pytest.raises(BackendError, match=r"overflows in float16.*dtype='float32'"),
    ):
        made.embed_images(pictures())


@pytest.mark.gpu
def test_onnx_graphs_on_the_gpu_give_the_vectors_of_the_cpu(bundled):
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("ONNX Runtime has no CUDA: pip install onnxruntime-gpu")
    paths = sorted((bundled / "gallery").glob("*.png"))[:64]
    try:
        two = embedder("bundled", runtime="onnx", device="cuda")
    except ConfigError as exc:  # CUDA's libraries are of other versions than ONNX Runtime wants
        pytest.skip(str(exc))
    with two, embedder("bundled", runtime="onnx", device="cpu") as one:
        assert (one.embed_images(paths) * two.embed_images(paths)).sum(axis=1).min() >= 0.9999
        assert (one.embed_texts(TEXTS) * two.embed_texts(TEXTS)).sum(axis=1).min() >= 0.9999


@pytest.fixture
def wide_clip(tiny_clip, tmp_path):
    """The tiny model for pictures of 224 pixels."""
    import transformers

    directory = shutil.copytree(tiny_clip, tmp_path / "wide", ignore=shutil.ignore_patterns("*.safetensors"))
    config = transformers.CLIPConfig.from_pretrained(tiny_clip)
    config.vision_config.image_size = 224
    torch.manual_seed(0)
    transformers.CLIPModel(config).eval().save_pretrained(directory)
    values = json.loads((directory / "preprocessor_config.json").read_text())
    values |= {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    (directory / "preprocessor_config.json").write_text(json.dumps(values))
    return directory
