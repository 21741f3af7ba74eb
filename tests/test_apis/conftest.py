"""Fixtures that the tests of labelling share."""

import pytest
from mmdet.apis import init_detector


@pytest.fixture(scope='session')
def teacher(teacher_world):
    return init_detector(
        str(teacher_world.config), str(teacher_world.checkpoint), device='cpu'
    )
