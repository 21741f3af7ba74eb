"""Class names as text prompts, in chunks that the text encoder can read."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.models.detectors.glip import clean_label_name

_BERT_FILES = ('config.json', 'vocab.txt', 'model.safetensors')


class Prompts:
    """The prompt of each class, and the classes that share a prompt.

    mmdet joins the words to ``person. rider. ``. It silently cuts what exceeds the
    encoder's limit, so the classes after it are never found.

    Args:
        classes: Class names in label order.
        words: Class name to the words that describe it; others are called by name.
        language_model: mmdet's ``BertModel`` of the detector: ``tokenizer`` and
            ``max_tokens``.

    Attributes:
        words: The prompt of each class, in label order.
        chunks: Labels that share one prompt: in order, in as few chunks as possible.

    Raises:
        ValueError: A prompt belongs to no class, is ambiguous, or does not fit.
    """

    def __init__(
        self,
        classes: Sequence[str],
        words: dict[str, str] | None,
        language_model: Any,
    ) -> None:
        table = words or {}
        unknown = sorted(set(table) - set(classes))
        if unknown:
            raise ValueError(
                f'prompts name {unknown}, but the classes are {tuple(classes)}: '
                'correct the names in prompts.'
            )
        # mmdet cleans them in the same way: no underscores, nothing in parentheses.
        self.words = tuple(
            clean_label_name(table.get(name, name)).strip() for name in classes
        )
        self.limit = language_model.max_tokens - 2  # [CLS] and [SEP]
        seen: dict[str, str] = {}
        for name, word in zip(classes, self.words, strict=True):
            if not word or any(mark in word for mark in '.?'):
                raise ValueError(
                    f'{word!r} cannot be the prompt of {name!r}: give words without '
                    '"." and "?" in prompts['
                    f'{name!r}], since these end a prompt.'
                )
            other = seen.setdefault(word.lower(), name)
            if other != name:
                raise ValueError(
                    f'{other!r} and {name!r} have the same prompt {word!r}: tell '
                    f'them apart with prompts[{name!r}].'
                )
        self.lengths = [
            len(language_model.tokenizer(word, add_special_tokens=False).input_ids) + 1
            for word in self.words
        ]
        for name, word, length in zip(classes, self.words, self.lengths, strict=True):
            if length > self.limit:
                raise ValueError(
                    f'the prompt {word!r} of {name!r} has {length - 1} tokens, but '
                    f'the text encoder reads {self.limit - 1}: shorten '
                    f'prompts[{name!r}].'
                )
        self.chunks = self._chunks()

    def _chunks(self) -> list[list[int]]:
        chunks: list[list[int]] = []
        room = 0
        for label, length in enumerate(self.lengths):
            if length > room:
                chunks.append([])
                room = self.limit
            chunks[-1].append(label)
            room -= length
        return chunks

    def of(self, labels: Iterable[int]) -> tuple[str, ...]:
        """Return the words of some classes."""
        return tuple(self.words[label] for label in labels)

    def draw(self, present: Iterable[int]) -> list[int]:
        """Draw labels for the prompt of a training image.

        If all labels fit into one prompt, returns all, in order. Otherwise returns
        those present in the image and as many others as fit, drawn by torch's global
        generator, in random order. Grounding-DINO is pre-trained in this way (mmdet's
        ``RandomSamplingNegPos``).

        Args:
            present: Labels in the image.

        Raises:
            ValueError: The labels in the image alone do not fit.
        """
        if len(self.chunks) == 1:
            return self.chunks[0]
        chosen = sorted(set(present))
        room = self.limit - sum(self.lengths[label] for label in chosen)
        if room < 0:
            raise ValueError(
                f'the {len(chosen)} classes of one image have more tokens than the '
                f'text encoder reads ({self.limit}): shorten their prompts.'
            )
        for label in torch.randperm(len(self.words)).tolist():
            if label not in chosen and self.lengths[label] <= room:
                chosen.append(label)
                room -= self.lengths[label]
        return [chosen[i] for i in torch.randperm(len(chosen)).tolist()]


def check_text_encoder(name: str) -> None:
    """Raise if a text encoder's file is missing; transformers would try the network.

    Args:
        name: Folder of a BERT, as in ``language_model.name``.

    Raises:
        FileNotFoundError: A file is missing; the message names it.
    """
    for file in _BERT_FILES:
        if not (Path(name) / file).is_file():
            raise FileNotFoundError(
                f'{Path(name) / file} is missing: the text encoder needs the folder '
                f'{name} with {", ".join(_BERT_FILES)}; get it with: hf download '
                f'google-bert/bert-base-uncased {" ".join(_BERT_FILES)} --local-dir '
                f'{name}, or point model.detector.language_model.name at your copy.'
            )
