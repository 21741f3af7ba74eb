"""Load images: one message for a file that cannot be read, and for a lost folder."""

import os
from typing import Any

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from mmengine import fileio

from mmcast.datasets.image_bits import check_bits
from mmcast.datasets.image_tars import PREFIX, in_tars


class UnreadableImageError(ValueError):
    """An image cannot be read.

    Attributes:
        brief: Path and reason, for a list of several.
    """

    brief = ''


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` with errors that name the file and the remedy.

    It refuses images with more than 8 bits a channel. mmcv keeps the upper 8 of 16
    bits, so an image of a camera with 12 bits becomes black, without a warning. With
    ``color_type='unchanged'`` or ``imdecode_backend='tifffile'`` all bits are kept.

    The file's content may be there already, as ``img_bytes``.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Load the image.

        Raises:
            FileNotFoundError: The image folder is gone.
            UnreadableImageError: The file cannot be read, or has too many bits.
        """
        path = results['img_path']
        try:
            content = results.pop('img_bytes', None)
            image = self._decode(self._read(path) if content is None else content)
        except (OSError, ValueError, cv2.error) as error:
            if isinstance(error, OSError):
                _check_folder(results)
            if self.ignore_empty:
                return None
            reason = str(error).strip().splitlines()[0]
            failure = UnreadableImageError(
                f'{path} cannot be read ({reason}): repair it, or take it off the list'
            )
            failure.brief = f'{path} ({reason})'
            raise failure from error
        if self.to_float32:
            image = image.astype(np.float32)
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _read(self, path: str) -> bytes:
        if self.file_client_args is not None:
            client = fileio.FileClient.infer_client(self.file_client_args, path)
            return client.get(path)
        return fileio.get(path, backend_args=self.backend_args)

    def _decode(self, content: bytes) -> np.ndarray:
        keeps_bits = (
            self.color_type == 'unchanged' or self.imdecode_backend == 'tifffile'
        )
        if not keeps_bits:
            check_bits(content)
        image = mmcv.imfrombytes(
            content, flag=self.color_type, backend=self.imdecode_backend
        )
        if image is None:
            raise ValueError('no image')
        return image


@TRANSFORMS.register_module()
class LoadUnlabeledImage(LoadImage):
    """``LoadImage`` that skips an image that cannot be read.

    The data set then draws another one. ``skipped`` lists path and reason of what was
    skipped, for the data set to hand over.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.skipped: list[str] = []

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Load the image; return None if that is impossible."""
        try:
            return super().transform(results)
        except UnreadableImageError as error:
            self.skipped.append(error.brief)
            return None


def _check_folder(results: dict[str, Any]) -> None:
    """Raise a FileNotFoundError if an image is missing since its whole folder is.

    A disk that is no longer mounted leaves an empty folder.
    """
    path = results['img_path']
    folder = os.path.dirname(path)
    if in_tars(path):
        folder = path.removeprefix(PREFIX).partition('!/')[0]
    elif 'img_name' in results:
        folder = path.removesuffix(results['img_name'])
    if '://' in folder:
        return
    try:
        with os.scandir(folder or '.') as entries:
            gone = next(entries, None) is None
    except OSError:
        gone = True
    if gone:
        raise FileNotFoundError(
            f"image folder '{folder}' is gone, or empty: bring it back (is its disk "
            'mounted?), then continue: a training with --resume'
        )
