"""Compare time and memory of the pixel contrast with the published dense algorithm.

    python tools/benchmarks/pixel_contrast.py --json work_dirs/pixel_contrast.json

Both sides get the same embeddings and predictions. They run forward and backward in
the same process, in turn. The dense side follows CAST's research code: all pairs of an
image's pixels and their candidates, Gumbel noise, top-R. It uses the scores and
candidates of each preset.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from runs import hardware
from torch import Tensor

from mmcast.files import write_atomic
from mmcast.models.losses import PRESETS, PixelContrastLoss

# What is timed: a preset and the options changed in it.
CASES: dict[str, tuple[str, dict]] = {
    'default': ('default', {}),
    'default, all anchors': ('default', dict(max_anchors=None)),
    'default, all pairs': ('default', dict(max_anchors=None, max_candidates=None)),
    'paper': ('paper', {}),
    'paper, pools of 4096': ('paper', dict(max_anchors=4096, max_candidates=4096)),
    'research_code': ('research_code', {}),
    'research_code, pools of 4096': (
        'research_code',
        dict(max_anchors=4096, max_candidates=4096),
    ),
}
SCALING = ((37, 74), (74, 148), (148, 296))
EPS = 1e-6


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--json', type=Path, help='file for the numbers')
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--size', type=int, nargs=2, default=SCALING[0])
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--cases', nargs='*', choices=CASES, default=list(CASES))
    parser.add_argument('--no-scaling', action='store_true')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    return parser.parse_args()


def make_inputs(
    B: int, h: int, w: int, K: int, C: int, D: int, device: str
) -> tuple[Tensor, ...]:
    """Return embeddings of two views and blob predictions like a trained model's."""
    g = torch.Generator().manual_seed(0)
    z_weak = torch.randn(B, D, h, w, generator=g)
    z_strong = z_weak + torch.randn(B, D, h, w, generator=g)
    masks = F.interpolate(torch.randn(B, K, 8, 16, generator=g) * 6, (2 * h, 2 * w))
    classes = torch.randn(B, K, C + 1, generator=g) * 3
    return tuple(x.to(device) for x in (z_weak, z_strong, masks, classes))


def dense_contrast(
    z_weak: Tensor,
    z_strong: Tensor,
    masks: Tensor,
    classes: Tensor,
    *,
    score: str,
    candidates: str,
    unit: bool,
    temperature: float,
    margin: float | None,
    R: int,
) -> Tensor:
    """Compute the published loss: N x M matrices, Gumbel noise, top-R."""
    B, _, h, w = z_weak.shape
    N = h * w
    p_BKN = F.interpolate(masks, (h, w), mode='bilinear').flatten(2).softmax(1)
    f_BNC = torch.einsum('bkn,bkc->bnc', p_BKN, classes.softmax(-1))
    same_BNF = f_BNC if score == 'class' else torch.cat([p_BKN.mT, f_BNC], -1)
    cross_BNF = f_BNC
    if unit:
        same_BNF, cross_BNF = F.normalize(same_BNF, dim=-1), F.normalize(f_BNC, dim=-1)
    weak_BND, strong_BND = (
        F.normalize(z.flatten(2).mT, dim=-1) for z in (z_weak, z_strong)
    )
    losses = []
    for b in range(B):
        images = [
            i
            for i in range(B)
            if candidates == 'all' or (i == b) == (candidates == 'same_image')
        ]
        weight_NM = torch.cat(
            [
                1 - same_BNF[b] @ same_BNF[b].T
                if i == b
                else 1 - cross_BNF[b] @ cross_BNF[i].T
                for i in images
            ],
            dim=1,
        ).clamp(min=0)
        weight_NM = weight_NM + EPS
        if b in images:
            own = images.index(b) * N
            weight_NM[:, own : own + N].fill_diagonal_(0)
        weight_NM = weight_NM / weight_NM.sum(1, keepdim=True)
        gumbel_NM = -torch.log(-torch.log(torch.rand_like(weight_NM) + EPS) + EPS)
        index_NR = (torch.log(weight_NM + EPS) + gumbel_NM).topk(R, dim=1).indices
        sim_NM = weak_BND[b] @ weak_BND[images].flatten(0, 1).T / temperature
        neg_NR = sim_NM.gather(1, index_NR)
        if margin is not None:
            neg_NR = (neg_NR - margin).clamp(min=0)
        pos_N = (weak_BND[b] * strong_BND[b]).sum(1) / temperature
        logits = torch.cat([pos_N[:, None], neg_NR], dim=1)
        losses.append((logits.logsumexp(1) - pos_N).mean())
    return torch.stack(losses).mean()


def step(loss: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
    """Run forward and backward with respect to both views' embeddings."""
    z_weak, z_strong, *predictions = inputs
    z_weak, z_strong = z_weak.requires_grad_(), z_strong.requires_grad_()
    result = loss(z_weak, z_strong, *predictions)
    torch.autograd.grad(result, (z_weak, z_strong), allow_unused=True)
    if z_weak.is_cuda:
        torch.cuda.synchronize()


def seconds(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def peak_mb(action: Callable[[], None], device: str) -> float:
    """Return the peak memory in MB, above what was held before."""
    if device.startswith('cuda'):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        action()
    events = [
        e for e in profile.profiler.kineto_results.events() if e.name() == '[memory]'
    ]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most / 1e6


def compare(name: str, args: argparse.Namespace) -> dict:
    """Measure one case on both sides in turn; return its row."""
    K, C, D, R = 100, 8, 128, 200
    B, (h, w) = args.batch, args.size
    inputs = make_inputs(B, h, w, K, C, D, args.device)
    preset, changes = CASES[name]
    ours = PixelContrastLoss(**{**PRESETS[preset], **changes})
    ours.train()

    def dense(*inputs: Tensor) -> Tensor:
        return dense_contrast(
            *inputs,
            score=ours.score,
            candidates=ours.candidates,
            unit=ours.unit_scores,
            temperature=ours.temperature.value,
            margin=ours.margin,
            R=R,
        )

    sides = [lambda loss=loss: step(loss, inputs) for loss in (ours, dense)]
    memory = [peak_mb(side, args.device) for side in sides]  # also the warm-up
    times = [[seconds(side) for side in sides] for _ in range(args.repeats)]
    ours_s, dense_s = (statistics.median(t[i] for t in times) for i in (0, 1))
    return dict(
        case=name,
        **dict(B=B, h=h, w=w, K=K, C=C, D=D, R=R, preset=preset),
        ours_s=ours_s,
        dense_s=dense_s,
        speedup=dense_s / ours_s,
        ours_mb=memory[0],
        dense_mb=memory[1],
        memory_ratio=memory[0] / memory[1],
    )


def scale(args: argparse.Namespace) -> list[dict]:
    """Measure the default on the coarsest map up to one of sixteen times the pixels."""
    rows = []
    for h, w in SCALING:
        inputs = make_inputs(args.batch, h, w, 100, 8, 128, args.device)
        loss = PixelContrastLoss(**PRESETS['default'])

        def action(loss=loss, inputs=inputs) -> None:
            step(loss, inputs)

        memory = peak_mb(action, args.device)
        repeats = max(2, args.repeats // 2)
        took = statistics.median(seconds(action) for _ in range(repeats))
        rows.append(dict(pixels=args.batch * h * w, ours_s=took, ours_mb=memory))
    return rows


def show(report: dict) -> None:
    console = Console()
    table = Table(title=f'Pixel contrast, forward and backward, {report["device"]}')
    columns = ('case', 'ours_s', 'dense_s', 'speedup', 'ours_mb', 'dense_mb')
    for column in (*columns, 'memory_ratio'):
        table.add_column(column, justify='left' if column == 'case' else 'right')
    for row in report['cases']:
        figures = [f'{row[key]:.3g}' for key in (*columns[1:], 'memory_ratio')]
        table.add_row(row['case'], *figures)
    console.print(table)
    for row in report['scaling']:
        console.print(
            f'{row["pixels"]:>8} pixels: {row["ours_s"]:.3g} s, {row["ours_mb"]:.4g} MB'
        )


def main() -> None:
    args = parse_args()
    report = dict(
        cases=[compare(name, args) for name in args.cases],
        scaling=[] if args.no_scaling else scale(args),
        device=f'{hardware(args.device)}, {torch.get_num_threads()} threads',
    )
    show(report)
    if args.json:
        write_atomic(args.json, json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    main()
