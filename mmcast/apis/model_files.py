"""Find the models that come with the package, by name."""

from pathlib import Path

import mmengine

_INSTALLED = Path(__file__).parents[1] / '.mim'


def model_files(name: str) -> tuple[str, str]:
    """Return the config and the checkpoint of a model, for ``mmdet.apis``.

    ``DetInferencer(*model_files(name))`` and ``init_detector(*model_files(name))`` work
    in any folder. The files are in the package, so nothing is downloaded.

    Args:
        name: The model's name in the model index, as ``mim search mmcast`` lists it.

    Raises:
        ValueError: There is no such model, or it has no weights; the message names
            those that have.
    """
    index = mmengine.load(_INSTALLED / 'model-index.yml')
    models = [
        model
        for metafile in index['Import']
        for model in mmengine.load(_INSTALLED / metafile)['Models']
    ]
    ready = {model['Name']: model for model in models if 'Weights' in model}
    if name not in ready:
        why = 'has no weights yet' if name in [m['Name'] for m in models] else 'is none'
        raise ValueError(
            f'{name!r} {why} of the models of mmcast: take one of {", ".join(ready)}'
        )
    model = ready[name]
    return str(_INSTALLED / model['Config']), str(_INSTALLED / model['Weights'])
