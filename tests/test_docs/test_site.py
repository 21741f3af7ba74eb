"""Build the site from docs and docstrings: no warning, all links lead somewhere."""

import re
from pathlib import Path

import pytest
from mmdet import registry as registries
from mmengine.registry import Registry

import mmcast  # noqa: F401

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def build(warm, tmp_path_factory):
    """Build a site as `make docs` does: ``build(source, target)``.

    Sources are not highlighted, which takes most of the time.
    """
    script = tmp_path_factory.mktemp('sphinx') / 'build.py'
    script.write_text('import sys; from sphinx.cmd.build import main; sys.exit(main())')
    options = ['-W', '--keep-going', '-q', '-b', 'html', '-c', REPOSITORY / 'docs']
    used = 'myst_parser,sphinx.ext.autodoc,sphinx.ext.napoleon'

    def run(source, target):
        return warm(script, *options, '-D', f'extensions={used}', source, target)

    return run


def test_site_has_no_warnings_and_all_pages(build, tmp_path):
    done = build(REPOSITORY, tmp_path)
    assert done.returncode == 0, done.stderr
    pages = {path.stem for path in (REPOSITORY / 'docs').glob('*.md')}
    assert pages == {path.stem for path in (tmp_path / 'docs').glob('*.html')}
    api = (tmp_path / 'docs/api.html').read_text()
    for registry in vars(registries).values():
        made = registry.module_dict if isinstance(registry, Registry) else {}
        for found in made.values():
            folder = found.__module__.removeprefix('mmcast.')
            if folder != found.__module__ and not folder.startswith('compat.'):
                assert f'"{found.__module__}.{found.__name__}"' in api
    equations = (tmp_path / 'docs/equations.html').read_text()
    assert equations.count('<math ') > 20
    assert 'http' not in re.findall(r'<script[^>]*src="([^"]*)"', equations)


def test_broken_link_is_found(build, tmp_path):
    (tmp_path / 'docs').mkdir()
    (tmp_path / 'docs/index.md').write_text('# A page\n\n[nowhere](nowhere.md)\n')
    done = build(tmp_path, tmp_path / 'site')
    assert done.returncode
    assert 'nowhere.md' in done.stderr
