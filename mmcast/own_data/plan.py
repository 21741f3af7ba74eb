"""What is to be written, and the lines that several stages have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmengine.config import Config

from .detectors import Detector
from .python_text import Code, assignment

STAGES = ('supervised', 'adapt', 'selftrain', 'distill', 'finetune')
WRAPPERS = ('selftrain', 'distill')
OF_TEACHER = ('adapt', 'selftrain')


@dataclass(frozen=True)
class Files:
    """Where the images are.

    Attributes:
        coco: COCO file of the annotated images.
        images: Their folder, and that of the unlabelled ones.
        val: COCO file of the validation images.
        val_images: Their folder.
        lists: Folder of the drawn lists.
    """

    coco: Path
    images: Path
    val: Path
    val_images: Path
    lists: Path


@dataclass(frozen=True)
class Plan:
    """What is to be written.

    Attributes:
        name: Of the data set; the configs go to ``configs/NAME``.
        size: Folder of the stages that are inherited from.
        sizes: The installed folder of all sizes.
        files: Where the images are.
        classes: Class names.
        labeled: Number of labelled images.
        unlabeled: Number of unlabelled images.
        most: Objects of the fullest image.
        mirrored: Pairs of classes that a flip swaps; empty if there are none. None if
            images must not be flipped.
        student: The user's own student.
        teacher: The user's own teacher, and its checkpoint.
        by_words: Whether SAM 3 is the teacher.
        link_root: Links in the image folders may lead to places below it; None for
            none.
    """

    name: str
    size: str
    sizes: Path
    files: Files
    classes: tuple[str, ...]
    labeled: int
    unlabeled: int
    most: int
    mirrored: Sequence[tuple[str, str]] | None = ()
    student: Detector | None = None
    teacher: tuple[Detector, str] | None = None
    by_words: bool = False
    link_root: Path | None = None

    @property
    def has_teacher(self) -> bool:
        """Whether no stage trains a teacher."""
        return self.by_words or self.teacher is not None

    @property
    def stages(self) -> list[str]:
        """List the stages in the order in which they are run."""
        return [
            stage
            for stage in STAGES
            if (self.sizes / self.size / f'{stage}.py').is_file()
            and not (self.has_teacher and stage in OF_TEACHER)
        ]

    def left(self, stage: str) -> str:
        """Return the file that a stage leaves."""
        kind = 'teacher' if stage in OF_TEACHER else 'student'
        return f'work_dirs/{self.name}/{stage}/{kind}.pth'


def head(base: str | list[str], plan: Plan, stage: str) -> str:
    return assignment('_base_', base) + assignment(
        'work_dir', f'work_dirs/{plan.name}/{stage}'
    )


def replaced(cfg: Config) -> dict[str, bool]:
    """Return what an evaluator needs to replace the user's, if it computes no AP."""
    every = [cfg.get('val_evaluator'), cfg.get('test_evaluator')]
    coco = 'CocoMetric', 'WindowedCocoMetric'
    same = all(
        isinstance(e, Mapping) and e.get('type') in coco and not e.get('format_only')
        for e in every
    )
    return {} if same else dict(_delete_=True)


def evaluation(more: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Write how a stage is evaluated; the report shows its last predictions."""
    prefix = Code("work_dir + '/validation'")
    evaluation = {'': Code('_base_.evaluation'), **more}
    return (
        assignment(
            'val_dataloader = test_dataloader', dict(dataset=Code('_base_.validation'))
        )
        + assignment(
            'test_evaluator', evaluation if more else Code('_base_.evaluation')
        )
        + assignment('val_evaluator', {**evaluation, 'outfile_prefix': prefix})
    )


def imports(cfg: Config) -> str:
    modules = cfg.get('custom_imports', {}).get('imports', [])
    modules = [modules] if isinstance(modules, str) else list(modules)
    return assignment(
        'custom_imports', dict(imports=['mmcast', *modules], allow_failed_imports=False)
    )


def store(plan: Plan) -> str:
    return f'work_dirs/{plan.name}/teacher/pseudo_labels'
