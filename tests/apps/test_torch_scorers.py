"""Scorers in PyTorch, with tiny models of random weights."""

import json

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from vecbridge.apps.moderation import Moderator  # noqa: E402
from vecbridge.apps.policy import Policy  # noqa: E402
from vecbridge.apps.scorer_loading import open_scorer  # noqa: E402
from vecbridge.apps.torch_scorers import ClassifierScorer, ShieldGemma2Scorer  # noqa: E402
from vecbridge.embed.files import locate  # noqa: E402
from vecbridge.errors import ConfigError  # noqa: E402

SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
THRESHOLDS = {"review": 0.4, "block": 0.8, "applies_to": ["image"]}
LABELS = ["knife", "gun", "dog", "rest"]


def policy(model, *categories):
    return Policy.of(model=str(model), categories=[THRESHOLDS | each for each in categories])


def pictures(count):
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (40, 50, 3), np.uint8)) for _ in range(count)]


def save_classifier(directory, **config):
    torch.manual_seed(0)
    shape = SHAPE | {"image_size": 32, "patch_size": 8, "id2label": dict(enumerate(LABELS))} | config
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**shape)).eval()
    model.save_pretrained(directory)
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (directory / "preprocessor_config.json").write_text(json.dumps(processor))
    return directory


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("classifier"))


def probabilities(directory, images, function):
    """What transformers itself says."""
    model = transformers.AutoModelForImageClassification.from_pretrained(directory).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(directory)
    with torch.no_grad():
        return function(model(**processor(images=images, return_tensors="pt")).logits).numpy()


def test_a_classifier_adds_up_the_probabilities_of_the_labels(classifier):
    rules = policy(
        classifier, {"name": "weapons", "texts": ["knife", "gun"]}, {"name": "dogs", "texts": ["dog"]}
    )
    images = pictures(3)
    with open_scorer(rules, dtype="float32") as scorer:
        assert isinstance(scorer, ClassifierScorer)
        found = scorer.score("image", images, rules.categories)
    expected = probabilities(classifier, images, lambda logits: logits.softmax(dim=-1))
    np.testing.assert_allclose(found, np.stack([expected[:, :2].sum(1), expected[:, 2]], 1), atol=1e-6)


def test_of_labels_that_do_not_exclude_each_other_the_highest_counts(tmp_path):
    save_classifier(tmp_path, problem_type="multi_label_classification")
    rules = policy(tmp_path, {"name": "weapons", "texts": ["knife", "gun"]})
    images = pictures(3)
    with open_scorer(rules, dtype="float32") as scorer:
        found = scorer.score("image", images, rules.categories)
    expected = probabilities(tmp_path, images, torch.sigmoid)
    np.testing.assert_allclose(found[:, 0], expected[:, :2].max(1), atol=1e-6)


@pytest.mark.parametrize(
    ("category", "error"),
    [
        ({"texts": ["knive"]}, "has no label 'knive'; did you mean 'knife'"),
        ({"texts": []}, "texts must name labels"),
        ({"texts": ["knife"], "negatives": ["dog"]}, "a classifier takes no negatives"),
        ({"texts": ["knife"], "applies_to": ["image", "text"]}, "looks at pictures only"),
    ],
)
def test_a_policy_that_a_classifier_cannot_score_is_refused(classifier, category, error):
    with pytest.raises(ConfigError, match=error):
        open_scorer(policy(classifier, {"name": "weapons"} | category))


def test_weights_that_are_not_complete_are_refused(classifier, tmp_path):
    save_classifier(tmp_path)
    transformers.ViTModel.from_pretrained(tmp_path).save_pretrained(tmp_path)
    config = json.loads((classifier / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="the weights lack classifier"):
        open_scorer(policy(tmp_path, {"name": "weapons", "texts": ["knife"]}))


def test_code_that_a_model_brings_along_is_not_run(classifier, tmp_path):
    save_classifier(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"auto_map": {"AutoModelForImageClassification": "evil.Model", "AutoConfig": "evil.Config"}}
    config["model_type"] = "evil"
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Model: pass\nclass Config: pass\n"
    )
    with pytest.raises(ConfigError, match="cannot be loaded"):
        open_scorer(policy(tmp_path, {"name": "weapons", "texts": ["knife"]}))
    assert not (tmp_path / "ran").exists()


def test_a_closed_scorer_makes_its_pictures_review(classifier):
    rules = policy(classifier, {"name": "weapons", "texts": ["knife"]})
    scorer = open_scorer(rules)
    scorer.close()
    with Moderator(rules, scorer) as moderator:
        [decision] = moderator.moderate_images(pictures(1))
    assert (decision.verdict, decision.error) == ("review", "ConfigError: the scorer is closed")


# ---------------------------------------------------------------------------------------- ShieldGemma 2

TOKENS = 4  # that a picture becomes
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<start_of_image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


def write_tokenizer(directory):
    """A byte-level tokenizer with Gemma's special tokens; returns the ids of these and of both answers."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_image>", "<end_of_image>", "<image_soft_token>"]
    names = [*special, "Yes", "No", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={name: row for row, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        extra_special_tokens={
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
    )
    return fast, {name: row for row, name in enumerate(names)}


@pytest.fixture(scope="module")
def shield(tmp_path_factory):
    """A ShieldGemma 2 of one layer, with random weights."""
    directory = tmp_path_factory.mktemp("shieldgemma")
    tokenizer, ids = write_tokenizer(directory)
    wide = {"initializer_range": 0.5}
    text = {"num_key_value_heads": 1, "head_dim": 8, "vocab_size": len(tokenizer), "pad_token_id": 0}
    config = transformers.ShieldGemma2Config(
        text_config=SHAPE | wide | {"model_type": "gemma3_text"} | text,
        vision_config=SHAPE
        | wide
        | {"model_type": "siglip_vision_model", "image_size": 32, "patch_size": 16},
        mm_tokens_per_image=TOKENS,
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
        image_token_index=ids["<image_soft_token>"],
    )
    config.yes_token_index, config.no_token_index = ids["Yes"], ids["No"]
    torch.manual_seed(0)
    model = transformers.ShieldGemma2ForImageClassification(config).eval()
    for name, weights in model.named_parameters():
        if name.endswith("mm_input_projection_weight"):  # which begins as 0, so that pictures have no effect
            torch.nn.init.normal_(weights)
    model.save_pretrained(directory)
    images = transformers.Gemma3ImageProcessor(size={"height": 32, "width": 32})
    processor = transformers.ShieldGemma2Processor(
        images, tokenizer, chat_template=TEMPLATE, image_seq_length=TOKENS
    )
    processor.save_pretrained(directory)
    return directory


def test_shieldgemma_gives_the_probability_of_yes_for_each_picture_and_policy(shield):
    rules = policy(
        shield, {"name": "violence"}, {"name": "weapons", "texts": ["No weapons.", "None at all."]}
    )
    images = pictures(2)
    with open_scorer(rules, dtype="float32") as scorer:
        assert isinstance(scorer, ShieldGemma2Scorer)
        found = scorer.score("image", images, rules.categories)
    model = transformers.ShieldGemma2ForImageClassification.from_pretrained(shield).eval()
    processor = transformers.ShieldGemma2Processor.from_pretrained(shield)
    for row, image in enumerate(images):
        for column, words in enumerate(
            (processor.policy_definitions["violence"], "No weapons. None at all.")
        ):
            inputs = processor(
                images=[image], custom_policies={"p": words}, policies=["p"], return_tensors="pt"
            )
            with torch.no_grad():
                yes, no = model(**inputs).logits[0].tolist()
            assert found[row, column] == pytest.approx(1 / (1 + np.exp(no - yes)), abs=1e-4)
    assert len({f"{score:.4f}" for score in found.ravel()}) == 4


@pytest.mark.parametrize(
    ("category", "error"),
    [
        ({"name": "weapons"}, "none of the model's own policies: dangerous, sexual, violence"),
        ({"name": "violence", "negatives": ["peace"]}, "takes no negatives"),
        ({"name": "violence", "applies_to": ["text"]}, "looks at pictures only"),
    ],
)
def test_a_policy_that_shieldgemma_cannot_score_is_refused(shield, category, error):
    with pytest.raises(ConfigError, match=error):
        ShieldGemma2Scorer(locate(str(shield))).require(policy(shield, category))
