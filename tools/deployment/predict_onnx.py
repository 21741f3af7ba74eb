"""Draw the predictions of an exported model, without torch and without mmcast.

    python tools/deployment/predict_onnx.py student.onnx PHOTOS... --out drawn

The file of `mmcast export-onnx` says what the model predicts. Copy this one
script to where the model runs. It needs numpy, OpenCV and one engine, onnxruntime or
openvino. PHOTOS are images, folders of images, and videos.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

try:
    import cv2
    import numpy as np
except ImportError as error:
    sys.exit(f'error: {error}: pip install numpy opencv-python-headless')

IMAGES = (
    *('.avif', '.bmp', '.gif', '.jfif', '.jp2', '.jpe', '.jpeg', '.jpg', '.png'),
    *('.tif', '.tiff', '.webp'),
)
VIDEOS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.webm')
PROCESSED = ('boxes', 'labels', 'scores', 'masks', 'depth')  # not the network's own


def through_onnxruntime(path: str, threads: int) -> tuple:
    """Return what runs a file, its inputs' shapes, its outputs and its metadata."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f'{error}: pip install onnxruntime') from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(
            path, options, providers=['CPUExecutionProvider']
        )
    except Exception as error:  # onnxruntime has a class for each reason
        reason = str(error).splitlines()[0]
        raise ValueError(f'{path} is no ONNX model ({reason})') from None
    # A fixed number is an int, a free one is a name.
    inputs = {each.name: each.shape for each in session.get_inputs()}
    outputs = [each.name for each in session.get_outputs()]
    metadata = session.get_modelmeta().custom_metadata_map
    return session.run, inputs, outputs, metadata.get('mmcast')


def through_openvino(path: str, threads: int) -> tuple:
    """Return the same as :func:`through_onnxruntime`."""
    try:
        import openvino
    except ImportError as error:
        raise ValueError(f'{error}: pip install openvino') from None
    core = openvino.Core()
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f'{path} is no ONNX model ({reason})') from None
    # In the precision of the file: on some processors the default is half of it.
    options = {'INFERENCE_NUM_THREADS': threads, 'INFERENCE_PRECISION_HINT': 'f32'}
    compiled = core.compile_model(model, 'CPU', options)
    request = compiled.create_infer_request()

    def run(names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        request.infer(feed)
        return [request.get_tensor(name).data.copy() for name in names]

    inputs = {
        each.any_name: [
            side.get_length() if side.is_static else None for side in each.partial_shape
        ]
        for each in compiled.inputs
    }
    outputs = [each.any_name for each in compiled.outputs]
    key = ['framework', 'mmcast']
    metadata = model.get_rt_info(key).astype(str) if model.has_rt_info(key) else None
    return run, inputs, outputs, metadata


ENGINES = {'onnxruntime': through_onnxruntime, 'openvino': through_openvino}


class Model:
    """An exported model.

    Args:
        path: ONNX file of `mmcast export-onnx`, not ``--raw``.
        threads: Threads of the engine; 0 for one a core.
        engine: A key of ``ENGINES``.

    Raises:
        ValueError: It is another file, or the engine is not installed.
    """

    def __init__(
        self, path: str | Path, threads: int = 0, engine: str = 'onnxruntime'
    ) -> None:
        self._run, inputs, outputs, about = ENGINES[engine](str(path), threads)
        if about is None:
            raise ValueError(f'{path} is not from mmcast export-onnx: export it again')
        self.about = json.loads(about)
        if self.about['raw']:
            raise ValueError(
                f'{path} is the network alone: export it again without --raw'
            )
        self.inputs = list(inputs)
        batch, height, width, _ = inputs['images']
        self.batch = batch if isinstance(batch, int) else 1
        self.size = (height, width) if isinstance(height, int) else None
        self.outputs = [name for name in outputs if name in PROCESSED]

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Predict one image, uint8 (H, W, 3) in BGR.

        Returns:
            For instances ``boxes`` (N, 4), ``labels`` (N,), ``scores`` (N,) and bool
            ``masks`` (N, H, W); else ``depth`` in metres (H, W) and ``labels`` (H, W).

        Raises:
            ValueError: The image does not fit into a file with depth.
        """
        feed = self.feed(image)
        values = self._run(self.outputs, feed)
        found = {
            name: value[0] for name, value in zip(self.outputs, values, strict=True)
        }
        if self.about['task'] == 'instances':
            real = found['scores'] > 0  # a score of 0 fills up
            return {name: value[real] for name, value in found.items()}
        rows, columns = resized(image, self.about, self.size).shape[:2]
        return {
            name: _to_size(value[:rows, :columns], image.shape[:2])
            for name, value in found.items()
        }

    def feed(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Return the file's inputs for an image, uint8 (H, W, 3) in BGR."""
        small = resized(image, self.about, self.size)
        batch = padded(small, self.about, self.size)[None]
        feed = {
            'images': np.repeat(batch, self.batch, axis=0),
            'size': np.array(small.shape[:2], np.int64),
            'original': np.array(image.shape[:2], np.int64),
        }
        # An input that the graph does not need has been removed from it.
        return {name: feed[name] for name in self.inputs}


def resized(
    image: np.ndarray, about: dict, most: tuple[int, int] | None = None
) -> np.ndarray:
    """Resize an image (H, W, 3) as the test pipeline does.

    Args:
        image: As OpenCV reads it.
        about: The file's metadata.
        most: Height and width to fit into, of a file for one size.

    Raises:
        ValueError: The image does not fit, and the file predicts depth.
    """
    size = tested_size(image, about)
    if not fits(size, most):
        if about['task'] != 'instances':
            option = size_option([size, most], about)
            raise ValueError(
                f'{size[0]}x{size[1]} does not fit into {most[0]}x{most[1]}, and '
                f'shrinking changes depth: export with {option}, or resize the image '
                'yourself and expect other depth'
            )
        size = _times(size, min(most[0] / size[0], most[1] / size[1]))
    if size == image.shape[:2]:
        return image
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)


def tested_size(image: np.ndarray, about: dict) -> tuple[int, int]:
    """Return the height and width to which the test pipeline resizes an image."""
    sides, scale = image.shape[:2], about['scale']
    if not scale:
        return sides
    if not about['keep_ratio']:
        return scale[1], scale[0]
    return _times(sides, min(max(scale) / max(sides), min(scale) / min(sides)))


def _times(size: tuple[int, int], factor: float) -> tuple[int, int]:
    return tuple(max(1, int(side * factor + 0.5)) for side in size)


def fits(size: tuple[int, int], most: tuple[int, int] | None) -> bool:
    """Say whether a height and width fit into a file's; None is any."""
    return most is None or (size[0] <= most[0] and size[1] <= most[1])


def size_option(sizes: list[tuple[int, int]], about: dict) -> str:
    """Return the option of the export for a file into which all sizes fit."""
    step = about['step']
    height, width = (-(-max(sides) // step) for sides in zip(*sizes, strict=True))
    return f'--size {height * step} {width * step}'


def padded(
    image: np.ndarray, about: dict, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Pad an image (H, W, 3) to a size that the network takes."""
    if size is None:
        step = np.lcm(about['step'], about['pad_step'])
        least = about['pad'] or (0, 0)
        # A file for any size takes two steps and more.
        size = [
            max(2, -(-max(side, other) // step)) * step
            for side, other in zip(image.shape[:2], least[::-1], strict=True)
        ]
    below, right = size[0] - image.shape[0], size[1] - image.shape[1]
    return np.pad(image, [(0, below), (0, right), (0, 0)])


def _to_size(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map (h, w): labels to the nearest, depth bilinearly."""
    if values.shape == size:
        return values
    if values.dtype == np.int64:  # OpenCV resizes none of these
        large = cv2.resize(
            values.astype(np.int32), size[::-1], interpolation=cv2.INTER_NEAREST
        )
        return large.astype(np.int64)
    return cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR)


def colour(index: int) -> tuple[int, int, int]:
    """Return a class's colour, BGR; neighbours are far apart."""
    hue = np.uint8([[[index * 67 % 180, 200, 255]]])
    return tuple(int(part) for part in cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0])


def draw_instances(
    image: np.ndarray,
    found: dict[str, np.ndarray],
    classes: list[str],
) -> np.ndarray:
    """Draw masks, boxes, class names and scores."""
    drawn = image.copy()
    chosen = range(len(found['scores']))[::-1]  # the best on top
    for i in chosen:
        tint = colour(int(found['labels'][i]))
        mask = found['masks'][i]
        drawn[mask] = (0.5 * drawn[mask] + 0.5 * np.array(tint)).astype(np.uint8)
    for i in chosen:
        label = int(found['labels'][i])
        left, top, right, bottom = (round(float(side)) for side in found['boxes'][i])
        cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), colour(label), 1)
        name = classes[label] if label < len(classes) else str(label)
        text = f'{name} {found["scores"][i]:.2f}'
        font = cv2.FONT_HERSHEY_SIMPLEX, 0.35
        (wide, high), _ = cv2.getTextSize(text, *font, 1)
        bottom = max(high + 2, top)
        cv2.rectangle(drawn, (left, bottom - high - 2), (left + wide, bottom), 0, -1)
        cv2.putText(drawn, text, (left, bottom - 1), *font, (255, 255, 255), 1)
    return drawn


def draw_maps(image: np.ndarray, found: dict[str, np.ndarray]) -> np.ndarray:
    """Put the image, its labels and its depth (near is bright) side by side."""
    parts = [image]
    if 'labels' in found:
        table = np.array([colour(i) for i in range(256)], np.uint8)
        parts.append(table[found['labels'] % 256] // 2 + image // 2)
    if 'depth' in found:
        inverse = 1 / np.maximum(found['depth'], 1e-3)
        level = 255 * inverse / np.percentile(inverse, 99)
        bright = np.clip(level, 0, 255).astype(np.uint8)
        parts.append(cv2.applyColorMap(bright, cv2.COLORMAP_INFERNO))
    return np.concatenate(parts, axis=1)


def files_in(paths: list[Path]) -> list[tuple[Path, Path]]:
    """Return images and videos, and where each goes below the folder of drawings.

    Raises:
        ValueError: A path does not exist, or there is none.
    """
    found: dict[Path, tuple[Path, Path]] = {}  # its folder, and its place in it
    for path in paths:
        if path.is_dir():
            inside = sorted(
                p
                for p in path.rglob('*')
                if p.is_file() and not _is_foreign(p.relative_to(path))
            )
            found |= {
                p: (path, p.relative_to(path))
                for p in inside
                if p.suffix.lower() in IMAGES + VIDEOS
            }
        elif path.is_file():
            found[path] = path.parent, Path(path.name)
        else:
            raise ValueError(f'{path} does not exist: correct the path')
    if not found:
        raise ValueError(
            f'no images ({", ".join(IMAGES)}) and no videos ({", ".join(VIDEOS)}) in '
            f'{", ".join(map(str, paths))}: correct the path'
        )
    folders = [folder for folder, _ in found.values()]
    targets = [target for _, target in found.values()]
    order = list(dict.fromkeys(folders))
    numbers = {folder: str(i) for i, folder in enumerate(order, 1)}
    names = {folder: folder.resolve().name for folder in order}
    # Images of one place in two folders get the folder's name, or else its number.
    for prefixes in (names, numbers):
        count = Counter(targets)
        targets = [
            prefixes[folder] / target if count[target] > 1 else target
            for folder, target in zip(folders, targets, strict=True)
        ]
    # Two images of one stem, a.jpg and a.png, keep their suffix: a.jpg.png.
    stems = [target.with_suffix('') for target in targets]
    count = Counter([*stems, *targets])
    return [
        (path, target if count[stem] > 1 else stem)
        for path, target, stem in zip(found, targets, stems, strict=True)
    ]


def _is_foreign(path: Path) -> bool:
    """Say whether a file is hidden, or in a folder that another program left."""
    return any(part.startswith(('.', '@eaDir', '__MACOSX')) for part in path.parts)


def frames(path: Path) -> Iterator[np.ndarray]:
    """Give an image, or a video's frames."""
    if path.suffix.lower() not in VIDEOS:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is not None:
            yield image
        return
    video = cv2.VideoCapture(str(path))
    while (frame := video.read()[1]) is not None:
        yield frame
    video.release()


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a PNG that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(cv2.imencode('.png', image)[1].tobytes())
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def check_out(out: Path, photos: list[Path], files: list[tuple[Path, Path]]) -> None:
    """Make the folder for drawings, unless one would replace an image.

    Raises:
        OSError: The folder cannot be made.
        ValueError: A drawing would replace an image, or one would be predicted.
    """
    out.mkdir(parents=True, exist_ok=True)
    home = out.resolve()
    inputs = {path.resolve() for path, _ in files}
    wrong = [home / f'{target}.png' for _, target in files]
    wrong = [path for path in wrong if path.resolve() in inputs]
    for folder in photos:
        if folder.is_dir() and folder.resolve() in (home, *home.parents):
            wrong += sorted(path for path in inputs if home in path.parents)
    if wrong:
        raise ValueError(
            f'--out {out} has images that are to be predicted, as {wrong[0].name}: '
            'give another folder'
        )


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', help='file of mmcast export-onnx')
    parser.add_argument('photos', type=Path, nargs='+', metavar='PHOTOS')
    parser.add_argument('--out', type=Path, required=True, help='folder for drawings')
    parser.add_argument('--score-thr', type=float, default=0.3)
    parser.add_argument('--classes', nargs='+', help='draw these alone (default: all)')
    parser.add_argument('--engine', choices=ENGINES, default='onnxruntime')
    parser.add_argument('--threads', type=int, default=0, help='default: one a core')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    try:
        if not Path(args.model).is_file():
            raise ValueError(f'{args.model} does not exist: correct the path')
        files = files_in(args.photos)
        model = Model(args.model, args.threads, args.engine)
        names = model.about['classes']
        unknown = [name for name in args.classes or [] if name not in names]
        if unknown:
            known = ', '.join(names) or 'no names'
            raise ValueError(f'--classes {unknown[0]}: the model has {known}')
        check_out(args.out, args.photos, files)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    wanted = [names.index(name) for name in args.classes or names]
    unreadable = 0
    large = []  # sizes of images that had to be shrunk
    for done, (path, target) in enumerate(files, 1):
        count = spent = 0
        why = 'cannot be read'
        for frame in frames(path):
            start = time.perf_counter()
            try:
                found = model(frame)
            except Exception as error:  # engines raise their own; others go on
                why = f'cannot be predicted ({" ".join(str(error).split())[:200]})'
                break
            spent += time.perf_counter() - start
            size = tested_size(frame, model.about)
            if not fits(size, model.size):
                large.append(size)
            if model.about['task'] == 'instances':
                shown = found['scores'] >= args.score_thr
                if args.classes:
                    shown &= np.isin(found['labels'], wanted)
                found = {name: value[shown] for name, value in found.items()}
                said = f'{shown.sum()} instances'
                drawn = draw_instances(frame, found, names)
            else:
                said = ' and '.join(model.outputs)
                drawn = draw_maps(frame, found)
            name = f'{target}.png'
            if path.suffix.lower() in VIDEOS:
                name = f'{target}/{count:06d}.png'
            write_image(args.out / name, drawn)
            count += 1
            if count % 100 == 0:
                print(
                    f'[{done}/{len(files)}] {path}: {count} frames so far', flush=True
                )
        if not count:
            unreadable += 1
            print(f'[{done}/{len(files)}] {path}: {why}, left out', flush=True)
            continue
        if path.suffix.lower() in VIDEOS:
            said, name = f'{count} frames', target
            if why.startswith('cannot be predicted'):
                said += f', and the next one {why}'
        print(
            f'[{done}/{len(files)}] {path}: {said}, {1000 * spent / count:.0f} ms, '
            f'{args.out / name}',
            flush=True,
        )
    if large:
        print(
            f'warning: {len(large)} images are larger than the file takes and were '
            'predicted smaller than in testing: export with '
            f'{size_option([*large, model.size], model.about)}',
            file=sys.stderr,
            flush=True,
        )
    if unreadable:
        print(f'{unreadable} of {len(files)} are left out', flush=True)
    if unreadable == len(files):
        sys.exit('error: no image could be predicted')


if __name__ == '__main__':
    main()
