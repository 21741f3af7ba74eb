"""Draw the contrast's three curves from the logs of runs.

    python tools/analysis_tools/contrast_curves.py work_dirs/distill_cityscapes \
        --out curves.png

The curves are margin, false-negative rate and loss over the iterations, as in CAST's
figure of its empirical monitors (arXiv 2505.21904). The runs need
``ContrastMonitorHook``. Several runs share one picture; the legend has their folders.
"""

import argparse
import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use('Agg')
import matplotlib.pyplot as plt

PANELS = (
    ('margin (cosine)', ('contrast/margin',)),
    ('false-negative rate', ('contrast/fnr_gt', 'contrast/fnr_query')),
    ('loss_pxl (weighted)', ('loss_pxl',)),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('work_dirs', nargs='+', type=Path)
    parser.add_argument('--out', type=Path, default=Path('contrast_curves.png'))
    return parser.parse_args()


def read_scalars(work_dir: Path) -> dict[str, dict[int, float]]:
    """Return all values that a run logged, by name and iteration.

    Args:
        work_dir: The run's folder. A resumed run has several logs; later ones overwrite
            earlier ones.
    """
    curves: dict[str, dict[int, float]] = {}
    for log in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in log.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # the last line of a run that was killed
                continue
            for name, value in record.items():
                if isinstance(value, int | float) and 'step' in record:
                    curves.setdefault(name, {})[record['step']] = value
    return curves


def read_curves(work_dir: Path) -> dict[str, dict[int, float]]:
    """Return a run's values of the contrast, by name and iteration.

    Raises:
        ValueError: There is no log with the monitor's figures.
    """
    names = {name for _, names in PANELS for name in names}
    curves = {k: v for k, v in read_scalars(work_dir).items() if k in names}
    if not any(name.startswith('contrast/') for name in curves):
        logs = len([*work_dir.glob('*/vis_data/scalars.json')])
        raise ValueError(
            f'{work_dir} has no log with contrast/margin (looked into {logs} '
            "files): train with custom_hooks=[dict(type='ContrastMonitorHook'), ...]"
        )
    return curves


def draw(runs: dict[str, dict[str, dict[int, float]]], out: Path) -> None:
    """Draw the curves of all runs and write the picture."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout='constrained')
    for axis, (title, names) in zip(axes, PANELS, strict=True):
        for colour, (run, curves) in enumerate(runs.items()):
            for name, style in zip(names, ('-', '--'), strict=False):
                points = sorted(curves.get(name, {}).items())
                if points:
                    kind = name.rpartition('_')[2] if len(names) > 1 else ''
                    axis.plot(
                        *zip(*points, strict=True),
                        style,
                        color=f'C{colour}',
                        label=' '.join(filter(None, (run, kind))),
                    )
        axis.set(title=title, xlabel='iteration')
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize=8)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)


def main() -> None:
    args = parse_args()
    try:
        runs = {str(folder): read_curves(folder) for folder in args.work_dirs}
    except ValueError as error:
        sys.exit(f'error: {error}')
    draw(runs, args.out)
    print(f'written: {args.out}')


if __name__ == '__main__':
    main()
