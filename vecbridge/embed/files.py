"""The files of a model: in a directory, or on the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vecbridge.embed.architecture import Architecture
from vecbridge.embed.preprocess import Preprocessing
from vecbridge.embed.tokens import TextRules
from vecbridge.embed.values import Values
from vecbridge.errors import AuthError, ConfigError, MissingDependencyError, UnavailableError

BUNDLED: Final = Path(__file__).parent / "bundled"
NO_HUB: Final = (
    "download it where there is a network (hf download {model}), copy it here and pass the directory, "
    "or use model='bundled'"
)
# Weights in the order of preference; the first pattern that is there tells the revision
_WEIGHTS: Final = ("model*.safetensors", "pytorch_model*.bin", "onnx/*.onnx*")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model's files are.

    Attributes:
        model: The model's id: "bundled", a hub id, or the name of a directory.
        revision: Commit on the hub, or the SHA-256 of a directory's weights (16 digits): the same whichever
            runtime reads the directory, and wherever it lies.
        directory: The directory; None on the hub.
    """

    model: str
    revision: str
    directory: Path | None

    def find(self, name: str) -> Path | None:
        """A file of the model, downloaded if need be; None where the model has none of that name.

        With ``HF_HUB_OFFLINE`` set, what is not in the cache is taken for not there.

        Raises:
            UnavailableError: The hub does not answer, and the file is not in the cache.
        """
        return self._path(name, offline_is_absent=True)

    def need(self, name: str) -> Path:
        """A file that the model must have.

        Raises:
            ConfigError: It has none.
            UnavailableError: The hub does not answer, and the file is not in the cache.
        """
        path = self._path(name, offline_is_absent=False)
        if path is None:
            raise ConfigError(f"model {self.model!r} has no {name}")
        return path

    def _path(self, name: str, *, offline_is_absent: bool) -> Path | None:
        if self.directory is None:
            return _from_hub(self.model, name, self.revision, offline_is_absent=offline_is_absent)
        path = self.directory / name
        return path if path.is_file() else None

    def config(self) -> Architecture:
        """``config.json`` of a model.

        Raises:
            ConfigError: There is none, it is of a model type that is not read, or a value cannot be.
        """
        return Architecture.read(self._values(self.need("config.json")))

    def preprocessing(self) -> Preprocessing:
        """From ``preprocessor_config.json``, or ``processor_config.json`` as transformers 5 writes it.

        Raises:
            ConfigError: There is neither, a value cannot be, or pictures do not get the size that the model
                takes.
        """
        path = self.find("preprocessor_config.json")
        if path is not None:
            values = self._values(path)
        else:
            values = self._values(self.need("processor_config.json")).section("image_processor")
            if not values.values:
                raise ConfigError(f"model {self.model!r} has no preprocessor_config.json")
        config = self.config()
        preprocessing = Preprocessing.from_config(values, squares=config.family.squares)
        taken = config.vision["image_size"]
        if preprocessing.height_width != (taken, taken):
            height, width = preprocessing.height_width
            raise ConfigError(
                f"{values.file}: pictures become {height} x {width} pixels (height x width), and the model "
                f"takes {taken} x {taken}: {config.file}: vision_config.image_size"
            )
        return preprocessing

    def text_rules(self) -> TextRules:
        """What ``tokenizer_config.json`` says beside the tokenizer itself.

        Raises:
            ConfigError: A file cannot be read; the tokenizer is of a kind that ``tokenizer.json`` does not
                describe; a text would have to be padded, and no token is named for it.
        """
        path = self.find("tokenizer_config.json")
        values = Values("tokenizer_config.json", {}) if path is None else self._values(path)
        kind = values.values.get("tokenizer_class")
        if kind == "SiglipTokenizer":
            raise values.error(
                "tokenizer_class", "another: SentencePiece tokenizers of SigLIP 1 are not read"
            )
        lower = kind in ("Siglip2Tokenizer", "Siglip2TokenizerFast")
        if not self.config().family.full_length:
            return TextRules(self.max_length(), lower=lower)
        token = values.values.get("pad_token")
        token = token.get("content") if isinstance(token, Mapping) else token
        if not isinstance(token, str):
            raise values.error("pad_token", "a text: the model reads texts of full length")
        side = values.text("padding_side", "left" if lower else "right")
        if side not in ("left", "right"):
            raise values.error("padding_side", "left or right")
        return TextRules(self.max_length(), lower=lower, pad_token=token, pad_left=side == "left")

    def max_length(self) -> int:
        """Tokens of a text, at most: what the model has positions for, less where its tokenizer says less.

        Raises:
            ConfigError: A file cannot be read, or a length is none.
        """
        longest = self.config().longest_text
        path = self.find("tokenizer_config.json")
        if path is None:
            return longest
        return min(longest, self._values(path).whole("model_max_length", longest, most=None))

    def _values(self, path: Path) -> Values:
        """A JSON object; errors name the file with its directory, or with the model on the hub."""
        file = path if self.directory is not None else f"{self.model}/{path.name}"
        return Values(str(file), _json(path))


def locate(model: str, *, revision: str | None = None) -> ModelFiles:
    """Finds a model.

    Args:
        model: "bundled", a directory, or a hub id such as ``openai/clip-vit-base-patch32``.
        revision: Branch, tag or commit on the hub; None is its main branch.

    Raises:
        ConfigError: No such directory or model; a revision for a directory.
        UnavailableError: The hub does not answer, and the model is not in the cache.
    """
    directory = BUNDLED if model == "bundled" else Path(model).expanduser()
    if not directory.is_dir():
        if model == "bundled":
            raise ConfigError(
                "this installation is without the bundled model: pass model= a hub id or a directory"
            )
        if model.count("/") > 1 or model.startswith((".", "~", "/")) or not model.strip():
            raise ConfigError(f"model {model!r}: no such directory, and no hub id such as 'owner/name'")
        config = _from_hub(model, "config.json", revision)
        if config is None:
            raise ConfigError(f"model {model!r} has no config.json on the hub")
        return ModelFiles(model, config.parent.name, None)
    if revision is not None:
        raise ConfigError("revision= is for models on the hub")
    return ModelFiles(
        "bundled" if directory == BUNDLED else directory.resolve().name, _digest(directory), directory
    )


def _digest(directory: Path) -> str:
    for pattern in _WEIGHTS:
        files = sorted(directory.glob(pattern))
        if files:
            digest = hashlib.sha256()
            for path in files:
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            return digest.hexdigest()[:16]
    raise ConfigError(f"{directory}: no model weights ({', '.join(_WEIGHTS)})")


def _from_hub(model: str, name: str, revision: str | None, *, offline_is_absent: bool = False) -> Path | None:
    """A file in the local cache, where it lies in a folder named after the commit."""
    try:
        from huggingface_hub import (
            _CACHED_NO_EXIST,
            constants,
            errors,
            hf_hub_download,
            try_to_load_from_cache,
        )
    except ImportError as exc:
        raise MissingDependencyError("huggingface-hub", extra="clip") from exc
    advice = NO_HUB.format(model=model)
    try:
        return Path(hf_hub_download(model, name, revision=revision))
    except errors.LocalEntryNotFoundError as exc:  # offline, or no network, and not in the cache
        known_absent = try_to_load_from_cache(model, name, revision=revision) is _CACHED_NO_EXIST
        if known_absent or (offline_is_absent and constants.HF_HUB_OFFLINE):
            return None
        raise UnavailableError(
            f"model {model!r}: {name} is not in the cache, and the hub does not answer: {advice}"
        ) from exc
    except errors.EntryNotFoundError:
        return None
    except errors.GatedRepoError as exc:
        raise AuthError(f"model {model!r} is gated: accept its terms on the hub and set HF_TOKEN") from exc
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as exc:
        raise ConfigError(
            f"model {model!r} (revision {revision or 'main'}) is neither a directory nor on the hub"
        ) from exc
    except (errors.HfHubHTTPError, OSError) as exc:
        raise UnavailableError(f"model {model!r}: the hub did not give {name}: {advice}") from exc


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise ConfigError(f"{path}: cannot be read: {exc}") from exc
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: not a JSON object")
    return values
