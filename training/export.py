"""Write the model in its shipped form: fp16 safetensors, ONNX with int8 weights, tokenizer, preprocessing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from transformers import CLIPModel

from training import tokenizer
from training.augment import MEAN, STD
from training.model import IMAGE_SIZE, embed_pictures
from training.workspace import Workspace

_OPSET = 18


class _Pictures(nn.Module):  # type: ignore[misc]
    def __init__(self, model: CLIPModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        return embed_pictures(self.model, pixel_values)


class _Texts(nn.Module):  # type: ignore[misc]
    def __init__(self, model: CLIPModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        features = self.model.get_text_features(input_ids=input_ids, attention_mask=attention_mask)
        pooled = features if isinstance(features, Tensor) else features.pooler_output
        return nn.functional.normalize(pooled, dim=-1)


def export(work: Workspace, folder: Path) -> None:
    """Write everything that loads the model into `folder`."""
    model = work.load_model().eval()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(work.tokenizer(), folder)
    _write_preprocessing(folder)
    onnx_folder = folder / "onnx"
    onnx_folder.mkdir(exist_ok=True)
    _export_pictures(model, onnx_folder / "vision_model.onnx")
    _export_texts(model, onnx_folder / "text_model.onnx")
    model.half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # the writer leaves it to its owner alone
    _clean_config(folder / "config.json")


def _write_preprocessing(folder: Path) -> None:
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "CLIPProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": IMAGE_SIZE},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def _clean_config(file: Path) -> None:
    """Drop what the writer says of itself; the files load in transformers 4 and 5."""
    config = json.loads(file.read_text("utf-8"))
    for part in (config, config["text_config"], config["vision_config"]):
        for key in ("_name_or_path", "transformers_version"):
            part.pop(key, None)
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def _export_pictures(model: CLIPModel, file: Path) -> None:
    sample = (torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE),)
    shapes = {"pixel_values": {0: torch.export.Dim("batch", min=1, max=4096)}}
    _export(_Pictures(model), sample, "image_embeds", shapes, file)


def _export_texts(model: CLIPModel, file: Path) -> None:
    ids = torch.tensor([[1, 2, 3, 4, model.config.text_config.eos_token_id]] * 2)
    batch = torch.export.Dim("batch", min=1, max=4096)
    length = torch.export.Dim("sequence", min=2, max=model.config.text_config.max_position_embeddings)
    shape = {0: batch, 1: length}
    shapes = {"input_ids": shape, "attention_mask": shape}
    _export(_Texts(model), (ids, torch.ones_like(ids)), "text_embeds", shapes, file)


def _export(
    module: nn.Module,
    sample: tuple[Tensor, ...],
    output: str,
    shapes: dict[str, dict[int, object]],
    file: Path,
) -> None:
    """Export in fp32, then store the matrices as int8."""
    program = torch.onnx.export(
        module.eval(),
        sample,
        input_names=list(shapes),
        output_names=[output],
        dynamic_shapes=shapes,
        opset_version=_OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(str(file), external_data=False)
    _without_traces(file)
    _store_as_int8(file)


def _store_as_int8(file: Path) -> None:
    """Store each matrix as int8 with a scale a channel; it is computed with in float32.

    Quantising activations on the fly as well (``quantize_dynamic``) is as small and makes the embedding of a
    text depend on what else is in its batch, by up to 0.007 a component.
    """
    model = onnx.load(file)
    graph = model.graph
    for weight in [each for each in graph.initializer if len(each.dims) > 1 and np.prod(each.dims) > 4096]:
        values = numpy_helper.to_array(weight)
        # rows of an embedding table and filters of a convolution; columns of a matrix that is multiplied with
        axis = 0 if values.ndim > 2 or "embedding" in weight.name else 1
        others = tuple(each for each in range(values.ndim) if each != axis)
        scales = np.maximum(np.abs(values).max(axis=others, keepdims=True), 1e-12) / 127
        codes = np.round(values / scales).astype(np.int8)
        graph.initializer.remove(weight)
        graph.initializer.append(numpy_helper.from_array(codes, f"{weight.name}.codes"))
        graph.initializer.append(numpy_helper.from_array(scales.reshape(-1), f"{weight.name}.scales"))
        names = [f"{weight.name}.codes", f"{weight.name}.scales"]
        graph.node.insert(0, helper.make_node("DequantizeLinear", names, [weight.name], axis=axis))
    onnx.save(model, file)


def _without_traces(file: Path) -> None:
    """Drop the exporter's stack traces: they name files of the machine that exported, and take room."""
    model = onnx.load(file)
    del model.metadata_props[:]
    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    for function in model.functions:
        for node in function.node:
            del node.metadata_props[:]
    onnx.save(model, file)
