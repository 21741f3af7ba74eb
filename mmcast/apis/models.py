"""List the models of the package."""

from dataclasses import dataclass
from pathlib import Path

import mmengine

_INSTALLED = Path(__file__).parents[1] / '.mim'


@dataclass(frozen=True)
class ModelEntry:
    """A model of the model index.

    Attributes:
        name: Its name, for `model_files`.
        config: Its config.
        weights: Its checkpoint, in the package; None if there is none yet.
        results: Data set and metrics, as text; '' if nothing was measured.
    """

    name: str
    config: str
    weights: str | None
    results: str


def models() -> list[ModelEntry]:
    """List all models of the model index, those with weights first."""
    index = mmengine.load(_INSTALLED / 'model-index.yml')
    found = []
    for metafile in index['Import']:
        for model in mmengine.load(_INSTALLED / metafile)['Models']:
            weights = model.get('Weights')
            results = '; '.join(
                f'{each["Dataset"]}: '
                + ', '.join(
                    f'{name} {value}' for name, value in each['Metrics'].items()
                )
                for each in model.get('Results') or []
                if each.get('Metrics')
            )
            found.append(
                ModelEntry(
                    model['Name'],
                    str(_INSTALLED / model['Config']),
                    weights and str(_INSTALLED / weights),
                    results,
                )
            )
    return sorted(found, key=lambda model: model.weights is None)


def model_files(name: str) -> tuple[str, str]:
    """Return the config and the checkpoint of a model, for ``mmdet.apis``.

    ``DetInferencer(*model_files(name))`` and ``init_detector(*model_files(name))`` work
    in any folder. The files are in the package, so nothing is downloaded.

    Args:
        name: The model's name, as ``mmcast models`` lists it.

    Raises:
        ValueError: There is no such model, or it has no weights; the message names
            those that have.
    """
    every = {model.name: model for model in models()}
    ready = [model.name for model in every.values() if model.weights]
    found = every.get(name)
    if found is None or found.weights is None:
        why = 'has no weights yet' if found else 'is none'
        raise ValueError(
            f'{name!r} {why} of the models of mmcast: take one of {", ".join(ready)}'
        )
    return found.config, found.weights
