"""Export a model from its config and checkpoint to ONNX."""

import logging
from pathlib import Path

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mmcast.apis.load_model import load_model
from mmcast.console import make_console
from mmcast.deployment import check_packages
from mmcast.deployment import export_onnx as export
from mmcast.files import check_file


def export_onnx(
    config: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    *,
    raw: bool = False,
    batch: int | None = None,
    size: tuple[int, int] | None = None,
) -> list[str]:
    """Export a detector, or SwinMTL's model, to ONNX, and compare it with torch.

    The file takes uint8 images as OpenCV reads them and returns boxes, labels, scores
    and masks, for any number of images of any size where torch can export that. It is
    written only if onnxruntime and torch agree within 1e-3.
    ``tools/deployment/predict_onnx.py`` runs it without torch.

    Args:
        config: Config of the model.
        checkpoint: Its plain checkpoint, ``student.pth``.
        out: File to write.
        raw: Whether to export the network alone: normalised image, logits.
        batch: Number of images; None for any.
        size: (height, width) of the padded images; None for any.

    Returns:
        The largest differences between onnxruntime and torch, a line for each output.

    Raises:
        ImportError: A package of the extra ``onnx`` is missing.
        OSError: The file cannot be written.
        ValueError: The model cannot be exported so.
        ArithmeticError: The engines disagree.
    """
    if batch is not None and batch < 1:
        raise ValueError('--batch must be at least 1')
    check_file(out)
    check_packages()
    model = load_model(config, checkpoint)
    # The exporter logs each constant that it does not fold.
    logging.getLogger('onnxscript').setLevel(logging.ERROR)
    logging.getLogger('onnx_ir').setLevel(logging.ERROR)
    what = TextColumn('exporting; this takes a minute or more')
    columns = SpinnerColumn(), what, TimeElapsedColumn()
    with Progress(*columns, console=make_console()) as bar:
        bar.add_task('', total=None)  # torch does not say how far it is
        differences = export(
            model, out, raw=raw, batch=batch, size=size and (size[0], size[1])
        )
    return [str(each) for each in differences]
