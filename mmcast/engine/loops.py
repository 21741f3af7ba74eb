"""Test teacher and student in one run, as mmdet's loop validates them."""

from mmdet.registry import LOOPS
from mmengine.runner import TestLoop

from mmcast.models.unwrapped import unwrapped


@LOOPS.register_module()
class TeacherStudentTestLoop(TestLoop):
    """Test both networks of a checkpoint, each under its own name.

    It is the counterpart of mmdet's ``TeacherStudentValLoop`` for ``mim test``:
    ``--cfg-options test_cfg.type=TeacherStudentTestLoop``. Hooks see both rounds as one
    epoch. The student comes second, so a file that both rounds write (``--out``) holds
    the student's results.
    """

    def run(self) -> dict[str, float]:
        """Test the teacher, then the student.

        Returns:
            The metrics of both, named ``teacher/...`` and ``student/...``.

        Raises:
            ValueError: The model has no teacher and student, as
                ``SemiSupervisedSegmentor`` and mmdet's semi-supervised detectors have.
        """
        model = unwrapped(self.runner.model)
        for name in ('teacher', 'student', 'semi_test_cfg'):
            if getattr(model, name, None) is None:
                raise ValueError(
                    f'{type(model).__name__} has no {name}, so there are no two '
                    'networks to test: give the config of the wrapper, or '
                    'test_cfg.type=TestLoop'
                )
        self.runner.call_hook('before_test')
        self.runner.call_hook('before_test_epoch')
        self.runner.model.eval()
        chosen = model.semi_test_cfg['predict_on']
        metrics: dict[str, float] = {}
        for name in ('teacher', 'student'):
            model.semi_test_cfg['predict_on'] = name
            for idx, data_batch in enumerate(self.dataloader):
                self.run_iter(idx, data_batch)
            found = self.evaluator.evaluate(len(self.dataloader.dataset))
            metrics.update({f'{name}/{key}': value for key, value in found.items()})
        model.semi_test_cfg['predict_on'] = chosen
        self.runner.call_hook('after_test_epoch', metrics=metrics)
        self.runner.call_hook('after_test')
        return metrics
