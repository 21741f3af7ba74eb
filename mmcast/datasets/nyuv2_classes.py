"""The 40 and 13 classes of NYU Depth v2, and how its 894 names map to them.

The 40 classes are those of Gupta et al. (CVPR 2013), ``mapClass`` in their
``classMapping40.mat``. 37 of them are one name each. The other three collect the rest.
The 13 classes are those of Couprie et al. (ICLR 2013), as SemanticFusion uses them.
"""

import numpy as np
import numpy.typing as npt

IGNORED = 255  # label of a pixel without annotation
NAME_COUNT = 894

CLASSES = {
    40: (
        *('wall', 'floor', 'cabinet', 'bed', 'chair', 'sofa', 'table', 'door'),
        *('window', 'bookshelf', 'picture', 'counter', 'blinds', 'desk', 'shelves'),
        *('curtain', 'dresser', 'pillow', 'mirror', 'floor mat', 'clothes', 'ceiling'),
        *('books', 'refridgerator', 'television', 'paper', 'towel', 'shower curtain'),
        *('box', 'whiteboard', 'person', 'night stand', 'toilet', 'sink', 'lamp'),
        *('bathtub', 'bag', 'otherstructure', 'otherfurniture', 'otherprop'),
    ),
    13: (
        *('bed', 'books', 'ceiling', 'chair', 'floor', 'furniture', 'objects'),
        *('picture', 'sofa', 'table', 'tv', 'wall', 'window'),
    ),
}

# fmt: off
# Position, from 1, of the first 37 classes' own names among the 894.
_NAMED = (
    21, 11, 3, 157, 5, 83, 19, 28, 59, 88, 64, 7, 80, 36, 42, 89, 169, 119, 122, 143,
    141, 4, 85, 17, 172, 15, 135, 123, 26, 45, 331, 158, 124, 24, 144, 136, 55,
)
_OTHER_STRUCTURE = (
    8, 25, 33, 38, 51, 53, 57, 58, 62, 65, 79, 94, 104, 112, 134, 153, 215, 216, 223,
    225, 238, 241, 242, 256, 295, 301, 339, 342, 354, 363, 372, 380, 392, 408, 412, 453,
    456, 463, 477, 497, 541, 550, 553, 567, 573, 582, 591, 609, 612, 615, 642, 645, 657,
    658, 659, 663, 667, 668, 686, 700, 702, 777, 778, 782, 850, 861, 868, 874,
)
_OTHER_FURNITURE = (
    12, 43, 48, 50, 87, 106, 111, 161, 163, 174, 183, 204, 214, 219, 221, 224, 236, 262,
    278, 291, 298, 313, 343, 344, 356, 359, 373, 393, 401, 414, 418, 419, 430, 443, 444,
    447, 448, 457, 458, 460, 462, 475, 479, 485, 486, 493, 494, 498, 499, 509, 510, 515,
    521, 524, 540, 549, 551, 554, 556, 558, 576, 580, 608, 625, 703, 734, 770, 772, 797,
    800, 803, 804, 813, 814, 815, 820, 829, 835, 858, 863, 882, 892,
)
# Which of the 13 classes, from 1, each of the 40 is.
_40_TO_13 = (
    12, 5, 6, 1, 4, 9, 10, 12, 13, 6, 8, 6, 13, 10, 6, 13, 6, 7, 7, 5,
    7, 3, 2, 6, 11, 7, 7, 7, 7, 7, 7, 6, 7, 7, 7, 7, 7, 7, 6, 7,
)
# fmt: on

# Names of the labelled file by their position from 1, to recognise its order.
KNOWN_NAMES = dict(zip(_NAMED[:15], CLASSES[40][:15], strict=True))


def label_map(classes: int) -> npt.NDArray[np.uint8]:
    """Return the class of each label of the labelled file.

    Args:
        classes: 40 or 13.

    Returns:
        uint8 (895,): the class index from 0 by label, and 255 for label 0, no
        annotation.

    Raises:
        ValueError: If there is no such set of classes.
    """
    if classes not in CLASSES:
        raise ValueError(f'no map to {classes} classes: choose 40 or 13')
    table = np.full(1 + NAME_COUNT, 39, np.uint8)
    table[list(_NAMED)] = np.arange(len(_NAMED))
    table[list(_OTHER_STRUCTURE)] = 37
    table[list(_OTHER_FURNITURE)] = 38
    if classes == 13:
        table = np.array(_40_TO_13, np.uint8)[table] - np.uint8(1)
    table[0] = IGNORED
    return table
