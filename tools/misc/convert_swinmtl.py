"""Convert a checkpoint of SwinMTL's research code.

    python tools/misc/convert_swinmtl.py cityscapes480.ckpt swinmtl.pth

The result is a plain checkpoint for configs/mmcast/swinmtl/cityscapes.py with
PRESET=research_code, or for another config of the same network (--config). Every weight
must be there, in its shape. The critic is not in such files.
"""

import argparse
import os
import re
from pathlib import Path

from mmdet.registry import MODELS
from mmengine import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

import mmcast  # noqa: F401  (registers the model)
from mmcast.checkpoints import compare, read_checkpoint, save_plain
from mmcast.datasets import CityscapesDepthDataset

CONFIG = Path(__file__).parents[2] / 'configs/mmcast/swinmtl/cityscapes.py'


def convert(
    state: dict[str, Tensor], model: nn.Module, source: Path
) -> dict[str, Tensor]:
    """Give the research code's weights the names of a SwinMTL.

    Args:
        state: Its weights by name, maybe with ``module.`` in front.
        model: The SwinMTL.
        source: The file of the weights, for the message.

    Raises:
        ValueError: Weights are missing or of another shape.
    """
    state = {name.removeprefix('module.'): value for name, value in state.items()}
    encoder = {k: v for k, v in state.items() if k.startswith('encoder.')}
    found = {f'backbone.{k}': v for k, v in model.backbone.rename(encoder).items()}
    # Three layers a deconvolution; the convolution and its norm follow.
    deconvs = sum(isinstance(m, nn.ConvTranspose2d) for m in model.decoder.layers)
    for name, value in state.items():
        if match := re.fullmatch(r'decoder\.deconv_layers\.(\d+)\.(\w+)', name):
            found[f'decoder.layers.{match[1]}.{match[2]}'] = value
        elif match := re.fullmatch(r'decoder\.conv_layers\.(\d+)\.(\w+)', name):
            place = 3 * deconvs + int(match[1])
            found[f'decoder.layers.{place}.{match[2]}'] = value
        elif match := re.fullmatch(r'last_layer_(depth|seg)\.(\d+\.\w+)', name):
            found[f'{match[1]}_head.layers.{match[2]}'] = value
    wrong = compare(found, model.state_dict(), exact=True)
    if wrong:
        raise ValueError(f'{source}: it is not of this network: {wrong}')
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', type=Path, help='of the research code')
    parser.add_argument('out', type=Path, help='checkpoint to write')
    parser.add_argument('--config', type=Path, default=CONFIG)
    args = parser.parse_args()
    os.environ.setdefault('PRESET', 'research_code')
    config = Config.fromfile(args.config).model
    config.critic = config.backbone.init_cfg = None
    init_default_scope('mmdet')
    model = MODELS.build(config)
    state = convert(
        read_checkpoint(args.checkpoint)['state_dict'], model, args.checkpoint
    )
    classes = (*CityscapesDepthDataset.METAINFO['classes'], 'void')
    save_plain(state, dict(dataset_meta=dict(classes=classes)), args.out)
    print(f'written: {args.out}')


if __name__ == '__main__':
    main()
