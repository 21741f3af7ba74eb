"""Write a student or SwinMTL's model as an ONNX file that gives the same results.

Uses torch's exporter on the modules of :mod:`mmcast.deployment.graphs`. The file is
checked with ``onnx.checker`` and run with onnxruntime next to torch before it is
written.
"""

import importlib.util
import inspect
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmcast.deployment.deformable import sizes_as_numbers
from mmcast.deployment.graphs import Graph
from mmcast.deployment.kinds import graph_of
from mmcast.files import check_file, write_atomic
from mmcast.models.views import normalization
from mmcast.version import __version__

PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')
OPSET = 18
LONGEST = 8192  # side of an image in pixels, for a file that takes any size
Size = tuple[int, int]


@dataclass(frozen=True)
class Difference:
    """How onnxruntime's results differ from torch's on one random batch.

    Attributes:
        shape: Of the images that both got.
        relative: By output of the network, the largest difference of a value, divided
            by the output's largest value.
        scores: The largest difference of an instance's score. 0 without scores, and
            where boxes are suppressed: a last bit decides there which of two equals
            stays.
    """

    shape: tuple[int, ...]
    relative: dict[str, float]
    scores: float

    @property
    def worst(self) -> float:
        """The largest of all; NaN if one is."""
        return float(np.max([*self.relative.values(), self.scores]))

    def __str__(self) -> str:
        parts = [f'{name} {value:.1e}' for name, value in self.relative.items()]
        size = 'x'.join(map(str, self.shape))
        return f'images {size}: {", ".join(parts)}, scores {self.scores:.1e}'


def check_packages() -> None:
    """Check that the packages for export are there.

    Raises:
        ImportError: One is missing, or torch is too old.
    """
    options = inspect.signature(torch.export.export).parameters
    if 'prefer_deferred_runtime_asserts_over_guards' not in options:
        raise ImportError(
            f'torch {torch.__version__} cannot export for images of any size: the '
            'export to ONNX needs a newer one (2.13 works)'
        )
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f'the export to ONNX needs {", ".join(missing)}: pip install '
            f'{" ".join(PACKAGES)}'
        )


def export_onnx(
    model: nn.Module,
    out: str | Path,
    *,
    raw: bool = False,
    batch: int | None = None,
    size: Size | None = None,
    tolerance: float = 1e-3,
) -> list[Difference]:
    """Export a model, compare with torch, and write the file if both agree.

    Inputs and outputs are those of :class:`~mmcast.deployment.graphs.InstanceGraph` and
    ``DepthSegGraph``. The file's metadata ``mmcast`` is JSON with ``task``,
    ``classes``, ``step`` (sides of the input are multiples of it), ``raw``, the
    normalisation, and the attributes of :class:`~mmcast.deployment.view.View`.

    Args:
        model: As from :func:`mmcast.apis.load_model`.
        out: File to write. It appears whole or not at all.
        raw: Whether to leave out what comes before and after the network.
        batch: Number of images; None for any.
        size: Height and width of the padded images; None for any up to 8192.
        tolerance: Largest difference to accept, see :class:`Difference`.

    Returns:
        The differences, on batches of each kind that the file takes.

    Raises:
        ImportError: A package is missing.
        OSError: The file cannot be written.
        ValueError: The model is of another kind, or has deformable attention elsewhere
            than in its pixel decoder. Or number and size of the images must be fixed,
            or the size is no multiple of the model's step or below that to which the
            test pipeline resizes each image.
        ArithmeticError: The results differ by more.
    """
    check_packages()
    check_file(out)
    graph = graph_of(model, raw)
    step = graph.step
    if size is None and graph.one_size:
        raise ValueError(
            f'{type(model).__name__} is exported at one size, since {graph.one_size}: '
            'give --size HEIGHT WIDTH'
        )
    least = (step, step)
    if graph.view.scale and not (graph.view.keep_ratio or raw):
        least = graph.view.scale[::-1]  # each image gets this size
    if size is not None and any(
        side < low or side % step for side, low in zip(size, least, strict=True)
    ):
        wanted = ' '.join(
            str(-(-max(side, low) // step) * step)
            for side, low in zip(size, least, strict=True)
        )
        raise ValueError(
            f'a size of {size[0]} x {size[1]}: this model takes multiples of {step}, '
            f'at least {least[0]} x {least[1]}, so give --size {wanted}'
        )
    about = metadata(model, graph)
    example = size or (step * -(-128 // step), step * -(-256 // step))
    try:
        with sizes_as_numbers(graph):
            program = _traced(
                graph, (batch or 2, *example), batch is None, size is None
            )
    except RuntimeError as error:
        if batch and size:
            raise
        raise ValueError(
            'torch cannot export this model for any number of images of any size: '
            'give --batch N --size HEIGHT WIDTH'
        ) from error
    content = _with_metadata(program, about)
    shapes = [(batch or 2, *example)]
    if batch is None or size is None:
        height, width = size or (example[0] + step, example[1] + 2 * step)
        shapes.append((batch or 1, height, width))
    differences = [compare(graph, content, shape) for shape in shapes]
    wrong = [each for each in differences if not each.worst <= tolerance]
    if wrong:
        raise ArithmeticError(
            f'onnxruntime and torch differ by more than {tolerance}, so {out} was not '
            f'written ({wrong[0]}): report this with the config'
        )
    write_atomic(out, content)
    return differences


def metadata(model: Any, graph: Graph) -> dict[str, Any]:
    """Return what a program needs to know to use the file."""
    colours = normalization(model.data_preprocessor)
    return dict(
        version=__version__,
        task=graph.task,
        classes=list((model.dataset_meta or {}).get('classes', ())),
        **asdict(graph.view),
        step=graph.step,
        raw=graph.raw,
        mean=colours['mean'],
        std=colours['std'],
        rgb=not colours['bgr'],
    )


def compare(
    graph: Graph, content: bytes, shape: tuple[int, int, int], seed: int = 0
) -> Difference:
    """Run a random batch through torch and through onnxruntime.

    Args:
        graph: The model.
        content: The ONNX file of it.
        shape: Number of images, their height and width.
        seed: Of the images.
    """
    import onnxruntime

    inputs = _inputs(graph, shape, seed)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        content, options, providers=['CPUExecutionProvider']
    )
    names = [each.name for each in session.get_inputs()]
    feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    found = dict(zip(graph.outputs, session.run(graph.outputs, feed), strict=True))
    with torch.no_grad():
        wanted = dict(zip(graph.outputs, graph(*inputs), strict=True))
    relative = {
        name: _difference(found[name], wanted[name])
        / max(float(wanted[name].abs().max()), 1e-12)
        for name in graph.network_outputs
    }
    scores = 0.0
    if 'scores' in found and not graph.suppresses:
        scores = _difference(found['scores'], wanted['scores'])
    return Difference(tuple(inputs[0].shape), relative, scores)


def _difference(found: np.ndarray, wanted: Tensor) -> float:
    return float(np.abs(found - wanted.numpy()).max())


def _inputs(graph: Graph, shape: Sequence[int], seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    batch, height, width = shape
    if graph.raw:
        return (torch.randn(batch, 3, height, width, generator=generator),)
    images = torch.randint(
        256, (batch, height, width, 3), generator=generator, dtype=torch.uint8
    )
    # With padding, and from a larger original.
    size = torch.tensor([height - min(3, graph.step - 1), width - graph.step + 1])
    return (images, size, size + size // 3)[: len(graph.inputs)]


def _traced(
    graph: Graph, shape: tuple[int, int, int], any_batch: bool, any_size: bool
) -> Any:
    """Return torch's ONNX program."""
    from torch.export import Dim, export

    from mmcast.deployment.translations import TABLE

    inputs = _inputs(graph, shape, 0)
    dims: dict[str, Any] = {}
    if any_batch:
        dims['batch'] = Dim('batch', min=1, max=1024)
    if any_size:
        # As multiples, so that the exporter can prove that sizes fit to each other.
        for name in ('height', 'width'):
            steps = Dim(f'{name}_steps', min=2, max=LONGEST // graph.step)
            dims[name] = graph.step * steps
    axes = (
        ('batch', None, 'height', 'width')
        if graph.raw
        else ('batch', 'height', 'width', None)
    )
    of_images = {i: dims[name] for i, name in enumerate(axes) if name in dims}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of deprecations inside torch
        exported = export(
            graph,
            inputs,
            dynamic_shapes=(of_images, {}, {})[: len(inputs)],
            strict=False,
            # A guard would fix a size; an assertion about one is not exported.
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        return torch.onnx.export(
            exported,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            custom_translation_table=TABLE,
            dynamo=True,
            verbose=False,
        )


def _with_metadata(program: Any, values: Mapping[str, Any]) -> bytes:
    """Return the checked file's content."""
    import onnx

    proto = program.model_proto
    proto.metadata_props.add(key='mmcast', value=json.dumps(values))
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()
