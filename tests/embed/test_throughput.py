"""Batches, memory and threads change no vector, and what goes wrong stays where it is."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vecbridge.embed.ahead import ahead
from vecbridge.embed.encoder import MOST_ON_CPU
from vecbridge.embed.factory import embedder
from vecbridge.errors import InvalidRecordError

RUNTIMES = pytest.mark.parametrize("runtime", ["onnx", "torch"])
# the bundled graphs compute in float32 from int8 weights, the torch model from float16 ones
OPTIONS = {"onnx": {"runtime": "onnx"}, "torch": {"runtime": "torch", "dtype": "float32", "device": "cpu"}}


@pytest.fixture(scope="module")
def models(bundled):
    pytest.importorskip("torch")
    made = {name: embedder(**options) for name, options in OPTIONS.items()}
    yield made
    for each in made.values():
        each.close()


def picture(seed):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (20 + seed % 9, 30 + seed % 7, 3), np.uint8)


@RUNTIMES
@settings(max_examples=8, deadline=None)
@given(
    texts=st.lists(st.text(max_size=90), min_size=1, max_size=12),
    batch_size=st.integers(1, 9),
    data=st.data(),
)
def test_a_text_has_its_vector_whatever_is_embedded_with_it(models, runtime, texts, batch_size, data):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    model = models[runtime]
    model.batch_size = 32
    alone = np.concatenate([model.embed_texts([text]) for text in texts])
    order = data.draw(st.permutations(range(len(texts))))
    model.batch_size = batch_size
    together = model.embed_texts([texts[row] for row in order])
    assert (together * alone[order]).sum(axis=1).min() >= 0.99999


@RUNTIMES
@settings(max_examples=4, deadline=None)
@given(seeds=st.lists(st.integers(0, 60), min_size=1, max_size=12), batch_size=st.integers(1, 9))
def test_a_picture_has_its_vector_whatever_is_embedded_with_it(models, runtime, seeds, batch_size):
    model = models[runtime]
    model.batch_size = 32
    alone = np.concatenate([model.embed_images([picture(seed)]) for seed in seeds])
    model.batch_size = batch_size
    together = model.embed_images([picture(seed) for seed in seeds])
    assert (together * alone).sum(axis=1).min() >= 0.99999


@RUNTIMES
def test_two_identical_runs_give_identical_bytes(models, bundled, runtime):
    texts = ["a red heart", "", "x" * 300, "un perro"] * 20
    paths = sorted((bundled / "gallery").glob("*.png"))[:50]
    models[runtime].batch_size = 16
    first = models[runtime].embed_texts(texts), models[runtime].embed_images(paths)
    with embedder(batch_size=16, **OPTIONS[runtime]) as again:
        assert again.embed_texts(texts).tobytes() == first[0].tobytes()
        assert again.embed_images(paths).tobytes() == first[1].tobytes()


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_number_of_decoding_threads_changes_nothing(models, bundled, monkeypatch, workers):
    paths = sorted((bundled / "gallery").glob("*.png"))[:40]
    models["onnx"].batch_size = 8
    wanted = models["onnx"].embed_images(paths)
    monkeypatch.setattr("vecbridge.embed.encoder.default_threads", lambda: workers)
    assert models["onnx"].embed_images(paths).tobytes() == wanted.tobytes()


def test_one_bad_picture_is_named_and_the_others_have_the_vectors_they_have_without_it(models, tmp_path):
    model = models["onnx"]
    model.batch_size = 32
    paths = []
    for number in range(100):
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.png")
        paths.append(tmp_path / f"{number}.png")
    wanted = model.embed_images(paths)
    (tmp_path / "bad.png").write_bytes(paths[0].read_bytes()[:60])
    with pytest.raises(InvalidRecordError) as caught:
        model.embed_images([*paths[:57], tmp_path / "bad.png", *paths[57:]])
    assert [row.row for row in caught.value.rows] == [57]
    assert model.embed_images(paths).tobytes() == wanted.tobytes()


def test_one_pillow_image_given_often_is_decoded_by_one_thread(models, tmp_path):
    Image.fromarray(picture(1)).save(tmp_path / "a.png")
    lazy = Image.open(tmp_path / "a.png")
    found = models["onnx"].embed_images([lazy] * 20)
    np.testing.assert_allclose(found, np.repeat(found[:1], 20, axis=0), atol=1e-6)


def test_a_batch_on_a_cpu_is_bounded(models):
    for options in OPTIONS.values():
        with embedder(
            device="cpu", batch_size=1000, **{k: v for k, v in options.items() if k != "device"}
        ) as one:
            assert one.batch_size == MOST_ON_CPU
        with embedder(device="cpu", **{k: v for k, v in options.items() if k != "device"}) as one:
            assert one.batch_size == 32


def out_of_memory(name):
    if name == "memory":
        return MemoryError()
    if name == "torch-cpu":
        return RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"
        )
    if name == "torch-gpu":
        return pytest.importorskip("torch").OutOfMemoryError("CUDA out of memory")
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail

    return Fail("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer of size 9")


@pytest.mark.parametrize(
    ("runtime", "kind"),
    [
        ("torch", "memory"),
        ("torch", "torch-cpu"),
        ("torch", "torch-gpu"),
        ("onnx", "memory"),
        ("onnx", "onnx"),
    ],
)
def test_a_full_memory_halves_the_batch_and_goes_on(models, monkeypatch, runtime, kind):
    model, error = models[runtime], out_of_memory(kind)
    model.batch_size = 8
    wanted, tower, sizes = model.embed_texts(list("abcdefghi")), model._text_features, []

    def crowded(ids, mask):
        sizes.append(len(ids))
        if len(ids) > 2:
            raise error
        return tower(ids, mask)

    monkeypatch.setattr(model, "_text_features", crowded)
    np.testing.assert_allclose(model.embed_texts(list("abcdefghi")), wanted, atol=1e-6)
    assert sizes == [8, 4, 2, 2, 2, 2, 1]


@pytest.mark.parametrize(
    ("runtime", "error"),
    [("torch", RuntimeError("shapes cannot be multiplied")), ("onnx", RuntimeError("bad_alloc")),
     ("onnx", "Fail"), ("torch", ValueError("no"))],
    ids=str,
)  # fmt: skip
def test_other_failures_are_not_tried_again(models, monkeypatch, runtime, error):
    if error == "Fail":
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail

        error = Fail(
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Gather node"
        )
    calls = []

    def failing(ids, mask):
        calls.append(len(ids))
        raise error

    models[runtime].batch_size = 8
    monkeypatch.setattr(models[runtime], "_text_features", failing)
    with pytest.raises(type(error)):
        models[runtime].embed_texts(list("abcd"))
    assert calls == [4]


def test_work_ahead_keeps_the_order_stays_within_its_depth_and_stops_with_its_consumer():
    taken, lock = [], threading.Lock()

    def work(number):
        with lock:
            taken.append(number)
        return number

    results = ahead(range(1000), work, threads=4, depth=5, name="t")
    assert [next(results) for _ in range(10)] == list(range(10))
    results.close()
    assert len(taken) <= 15


def test_an_error_of_the_work_arrives_at_its_place():
    results = ahead([2, 1, 0, 5], lambda number: 10 // number, threads=3, depth=4, name="t")
    assert [next(results), next(results)] == [5, 10]
    with pytest.raises(ZeroDivisionError):
        next(results)
