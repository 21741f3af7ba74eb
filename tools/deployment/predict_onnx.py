"""Draw the predictions of an exported model, with numpy, onnxruntime and OpenCV only.

    python tools/deployment/predict_onnx.py student.onnx IMAGE_OR_FOLDER --out drawn

The file of tools/deployment/export_onnx.py says what the model predicts. Copy this one
script to where the model runs: it needs neither torch nor mmcast.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

try:
    import cv2
    import numpy as np
    import onnxruntime
except ImportError as error:
    sys.exit(f'error: {error}: pip install numpy onnxruntime opencv-python-headless')

SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')


class Model:
    """An exported model.

    Args:
        path: ONNX file of tools/deployment/export_onnx.py, not ``--raw``.
        threads: Threads of onnxruntime; 0 for one a core.

    Raises:
        ValueError: It is another file.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=['CPUExecutionProvider']
            )
        except Exception as error:  # onnxruntime has a class for each reason
            reason = str(error).splitlines()[0]
            raise ValueError(f'{path} is no ONNX model ({reason})') from None
        texts = self.session.get_modelmeta().custom_metadata_map
        if 'mmcast' not in texts:
            raise ValueError(
                f'{path} is not from tools/deployment/export_onnx.py: export it again'
            )
        self.about = json.loads(texts['mmcast'])
        if self.about['raw']:
            raise ValueError(
                f'{path} is the network alone: export it again without --raw'
            )
        batch, height, width, _ = self.session.get_inputs()[0].shape
        # A fixed number is an int, a free one is a name.
        self.batch = batch if isinstance(batch, int) else 1
        self.size = (height, width) if isinstance(height, int) else None
        own = {'class_logits', 'mask_logits', 'label_logits', 'depth_map'}
        names = [each.name for each in self.session.get_outputs()]
        self.outputs = [name for name in names if name not in own]

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Predict one image, uint8 (H, W, 3) in BGR.

        Returns:
            For instances ``boxes`` (N, 4), ``labels`` (N,), ``scores`` (N,) and bool
            ``masks`` (N, H, W); else ``depth`` in metres (H, W) and ``labels`` (H, W).
        """
        height, width = image.shape[:2]
        resized = self._resized(image)
        rows, columns = resized.shape[:2]
        padded = self._padded(resized)
        feed = {
            'images': np.repeat(padded[None], self.batch, axis=0),
            'sizes': np.full((self.batch, 2), (rows, columns), np.int64),
        }
        # An input that the graph does not need has been removed from it.
        wanted = {each.name for each in self.session.get_inputs()}
        feed = {name: value for name, value in feed.items() if name in wanted}
        found = {
            name: value[0]
            for name, value in zip(
                self.outputs, self.session.run(self.outputs, feed), strict=True
            )
        }
        if self.about['task'] == 'instances':
            found['boxes'] = found['boxes'] * np.tile(
                [width / columns, height / rows], 2
            )
        for name in ('masks', 'depth', 'labels'):
            if name in found and found[name].ndim > 1:
                part = found[name][..., :rows, :columns]
                found[name] = _to_size(part, (height, width), name == 'labels')
        return found

    def _resized(self, image: np.ndarray) -> np.ndarray:
        """Resize as the test pipeline does, and to fit into a fixed size."""
        height, width = image.shape[:2]
        factor = 1.0
        if self.about['scale']:
            long, short = max(self.about['scale']), min(self.about['scale'])
            factor = min(long / max(height, width), short / min(height, width))
        if self.size:
            factor = min(factor, self.size[0] / height, self.size[1] / width)
        if factor == 1:
            return image
        size = max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5))
        return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)

    def _padded(self, image: np.ndarray) -> np.ndarray:
        step = self.about['step']
        # A file for any size takes two steps and more.
        rows, columns = self.size or (
            max(2, -(-side // step)) * step for side in image.shape[:2]
        )
        rows, columns = rows - image.shape[0], columns - image.shape[1]
        return np.pad(image, [(0, rows), (0, columns), (0, 0)])


def _to_size(maps: np.ndarray, size: tuple[int, int], nearest: bool) -> np.ndarray:
    """Resize maps (..., h, w) to (..., *size)."""
    if maps.shape[-2:] == size:
        return maps
    kind = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    flat = maps.reshape(-1, *maps.shape[-2:])
    # OpenCV resizes neither bool nor int64.
    flat = flat.astype(np.float32 if maps.dtype != np.int64 else np.int32)
    large = [cv2.resize(each, size[::-1], interpolation=kind) for each in flat]
    whole = np.stack(large).reshape(*maps.shape[:-2], *size)
    return whole > 0.5 if maps.dtype == bool else whole.astype(maps.dtype)


def colour(index: int) -> tuple[int, int, int]:
    """Return a class's colour, BGR; neighbours are far apart."""
    hue = np.uint8([[[index * 67 % 180, 200, 255]]])
    return tuple(int(part) for part in cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0])


def draw_instances(
    image: np.ndarray,
    found: dict[str, np.ndarray],
    classes: list[str],
    score_thr: float,
) -> np.ndarray:
    """Draw masks, boxes, class names and scores of instances above a score."""
    drawn = image.copy()
    chosen = np.flatnonzero(found['scores'] >= score_thr)[::-1]  # the best on top
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


def images_in(path: Path) -> list[Path]:
    """Return an image, or all images below a folder.

    Raises:
        ValueError: There is none.
    """
    if path.is_file():
        return [path]
    found = sorted(p for p in path.rglob('*') if p.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(
            f'{path} has no images ({", ".join(SUFFIXES)}): correct the path'
        )
    return found


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a PNG that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(cv2.imencode('.png', image)[1].tobytes())
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', help='file of tools/deployment/export_onnx.py')
    parser.add_argument('images', type=Path, help='an image, or a folder of images')
    parser.add_argument('--out', type=Path, required=True, help='folder for drawings')
    parser.add_argument('--score-thr', type=float, default=0.3)
    parser.add_argument('--threads', type=int, default=0, help='default: one a core')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    try:
        if not Path(args.model).is_file():
            raise ValueError(f'{args.model} does not exist: correct the path')
        paths = images_in(args.images)
        model = Model(args.model, args.threads)
    except ValueError as error:
        sys.exit(f'error: {error}')
    root = args.images if args.images.is_dir() else args.images.parent
    unreadable = 0
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            unreadable += 1
            print(f'{path}: cannot be read, left out', flush=True)
            continue
        start = time.perf_counter()
        found = model(image)
        taken = 1000 * (time.perf_counter() - start)
        if model.about['task'] == 'instances':
            count = int((found['scores'] >= args.score_thr).sum())
            said = f'{count} instances'
            drawn = draw_instances(image, found, model.about['classes'], args.score_thr)
        else:
            said = ' and '.join(model.outputs)
            drawn = draw_maps(image, found)
        target = args.out / path.relative_to(root).with_suffix('.png')
        write_image(target, drawn)
        print(f'{path}: {said}, {taken:.0f} ms, {target}', flush=True)
    if unreadable == len(paths):
        sys.exit('error: no image could be read')


if __name__ == '__main__':
    main()
