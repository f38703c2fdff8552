"""Scorers in PyTorch. Beside ``embed.torch_*``, only this module imports torch or transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pickle import UnpicklingError
from typing import Any, Final

import numpy as np

from vecbridge.apps.policy import Category, Kind, Policy
from vecbridge.apps.scorers import Scores
from vecbridge.closing import Closing
from vecbridge.embed.files import NO_HUB, ModelFiles
from vecbridge.embed.torch_device import choose_device, choose_dtype
from vecbridge.errors import ConfigError, MissingDependencyError, UnavailableError, suggestion
from vecbridge.texts import shown

try:
    import torch
    import transformers
    from safetensors import SafetensorError
except ImportError as exc:
    raise MissingDependencyError(exc.name or "torch", extra="clip") from exc

_PICTURES: Final = ("image",)


class _TorchScorer(Closing):
    """A model of transformers that looks at pictures.

    Only classes of transformers itself are run, never code that a model's files bring along.
    """

    def __init__(self, files: ModelFiles, model: Any, processor: Any, *, device: str, dtype: str) -> None:
        self.model: Final = f"{files.model}@{files.revision}"
        self._device: Any = choose_device(device)
        self._dtype: Any = choose_dtype(dtype, self._device)
        source = files.model if files.directory is None else str(files.directory)
        revision = files.revision if files.directory is None else None
        self._processor: Any = _loaded(
            files, lambda: processor.from_pretrained(source, revision=revision, trust_remote_code=False)
        )
        found, report = _loaded(
            files,
            lambda: model.from_pretrained(
                source,
                revision=revision,
                dtype=self._dtype,
                trust_remote_code=False,
                output_loading_info=True,
            ),
        )
        if report["missing_keys"]:  # transformers would fill them with random numbers
            raise ConfigError(f"model {files.model!r}: the weights lack {min(report['missing_keys'])}")
        self._model: Any = found.eval().to(self._device)

    def close(self) -> None:
        """Lets go of the model, and of the accelerator's memory."""
        self._model = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _require_pictures(self, category: Category) -> None:
        if category.applies_to != _PICTURES:
            raise ConfigError(
                f"category {category.name!r}: {self.model} looks at pictures only: applies_to: [image]"
            )

    def _run(self, inputs: Any) -> Any:
        if self._model is None:
            raise ConfigError("the scorer is closed")
        placed = {
            name: value.to(self._device, self._dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
        }
        with torch.inference_mode():
            return self._model(**placed)


class ClassifierScorer(_TorchScorer):
    """Any image classifier of transformers; a category's ``texts`` name labels of the model.

    The probabilities of these labels are added up where the model's labels exclude each other (softmax), and
    the highest counts where it gives several at a time (``problem_type: multi_label_classification``).

    Args:
        files: Where the model is.
        device: As of :func:`vecbridge.embedder`.
        dtype: As of :func:`vecbridge.embedder`.

    Raises:
        ConfigError: No complete classifier of transformers, or the device is not there.
        UnavailableError: The weights cannot be downloaded.
    """

    def __init__(self, files: ModelFiles, *, device: str = "auto", dtype: str = "auto") -> None:
        super().__init__(
            files,
            transformers.AutoModelForImageClassification,
            transformers.AutoImageProcessor,
            device=device,
            dtype=dtype,
        )
        config = self._model.config
        self._labels = {str(name): int(number) for number, name in config.id2label.items()}
        self._several = config.problem_type == "multi_label_classification"

    def require(self, policy: Policy) -> None:
        """Refuses categories without labels of this model, with negatives, or for texts.

        Raises:
            ConfigError: Says which category.
        """
        for category in policy.categories:
            self._require_pictures(category)
            if not category.texts:
                raise ConfigError(f"category {category.name!r}: texts must name labels of {self.model}")
            if category.negatives:
                raise ConfigError(f"category {category.name!r}: a classifier takes no negatives")
            for text in category.texts:
                if text not in self._labels:
                    hint = suggestion(text, self._labels)
                    raise ConfigError(
                        f"category {category.name!r}: {self.model} has no label {shown(text)}{hint}"
                    )

    def score(self, kind: Kind, items: Sequence[Any], categories: Sequence[Category]) -> Scores:
        """Scores from 0 to 1, of shape (items, categories)."""
        logits = self._run(self._processor(images=list(items), return_tensors="pt")).logits.float()
        found = logits.sigmoid() if self._several else logits.softmax(dim=-1)
        probabilities: Scores = found.cpu().numpy().astype(np.float64)
        scores = np.empty((len(items), len(categories)))
        for column, category in enumerate(categories):
            chosen = probabilities[:, [self._labels[text] for text in category.texts]]
            scores[:, column] = chosen.max(axis=1) if self._several else chosen.sum(axis=1).clip(0, 1)
        return scores


class ShieldGemma2Scorer(_TorchScorer):
    """ShieldGemma 2 (Zeng et al., 2025): asks whether a picture violates a policy that is put into words.

    A category's ``texts`` are the policy, as one paragraph. Without them, its name must be one of the model's
    own policies: dangerous, sexual, violence. The score is the probability of "Yes" against "No".

    Args:
        files: Where the model is.
        device: As of :func:`vecbridge.embedder`.
        dtype: As of :func:`vecbridge.embedder`.

    Raises:
        ConfigError: transformers does not have the model, it is not complete, or the device is not there.
        UnavailableError: The weights cannot be downloaded.
    """

    def __init__(self, files: ModelFiles, *, device: str = "auto", dtype: str = "auto") -> None:
        model = getattr(transformers, "ShieldGemma2ForImageClassification", None)
        if model is None:
            raise ConfigError(f"transformers {transformers.__version__} has no ShieldGemma 2")
        super().__init__(files, model, transformers.ShieldGemma2Processor, device=device, dtype=dtype)

    def require(self, policy: Policy) -> None:
        """Refuses categories without words for them, with negatives, or for texts.

        Raises:
            ConfigError: Says which category.
        """
        known = self._processor.policy_definitions
        for category in policy.categories:
            self._require_pictures(category)
            if category.negatives:
                raise ConfigError(f"category {category.name!r}: ShieldGemma 2 takes no negatives")
            if not category.texts and category.name not in known:
                raise ConfigError(
                    f"category {category.name!r} has no texts, and is none of the model's own policies: "
                    f"{', '.join(known)}"
                )

    def score(self, kind: Kind, items: Sequence[Any], categories: Sequence[Category]) -> Scores:
        """Scores from 0 to 1, of shape (items, categories)."""
        own = {category.name: " ".join(category.texts) for category in categories if category.texts}
        inputs = self._processor(
            images=list(items),
            custom_policies=own,
            policies=[category.name for category in categories],
            return_tensors="pt",
        )
        # of each picture all policies in turn; the first column is "Yes", the second "No"
        found = self._run(inputs).probabilities[:, 0].float().cpu().numpy().astype(np.float64)
        scores: Scores = found.reshape(len(items), len(categories))
        return scores


def _loaded(files: ModelFiles, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except OSError as exc:
        if files.directory is not None:
            raise ConfigError(f"{files.directory}: the model cannot be loaded: {exc}") from exc
        raise UnavailableError(f"model {files.model!r}: {NO_HUB.format(model=files.model)}") from exc
    except (SafetensorError, UnpicklingError, RuntimeError, ValueError, KeyError) as exc:
        raise ConfigError(f"model {files.model!r} cannot be loaded: {exc}") from exc
