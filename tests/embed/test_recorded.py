"""Hashes that collections hold: the same model must never get another one."""

import json

import pytest

from vecbridge.embed.architecture import Architecture
from vecbridge.embed.preprocess import Preprocessing
from vecbridge.embed.values import Values

OPENAI_MEAN, OPENAI_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def clip(edge, **more):
    return {
        "crop_size": edge, "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "image_mean": OPENAI_MEAN, "image_std": OPENAI_STD, "resample": 3, "size": edge,
    } | more  # fmt: skip


# As the checkpoints have them on the hub: first the old form of the file, then the newer one.
PREPROCESSORS = {
    "openai/clip-vit-base-patch32": clip(224, feature_extractor_type="CLIPFeatureExtractor"),
    "openai/clip-vit-large-patch14-336": clip(336),
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": clip(
        {"height": 224, "width": 224}, size={"shortest_edge": 224}, do_rescale=True, do_convert_rgb=True,
        rescale_factor=0.00392156862745098, image_processor_type="CLIPImageProcessor",
    ),
}  # fmt: skip
CONFIGS = {
    "openai/clip-vit-base-patch32": {
        "model_type": "clip", "projection_dim": 512, "logit_scale_init_value": 2.6592,
        "text_config": {"eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1, "vocab_size": 49408},
        "vision_config": {"patch_size": 32, "hidden_size": 768},
    },
    "openai/clip-vit-large-patch14-336": {
        "model_type": "clip", "projection_dim": 768,
        "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        "vision_config": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                          "num_attention_heads": 16, "patch_size": 14, "image_size": 336},
    },
}  # fmt: skip
# Made by the code that the first collections were made with.
RECORDED_PREPROCESSING = {
    "openai/clip-vit-base-patch32": "a1461a0ec9527013",
    "openai/clip-vit-large-patch14-336": "6aad995ad186a670",
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": "a1461a0ec9527013",
}
RECORDED_CONFIGS = {
    "openai/clip-vit-base-patch32": "fe0123cf54467301",
    "openai/clip-vit-large-patch14-336": "bbd93f8c70f06d5a",
}


@pytest.mark.parametrize("model", PREPROCESSORS)
def test_the_preprocessing_hash_of_a_clip_is_the_recorded_one(model):
    assert Preprocessing.from_config(PREPROCESSORS[model]).hash == RECORDED_PREPROCESSING[model]


@pytest.mark.parametrize("model", CONFIGS)
def test_the_config_hash_of_a_clip_is_the_recorded_one(model):
    config = json.loads(json.dumps(CONFIGS[model]))
    assert Architecture.read(Values("config.json", config)).hash == RECORDED_CONFIGS[model]


@pytest.mark.parametrize("key", ["resample", "size", "crop_size", "image_mean", "image_std"])
def test_another_preprocessing_of_pictures_has_another_hash(key):
    other = {"resample": 2, "size": 225, "crop_size": 223}.get(key, [0.5, 0.5, 0.5])
    changed = PREPROCESSORS["openai/clip-vit-base-patch32"] | {key: other}
    assert Preprocessing.from_config(changed).hash not in RECORDED_PREPROCESSING.values()
