"""Check a teacher's files and join them into one checkpoint, the zero-shot teacher.

    python tools/misc/assemble_teacher.py configs/mmcast/adapt_cityscapes.py \
        work_dirs/zeroshot_cityscapes/teacher.pth

It reads the files that the config's `init_cfg`s name, and prints the SHA-256 of each.
The files must have every weight of the teacher, in its shape; only a Mask2Former's
class layer may be of other classes, and is random then. `mim test` and
`PseudoLabelHook` accept the result like the checkpoint of any trained teacher.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine import Config
from mmengine.registry import init_default_scope

from mmcast.checkpoints import check_fits, save_plain
from mmcast.datasets.pseudo_label_store import Teacher


def pretrained(node: Any) -> Iterator[str]:
    """Yield the checkpoints that a model's config starts from."""
    if isinstance(node, dict):
        if node.get('type') == 'Pretrained':
            yield node['checkpoint']
        for part in node.values():
            yield from pretrained(part)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of the teacher')
    parser.add_argument('out', type=Path, help='checkpoint to write')
    args = parser.parse_args()
    config = Config.fromfile(args.config)
    init_default_scope(config.get('default_scope', 'mmdet'))
    files = list(pretrained(config.model))
    parts = [key for key in ('detector', 'segmenter') if key in config.model]
    if not parts and not files:
        raise ValueError(
            "model has no init_cfg=dict(type='Pretrained', ...): it would have "
            'random weights.'
        )
    for part in parts:
        if not list(pretrained(config.model[part])):
            raise ValueError(
                f"model.{part} has no init_cfg=dict(type='Pretrained', ...): the "
                f'{part} would have random weights.'
            )
    for file in files:
        if not Path(file).is_file():
            command = config.get('made_by', {}).get(file)
            raise FileNotFoundError(
                f'{file} is missing; '
                + (f'get it with: {command}' if command else 'correct the path')
            )
        print(f'{Teacher.from_files(args.config, file).digest}  {file}')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    if not parts:
        check_fits(model, files[0], ignore=['panoptic_head.cls_embed.'])
    model.init_weights()
    for name in parts:
        count = sum(p.numel() for p in getattr(model, name).parameters())
        print(f'{name}: {count / 1e6:.1f} M parameters, all loaded')
    if hasattr(model, 'classes'):
        classes = model.classes
    else:
        dataset = config.train_dataloader.dataset.labeled_dataset
        classes = tuple(dataset.metainfo.classes)
    meta = dict(dataset_meta=dict(classes=classes))
    save_plain(model.state_dict(), meta, args.out)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
