"""Train a method's stages on SynthScapes on a laptop, and show what they gain.

    make quickstart                  or: python tools/benchmarks/quickstart.py
    make quickstart METHOD=guided    or: ... --method guided
    make quickstart METHOD=swinmtl   or: ... --method swinmtl

It generates SynthScapes' target domain. Then it trains and evaluates the models of
CAST, of Guided Distillation or of SwinMTL through ``mim train mmdet`` and ``mim test
mmdet``. An interrupted run continues with the stage it was in. It leaves
``results.json``, ``predictions.png`` and ``report.html`` in ``work_dirs/quickstart``,
``work_dirs/quickstart_guided`` or ``work_dirs/quickstart_swinmtl``.
"""

import argparse
import contextlib
import json
import math
import re
import runpy
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from runs import count_parameters, digest, mim, once, synthscapes_scripts

from mmcast import cli
from mmcast._requirements import distribution_of, mim_name
from mmcast.apis import report as write_report
from mmcast.files import write_atomic
from mmcast.report.data import METRICS

REPO = Path(__file__).resolve().parents[2]
CONFIGS = REPO / 'configs' / 'mmcast'
DATA = Path('data/synthscapes/target')
FOUNDATION = CONFIGS / 'weights' / 'synthscapes_teacher.pth'
STEP = re.compile(r'(Iter\((\w+)\)|Labelled) +\[ *(\d+)/(\d+)\](?:.*? loss: (\S+))?')

GUIDED = 'guided_distillation/'
SWINMTL = 'swinmtl/'
DEPTH, LABELS = SWINMTL + 'depth_only', SWINMTL + 'segmentation_only'
# The models of each method, in the order of the table: stage to train, config to
# evaluate with, checkpoint.
MODELS = {
    'cast': {
        'zero_shot_teacher': (None, 'adapt', FOUNDATION),
        'adapted_teacher': ('adapt', 'adapt', 'teacher.pth'),
        'supervised_student': ('supervised', 'supervised', 'student.pth'),
        'distilled_student': ('distill', 'supervised', 'student.pth'),
        'refined_student': ('finetune', 'supervised', 'student.pth'),
    },
    'guided': {
        'supervised_student': (GUIDED + 'teacher', 'supervised', 'teacher.pth'),
        'guided_student': (GUIDED + 'distill', 'supervised', 'student.pth'),
    },
    'swinmtl': {
        'depth_only': (DEPTH, DEPTH, 'model.pth'),
        'segmentation_only': (LABELS, LABELS, 'model.pth'),
        'multi_task': (SWINMTL, SWINMTL, 'model.pth'),
    },
}
# Trained in parallel with the other stages. Each of those needs the one before it.
PARALLEL = ('supervised', DEPTH, LABELS)
VALIDATIONS = 3  # in each stage's training
CONTRAST_INTERVAL = 50  # iterations
console = Console(highlight=False)
progress = Progress(
    SpinnerColumn(),
    TextColumn('{task.description}'),
    BarColumn(20),
    TextColumn('to go:'),
    TimeRemainingColumn(elapsed_when_finished=True),
    console=console,
    transient=True,
)
# What went wrong first. No other step starts after it.
failures: list[RuntimeError] = []


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--method', choices=MODELS, default='cast')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--labeled', type=int, default=10, help='labelled images')
    parser.add_argument('--unlabeled', type=int, default=990, help='unlabelled images')
    parser.add_argument('--val', type=int, default=100, help='validation images')
    parser.add_argument(
        '--scale', type=float, default=1.0, help="factor on every stage's iterations"
    )
    parser.add_argument('--fresh', action='store_true', help='discard an earlier run')
    return parser.parse_args()


def folder(args: argparse.Namespace) -> Path:
    """Return the folder for logs and results of a method."""
    name = 'quickstart' if args.method == 'cast' else f'quickstart_{args.method}'
    return Path('work_dirs', name)


class Job:
    """Store finished steps on disk, so that a later call continues from there."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.folder = folder(args) / 'done'
        settings = {key: value for key, value in vars(args).items() if key != 'fresh'}
        self.key = digest(json.dumps(settings, sort_keys=True), CONFIGS)
        if args.fresh:
            shutil.rmtree(self.folder, ignore_errors=True)

    def once(self, name: str, action: Any, *args: Any) -> dict:
        """Return ``action(*args)``, from disk if an earlier call finished it."""
        path = self.folder / f'{name.replace("/", "_")}.json'
        return once(path, self.key, lambda: action(*args))


def run(name: str, *command: Any, log: Path) -> None:
    """Run ``mim``: write its output to ``log``, show its progress in one line.

    A failure is shown at once: what runs at the same time may take minutes more.

    Raises:
        RuntimeError: The command failed; the message has its last lines. Or another one
            failed before, and this one did not start.
    """
    if failures:
        raise RuntimeError(f'{name} did not start')
    words = [str(word) for word in command]
    shown = ' '.join(words).replace(f'{REPO}/', '')
    console.print(f'[bold]$ mim {shown}[/bold]', soft_wrap=True)
    task = progress.add_task(f'{name}: starting', total=None)
    phase = ''

    def follow(line: str) -> None:
        nonlocal phase
        match = STEP.search(line)
        if match:
            _, kind, step, total, loss = match.groups()
            now = {None: ': labelling', 'val': ': validating', 'test': ''}.get(kind, '')
            if now != phase:
                progress.reset(task)
                phase = now
            text = f'{name}{now} {step}/{total}' + (f', loss {loss}' if loss else '')
            done, most = int(step), int(total)
            progress.update(task, description=text, completed=done, total=most)
        elif 'Labelling' in line:
            progress.update(task, description=f'{name}: labelling')

    try:
        mim(*words, log=log, on_line=follow)
    except RuntimeError as error:
        failures.append(error)
        console.print(f'[bold red]{name} failed[/bold red]; its output is in {log}')
        if len(progress.tasks) > 1:
            console.print('waiting for what runs at the same time; it is not lost')
        raise
    finally:
        progress.remove_task(task)


def run_here(words: list[str]) -> None:
    """Run Python's command line in this process: a new one takes long to import."""
    if words[0] == '-m':
        cli.main(words[2:])
        return
    kept, sys.argv = sys.argv, words
    try:
        runpy.run_path(words[0], run_name='__main__')
    except SystemExit as stop:
        if stop.code:
            raise
    finally:
        sys.argv = kept


def make_data(args: argparse.Namespace) -> dict:
    """Make images, COCO files and labelled/unlabelled lists; return the counts."""
    for words in synthscapes_scripts(
        DATA,
        train=args.labeled + args.unlabeled,
        val=args.val,
        labeled=args.labeled,
        seed=args.seed,
    ):
        shown = ' '.join(['python', *words]).replace('python -m mmcast', 'mmcast')
        console.print('[bold]$ ' + shown.replace(f'{REPO}/', ''))
        try:
            run_here(words)
        except (SystemExit, ValueError, OSError) as stop:
            reason = str(stop).removeprefix('error: ')
            raise RuntimeError(
                f'making the data failed: {reason}; if {DATA} holds data of other '
                'settings, remove it'
            ) from None
    return {'labelled': args.labeled, 'unlabelled': args.unlabeled, 'val': args.val}


def config_of(stage: str) -> Path:
    """Return the config of a stage."""
    return CONFIGS / f'{_name(stage)}.py'


def left_by(stage: str, file: str) -> Path:
    """Return the path of a file that a stage leaves."""
    return Path('work_dirs', _name(stage), file)


def _name(stage: str) -> str:
    return stage + ('synthscapes' if stage.endswith('/') else '_synthscapes')


def train(stage: str, args: argparse.Namespace) -> dict:
    """Run one stage; return its minutes."""
    shutil.rmtree(left_by(stage, ''), ignore_errors=True)
    options = [f'randomness.seed={args.seed}', *for_the_report(stage, args.scale)]
    if args.scale != 1:
        full = read_config(stage)
        iterations = scaled(full, args.scale)
        options.append(f'train_cfg.max_iters={iterations}')
        update = full.default_hooks.get('teacher_update')
        if update:
            switch = int(update.burn_in_iters * args.scale)
            options.append(f'default_hooks.teacher_update.burn_in_iters={switch}')
    start = time.monotonic()
    command = ('train', mim_name(), config_of(stage), '--cfg-options', *options)
    run(stage, *command, log=folder(args) / f'{_name(stage)}.log')
    return {'minutes': (time.monotonic() - start) / 60}


def read_config(stage: str) -> Any:
    """Return a stage's config."""
    from mmengine import Config

    return Config.fromfile(config_of(stage))


def scaled(config: Any, scale: float) -> int:
    """Return how many iterations a stage takes."""
    return max(1, round(config.train_cfg.max_iters * scale))


def for_the_report(stage: str, scale: float) -> list[str]:
    """Return options that leave curves: of validation, and of the contrast."""
    config = read_config(stage)
    iterations = scaled(config, scale)
    every = math.ceil(iterations / VALIDATIONS)
    options = [f'train_cfg.val_interval={every}', 'train_cfg.val_begin=1']
    interval = min(config.default_hooks.logger.interval, math.ceil(iterations / 20))
    options.append(f'default_hooks.logger.interval={interval}')
    network = config.model.get('student', config.model)
    if network.get('pixel_contrast'):
        hook = 'default_hooks.contrast_monitor'
        often = min(every, math.ceil(CONTRAST_INTERVAL * scale))
        options += [f'{hook}.type=ContrastMonitorHook', f'{hook}.interval={often}']
    return options


def evaluate(name: str, config: Path, checkpoint: Path, out: Path) -> dict:
    """Return a model's size and its metrics from the config's evaluators."""
    work_dir = out / f'test_{name}'
    shutil.rmtree(work_dir, ignore_errors=True)
    command = ('test', mim_name(), config, '--checkpoint', checkpoint)
    if 'swinmtl' not in config.parts:  # for the report
        kept = f'test_evaluator.outfile_prefix={work_dir}/predictions'
        command = (*command, '--cfg-options', kept)
    log = out / f'test_{name}.log'
    run(f'test of {name}', *command, '--work-dir', work_dir, log=log)
    (result,) = work_dir.glob('*/*.json')
    metrics = json.loads(result.read_text())
    return {
        'params_m': round(count_parameters(config) / 1e6, 3),
        **{
            ours: round(factor * metrics[name], digits + 1)
            for name, (ours, _, factor, digits) in METRICS.items()
            if name in metrics
        },
    }


def train_chain(
    chain: list[str], minutes: dict[str, Future], job: Job, args: argparse.Namespace
) -> None:
    """Train stages in order; after a failure, all unfinished models get its error."""
    try:
        for name in chain:
            stage = MODELS[args.method][name][0]
            minutes[name].set_result(job.once(stage, train, stage, args)['minutes'])
    except Exception as error:
        for name in chain:
            if not minutes[name].done():
                minutes[name].set_exception(error)


def measure(
    name: str, minutes: dict[str, Future], job: Job, args: argparse.Namespace
) -> dict:
    """Evaluate a model as soon as it is trained; return its row of the table."""
    stage, judge, checkpoint = MODELS[args.method][name]
    trained = minutes[name].result()
    config = config_of(judge)
    path = left_by(stage, checkpoint) if stage else FOUNDATION
    return {
        'name': name,
        **job.once(name, evaluate, name, config, path, folder(args)),
        'minutes': round(trained, 2),
        'config': str(config.relative_to(REPO)),
        'checkpoint': str(path if stage else path.relative_to(REPO)),
    }


def main() -> None:
    args = parse_args()
    for file in (FOUNDATION, FOUNDATION.with_name('synthscapes_student.pth')):
        if not file.is_file():
            sys.exit(f'error: {file} is missing: restore it with git checkout')
    job, out = Job(args), folder(args)
    stages = {name: model[0] for name, model in MODELS[args.method].items()}
    minutes: dict[str, Future] = {name: Future() for name in stages}
    untrained = [name for name, stage in stages.items() if stage is None]
    parallel = [name for name, stage in stages.items() if stage in PARALLEL]
    chain = [name for name in stages if name not in (*untrained, *parallel)]
    for name in untrained:
        minutes[name].set_result(0.0)
    try:
        dataset = job.once('data', make_data, args)
        with progress, ThreadPoolExecutor(1) as pool:
            pool.submit(train_chain, chain, minutes, job, args)
            rows = {name: measure(name, minutes, job, args) for name in untrained}
            train_chain(parallel, minutes, job, args)
            names = [name for name in stages if name not in untrained]
            rows.update({name: measure(name, minutes, job, args) for name in names})
    except RuntimeError as error:
        sys.exit(f'error: {(failures or [error])[0]}')
    results = list(rows.values())
    if args.method == 'swinmtl':
        from quickstart_depth import draw, milliseconds

        console.print('timing the models')
        files = {each['name']: (each['config'], each['checkpoint']) for each in results}
        with silent(out):
            times = job.once('ms', milliseconds, REPO, files, DATA)
        for each in results:
            each['ms'] = times[each['name']]
    packages = ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'mmcast')
    report = {
        'seed': args.seed,
        'versions': {name: distribution_of(name).version for name in packages},
        'dataset': dataset,
        'models': results,
    }
    write_atomic(out / 'results.json', json.dumps(report, indent=2) + '\n')
    show(results)
    if args.method == 'swinmtl':
        both = results[-1]
        config, checkpoint = REPO / both['config'], Path(both['checkpoint'])
        with silent(out):
            draw(config, checkpoint, out / 'predictions.png')
    else:
        draw_instances(results, out)
    with silent(out):
        write_report(out)
    console.print(f'written: {out}/results.json and {out}/predictions.png')
    console.print(f'look at: [bold]{out}/report.html[/bold]')


def draw_instances(results: list[dict], out: Path) -> None:
    """Write the picture of the instances that all models find."""
    from quickstart_picture import draw  # imports torch; not needed before

    models = []
    for each in results:
        title = f'{each["name"].replace("_", " ")}: mask AP {each["mask_ap"]:.1f}'
        checkpoint = Path(each['checkpoint'])
        if each['name'] == 'zero_shot_teacher':
            checkpoint = FOUNDATION
        models.append((title, REPO / each['config'], checkpoint))
    with silent(out):
        draw(models, DATA, out / 'predictions.png')


@contextlib.contextmanager
def silent(out: Path) -> Iterator[None]:
    """Write what is printed to ``picture.log``."""
    with (out / 'picture.log').open('a') as file, contextlib.redirect_stdout(file):
        yield


def show(results: list[dict]) -> None:
    """Print the table."""
    table = Table(title='SynthScapes, target domain, validation set')
    columns = {'params_m': ('parameters (M)', 2)}
    columns |= {ours: (title, digits) for ours, title, _, digits in METRICS.values()}
    columns |= {'ms': ('ms', 0), 'minutes': ('minutes', 1)}
    columns = {k: v for k, v in columns.items() if any(k in row for row in results)}
    table.add_column('model', no_wrap=True)
    for title, _ in columns.values():
        table.add_column(title, justify='right')
    for row in results:
        table.add_row(
            row['name'].replace('_', ' '),
            *(f'{row[k]:.{d}f}' if k in row else '' for k, (_, d) in columns.items()),
        )
    console.print(table)


if __name__ == '__main__':
    main()
